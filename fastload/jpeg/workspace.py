"""The memory that one decoding thread works in: one array of int64, laid out here, allocated once.

Margins. Kernels write through raw addresses; these are the facts that keep them inside, for any file:

- Coefficients: a block is 64 rows plus two of a group, and every position is compared with the end of the block before
  it is stored; the columns of a tile are bounded by the capacity in width, with which the header is compared first.
- Bits: a block begins at or before the limit behind the last byte and takes at most 64 codes of 31 bits, so that no
  read goes further than 256 bytes beyond the limit (_TAIL_GUARD). A reader that was set back to the limit may count
  from up to eight bytes before it (HEAD_GUARD).
- Planes: a strip has a fixed number of rows; runs of pixels read up to color.READ_SLACK bytes more than a row has.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.jpeg import color, entropy, header, idct, tables

STRIP_ROWS: Final = 3  # rows of MCUs that are decoded together, at most (1: 280 us, 2: 279, 3: 275)
MCU_BLOCKS: Final = 6  # at most (4:2:0)
PLANE_LEFT: Final = 64  # bytes before the first sample of a plane's row
PLANE_ROWS: Final = STRIP_ROWS * 16 + 2  # with one that is kept from the strip before
HEAD_GUARD: Final = 64
_TAIL_GUARD: Final = 512
_LINE: Final = 64  # bytes

# The first words of the array are the fields of the image's header (header.parse), of which these are used most:
COMPONENTS: Final = header.COMPONENTS
ACROSS: Final = header.HORIZONTAL  # blocks of luma in an MCU, horizontally
DOWN: Final = header.VERTICAL  # and vertically
IMAGE_WIDTH: Final = header.WIDTH
IMAGE_HEIGHT: Final = header.HEIGHT
RESTART: Final = header.RESTART
# then the capacity, and where the parts are whose size depends on it, in bytes from the beginning of the array:
MAX_WIDTH: Final = 48  # pixels
MAX_BYTES: Final = 49  # of a file
TILES: Final = 50
COEFFICIENTS: Final = 51
PLANES: Final = 52
CHROMA_ROWS: Final = 53  # two upsampled rows and one of sums
BITS: Final = 54
CHROMA_ROW_BYTES: Final = 55
# then the rectangle that is being decoded:
MCU_COLUMNS: Final = 56
MCU_ROWS: Final = 57
TOP: Final = 58  # pixels
LEFT: Final = 59
HEIGHT: Final = 60
WIDTH: Final = 61
FIRST_COLUMN: Final = 62  # of the MCUs that the rectangle needs
COLUMNS: Final = 63
FIRST_ROW: Final = 64
END_ROW: Final = 65
STRIDE: Final = 66  # bytes from one row of a plane to the next
ROW_BYTES: Final = 67  # coefficients of one row of MCUs
DIRTY: Final = 68  # bytes of coefficients that a decoder gave up on may have left; all others are zero
# and where a sequential decoder is (sequence.py):
NEXT_MCU: Final = 69
SEGMENT_END: Final = 70  # number of the MCU behind the last one before the next restart marker
NEXT_SOURCE: Final = 71  # address behind that marker
SEGMENT: Final = 72  # number of that segment
LIMIT_BIT: Final = 73  # bit address behind what has been unstuffed
_WORDS: Final = 80
assert header.FIELDS == MAX_WIDTH
assert LIMIT_BIT < _WORDS

# Then, in bytes from the beginning of the array, the parts of fixed size:
COMMON: Final = 8 * _WORDS
PLAN: Final = COMMON + 64
FACTORS: Final = PLAN + MCU_BLOCKS * entropy.PLAN_BYTES
FACTORS_BYTES: Final = 2 * 64  # of each component
DC_TABLES: Final = FACTORS + 3 * FACTORS_BYTES
AC_TABLES: Final = DC_TABLES + 3 * tables.DC_TABLE_BYTES
TABLE_SCRATCH: Final = AC_TABLES + 3 * tables.AC_TABLE_BYTES
SHORT_ROW: Final = TABLE_SCRATCH + tables.SCRATCH_BYTES
IDCT_SCRATCH: Final = SHORT_ROW + 128
DUMMY_GROUP: Final = IDCT_SCRATCH + idct.SCRATCH_BYTES
FIXED_BYTES: Final = DUMMY_GROUP + entropy.GROUP_BYTES

assert entropy.COMMON_BYTES <= 64
assert 3 * color.RUN <= 128


def _up(value: int, unit: int) -> int:
    return (value + unit - 1) // unit * unit


def part_sizes(max_width: int, max_bytes: int) -> dict[int, int]:
    """Bytes of each part whose size depends on the capacity, by the word that says where it is."""
    groups = max_width // 128 + 2
    return {
        TILES: (STRIP_ROWS * (max_width // 8 + 2) + 1) * entropy.TILE_BYTES,
        # A row of MCUs has at most four rows of blocks as wide as the image: two of luma, one of each chroma (4:4:0).
        COEFFICIENTS: STRIP_ROWS * 4 * groups * entropy.GROUP_BYTES,
        PLANES: 3 * PLANE_ROWS * plane_stride(max_width),
        CHROMA_ROWS: 3 * chroma_row_bytes(max_width),
        BITS: HEAD_GUARD + max_bytes + _TAIL_GUARD,
    }


def capacity_words(max_width: int, max_bytes: int) -> NDArray[np.int64]:
    """The first words of a workspace, without the places of its parts."""
    words = np.zeros(_WORDS, np.int64)
    words[MAX_WIDTH] = max_width
    words[MAX_BYTES] = max_bytes
    words[CHROMA_ROW_BYTES] = chroma_row_bytes(max_width)
    return words


def plane_stride(width: int) -> int:
    """Bytes from one row of a plane to the next: an odd multiple of 64, so that rows do not share cache sets."""
    return (width + 127) // 128 * 128 + 320


def chroma_row_bytes(width: int) -> int:
    """Bytes of one upsampled chroma row, or of half as many int16 sums, with what runs read and write beyond it."""
    return (width + 63) // 64 * 64 + 256


def new_workspace(max_width: int, max_bytes: int) -> NDArray[np.int64]:
    """Memory for one thread, good for images of up to ``max_width`` pixels across and files of up to ``max_bytes``.

    About 350 bytes for each pixel of width, plus the bytes of a file.
    """
    max_width = _up(max(max_width, 16), 16)
    words = capacity_words(max_width, max_bytes)
    position = _up(FIXED_BYTES, _LINE)
    for part, size in part_sizes(max_width, max_bytes).items():
        words[part] = position
        position = _up(position + size, _LINE)
    memory = np.zeros((position + _LINE) // 8, np.int64)
    skip = -(memory.ctypes.data // 8) % (_LINE // 8)
    workspace = memory[skip : skip + position // 8]
    workspace[: len(words)] = words
    return workspace
