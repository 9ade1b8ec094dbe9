"""Where the blocks of an image lie in memory, as words that the kernels of this room read.

Blocks of 64 coefficients lie component by component, row by row. A component has as many as whole MCUs have, which may
be more than its own size needs: an interleaved scan codes those too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.jit import inlined
from fastload.jpeg.header import JpegHeader
from fastload.jpeg.intrinsics import Word

# Words that describe a scan: how many components it has, the MCUs of the image, and the MCUs between restart markers
# (0: none),
PARTS: Final = 0
COLUMNS: Final = 1
ROWS: Final = 2
RESTART: Final = 3
# which coefficients it codes (Ss, Se, Ah, Al of its header; a sequential scan has 0, 63, 0, 0),
FIRST: Final = 4
LAST: Final = 5
HIGH: Final = 6
LOW: Final = 7
PROGRESSIVE: Final = 8
# what a decoder notes on its way,
END_RUN: Final = 9  # blocks to come that hold nothing new
PREDICTORS: Final = 10  # four
# and for each of up to four components:
PART: Final = 14
BASE: Final = 0  # number of its first block
STRIDE: Final = 1  # blocks in a row
ACROSS: Final = 2  # blocks in an MCU, horizontally
DOWN: Final = 3  # and vertically
DC: Final = 4  # its tables: offset in the file when decoding, number when encoding
AC: Final = 5
PART_WORDS: Final = 6
WORDS: Final = PART + 4 * PART_WORDS

MOST_MCU_BLOCKS: Final = 10  # the standard's limit for interleaved scans


@dataclass(frozen=True, kw_only=True)
class Component:
    """The blocks of one component.

    Attributes:
        across, down: Blocks in an interleaved MCU.
        base: Number of its first block.
        wide, high: Blocks that are stored.
        real_wide, real_high: Blocks that its size needs, and that a scan of this component alone codes.
    """

    across: int
    down: int
    base: int
    wide: int
    high: int
    real_wide: int
    real_high: int


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The blocks of an image.

    Attributes:
        columns, rows: MCUs of an interleaved scan.
        components: In the order of the frame.
    """

    columns: int
    rows: int
    components: tuple[Component, ...]

    @property
    def num_blocks(self) -> int:
        return sum(part.wide * part.high for part in self.components)

    def words(self, numbers: list[int]) -> NDArray[np.int64]:
        """The words of a scan of some components, by number, without tables and as a sequential scan."""
        words = np.zeros(WORDS, np.int64)
        alone = len(numbers) == 1
        words[PARTS] = len(numbers)
        words[COLUMNS], words[ROWS], words[LAST] = self.columns, self.rows, 63
        for i, number in enumerate(numbers):
            part = self.components[number]
            at = PART + PART_WORDS * i
            words[at : at + DC] = part.base, part.wide, part.across, part.down
            if alone:
                words[COLUMNS], words[ROWS] = part.real_wide, part.real_high
                words[at + ACROSS] = words[at + DOWN] = 1
        return words


def geometry_of(header: JpegHeader) -> Geometry:
    """The blocks of the image of a header; a single component has MCUs of one block, whatever its sampling factors."""
    sampling = header.sampling if header.components > 1 else ((1, 1),)
    most_across = max(across for across, _ in sampling)
    most_down = max(down for _, down in sampling)
    columns, rows = -(-header.width // (8 * most_across)), -(-header.height // (8 * most_down))
    components, base = [], 0
    for across, down in sampling:
        part = Component(
            across=across,
            down=down,
            base=base,
            wide=columns * across,
            high=rows * down,
            real_wide=-(-header.width * across // (8 * most_across)),
            real_high=-(-header.height * down // (8 * most_down)),
        )
        components.append(part)
        base += part.wide * part.high
    return Geometry(columns=columns, rows=rows, components=tuple(components))


@inlined
def is_inside(scan: Word, blocks: Word) -> Word:
    """For kernels: whether the words of a scan name only blocks below ``blocks`` and are what they may be."""
    if scan.size != WORDS or scan[PARTS] < 1 or scan[PARTS] > 4 or scan[RESTART] < 0:
        return False
    if scan[COLUMNS] < 1 or scan[ROWS] < 1 or scan[COLUMNS] > 8192 or scan[ROWS] > 8192:
        return False
    if scan[FIRST] < 0 or scan[LAST] < scan[FIRST] or scan[LAST] > 63 or scan[LOW] < 0 or scan[LOW] > 13:
        return False
    for i in range(scan[PARTS]):
        part = PART + PART_WORDS * i
        across, down, stride = scan[part + ACROSS], scan[part + DOWN], scan[part + STRIDE]
        if across < 1 or across > 4 or down < 1 or down > 4 or scan[part] < 0 or stride < across * scan[COLUMNS]:
            return False
        if stride > blocks or scan[part] + (down * scan[ROWS] - 1) * stride + across * scan[COLUMNS] > blocks:
            return False
    return True
