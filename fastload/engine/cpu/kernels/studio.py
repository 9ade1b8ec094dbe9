"""A thread's memory for operations on a canvas: one block of bytes, cut into its parts by the kernels that work there.

One array, because every array that Python hands to a kernel costs it time under the interpreter's lock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastload.engine.cpu.kernels.layout import SLACK
from fastload.engine.cpu.kernels.neighbours import MAX_RADIUS
from fastload.engine.cpu.kernels.planes import BLOCK
from fastload.engine.limits import MAX_SIDE
from fastload.jit import inlined

# Words of ``Studio.numbers``: the form of the canvas for the resampler (see layout.py), which canvas holds the image,
# and the bytes of a plane of the largest canvas that there is room for.
PLACE, CAPACITY = 7, 8
_NUMBERS: Final = 8 * 16
_TABLE: Final = 1024
_COUNTS: Final = 8 * (MAX_SIDE + 1)
# A line of a blur, and the weights of both directions.
_LINE: Final = MAX_SIDE + 1 + 2 * MAX_RADIUS + 2 * (MAX_RADIUS + 1)
# What JPEG needs for the widest canvas is more: 6 MB of addresses, of which a usual canvas touches 64 KB.
_FLOATS: Final = max(4 * ((_LINE + BLOCK - 1) // BLOCK * BLOCK), 100 * (MAX_SIDE + 1) + (1 << 17))


class Studio(NamedTuple):
    """The parts of a block.

    Attributes:
        numbers: int64 (16,), see PLACE.
        table: uint8 (1024,), the table of levels, and one more.
        counts: int64 (MAX_SIDE + 1,), counts of levels, or columns.
        first, second: uint8, two canvases, which take turns.
        floats: float32, four planes and lines of blurs, or JPEG's scratch; empty where not asked for.
        kept: uint8, a canvas that AugMix keeps; empty likewise.
        sums: float32, its sums; empty likewise.
    """

    numbers: NDArray[np.int64]
    table: NDArray[np.uint8]
    counts: NDArray[np.int64]
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    floats: NDArray[np.float32]
    kept: NDArray[np.uint8]
    sums: NDArray[np.float32]


def new_studio(pixels: int, *, floats: bool, kept: bool) -> NDArray[np.uint8]:
    """A block for canvases of ``pixels``, with room for blurs and JPEG (``floats``), and for AugMix (``kept``)."""
    stride = (pixels + BLOCK - 1) // BLOCK * BLOCK
    canvas = 3 * stride + SLACK
    size = _NUMBERS + _TABLE + _COUNTS + 2 * canvas
    if floats or kept:
        size += 16 * stride + _FLOATS
    block = np.empty(size + (canvas + 12 * stride if kept else 0), np.uint8)
    numbers = block[:_NUMBERS].view(np.int64)
    numbers[:] = 0
    numbers[CAPACITY] = stride
    return block


@inlined
def carve(block: NDArray[np.uint8]) -> Studio:
    """The parts of a block; parts that are not there are empty."""
    table = np.int64(_NUMBERS)
    numbers = block[:table].view(np.int64)
    stride = numbers[CAPACITY]
    canvas = 3 * stride + SLACK
    counts = table + _TABLE
    first = counts + _COUNTS
    second = first + canvas
    floats = second + canvas
    kept = floats + 16 * stride + _FLOATS
    sums = kept + canvas
    end = sums + 12 * stride
    if kept > block.size:
        kept = floats
    if end > block.size:
        sums = end = kept
    return Studio(
        numbers,
        block[table:counts],
        block[counts:first].view(np.int64),
        block[first:second],
        block[second:floats],
        block[floats:kept].view(np.float32),
        block[kept:sums],
        block[sums:end].view(np.float32),
    )
