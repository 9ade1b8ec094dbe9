"""What the resampling kernels take: one row of parameters per image, the slot, and scratch memory of declared size."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import DType, Interpolation, Output
from fastload.engine.limits import MAX_SIDE

# Bytes behind the last pixel that a kernel may read (never use) when it loads whole vectors.
SLACK: Final = 256

# Columns of a parameter row (float64).
BOX_TOP, BOX_LEFT, BOX_HEIGHT, BOX_WIDTH = 0, 1, 2, 3
GRID_HEIGHT, GRID_WIDTH = 4, 5
WINDOW_TOP, WINDOW_LEFT = 6, 7
# 1 where the window is mirrored left to right, 2 top to bottom, 3 both ways.
FLIP: Final = 8
PARAMETERS: Final = 9

# Columns of the constants row (int64): what is the same for every image of an engine.
OUT_HEIGHT, OUT_WIDTH, FILTER, ANTIALIAS, KIND = 0, 1, 2, 3, 4
# Values from one pixel of a stored row to the next, and from one channel to the next.
PIXEL_STEP, CHANNEL_STEP = 5, 6

NEAREST, BILINEAR, BICUBIC, BICUBIC_PLAIN, BOX, AREA = 0, 1, 2, 3, 4, 5
KIND_UINT8, KIND_FLOAT16, KIND_BFLOAT16, KIND_FLOAT32 = 0, 1, 2, 3

# What a resampling kernel answers.
DONE, BOX_OUTSIDE, BUFFER_TOO_SMALL, REGION_TOO_SMALL = 0, 1, 2, 3

# Source rows that the exact kernel keeps after the horizontal pass.
RING: Final = 64
# The vectorised kernel takes at most this many taps per axis: its proof of one grey level holds up to here.
MAX_FAST_TAPS: Final = 48
# It works on blocks of so many output rows, and stores so many output columns at a time.
BLOCK_ROWS: Final = 32
BLOCK_COLUMNS: Final = 16
# Bytes of a source row that the vertical pass takes at a time.
CHUNK: Final = 128
# Bytes of a source row that are mixed for a whole block before they are turned. 512 leave the strip in the L1 cache and
# are long enough for the processor to fetch ahead: 87 us per image where 128 took 110 (crops that are not in a cache).
STRIP: Final = 4 * CHUNK

_FILTERS: Final[dict[Interpolation, int]] = {
    "nearest": NEAREST,
    "bilinear": BILINEAR,
    "bicubic": BICUBIC,
    "box": BOX,
    "area": AREA,
}
_KINDS: Final[dict[DType, int]] = {
    "uint8": KIND_UINT8,
    "float16": KIND_FLOAT16,
    "bfloat16": KIND_BFLOAT16,
    "float32": KIND_FLOAT32,
}


class Slot(NamedTuple):
    """A batch slot seen as a flat array of its own width of values; the other two are empty."""

    bytes1: NDArray[np.uint8]
    bytes2: NDArray[np.uint16]
    bytes4: NDArray[np.float32]


class Constants(NamedTuple):
    """What is equal for every image of an engine; stacked, with an axis more, of every view (see ``stack_constants``).

    Attributes:
        numbers: int64 (7,), columns OUT_HEIGHT ... CHANNEL_STEP.
        table2: uint16 (3 * 256,), bits of the stored value of each grey level of each channel (float16, bfloat16).
        table4: float32 (3 * 256,), the same as float32.
        scale, bias: float32 (48,), those of sixteen pixels in the order in which their values lie in memory.
    """

    numbers: NDArray[np.int64]
    table2: NDArray[np.uint16]
    table4: NDArray[np.float32]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]


class Scratch(NamedTuple):
    """Memory of one thread, declared once per engine and reused for every image (see ``make_scratch``)."""

    row_weights: NDArray[np.int32]
    column_weights: NDArray[np.int32]
    column_first: NDArray[np.int32]
    column_count: NDArray[np.int32]
    weights: NDArray[np.float64]
    sums: NDArray[np.int64]
    ring: NDArray[np.int32]
    ring_rows: NDArray[np.int64]
    fast_first_y: NDArray[np.int32]
    fast_first_x: NDArray[np.int32]
    fast_weights_y: NDArray[np.uint16]
    fast_weights_x: NDArray[np.uint16]
    fast_float: NDArray[np.float64]
    strip: NDArray[np.uint8]
    columns: NDArray[np.uint8]
    resampled: NDArray[np.uint8]


def make_constants(output: Output) -> Constants:
    """The constants of an engine that puts out ``output``.

    The tables hold what the vectorised kernel computes: one multiplication and one addition in float32, both rounded,
    so that every processor stores the same bits.
    """
    code = _FILTERS[output.interpolation]
    if code == BICUBIC and not output.antialias:
        code = BICUBIC_PLAIN
    planar = output.memory_format == "contiguous"
    steps = (1, output.height * output.width) if planar else (3, 1)
    numbers = np.array([output.height, output.width, code, output.antialias, _KINDS[output.dtype], *steps], np.int64)
    scale, bias = np.array(output.scale, np.float32), np.array(output.bias, np.float32)
    table4 = (np.arange(256, dtype=np.float32) * scale[:, None] + bias[:, None]).reshape(-1)
    if output.dtype == "bfloat16":
        bits = table4.view(np.uint32)
        table2 = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    else:
        with np.errstate(over="ignore"):
            table2 = table4.astype(np.float16).view(np.uint16)
    if planar:
        return Constants(numbers, table2, table4, np.repeat(scale, BLOCK_COLUMNS), np.repeat(bias, BLOCK_COLUMNS))
    return Constants(numbers, table2, table4, np.tile(scale, BLOCK_COLUMNS), np.tile(bias, BLOCK_COLUMNS))


def stack_constants(output: Output) -> Constants:
    """The constants of all views of an engine that puts out ``output``."""
    views = [make_constants(view) for view in output.views]
    return Constants(*(np.stack(arrays) for arrays in zip(*views, strict=True)))


def view_starts(output: Output, rows: int) -> NDArray[np.int64]:
    """Values of a slot of ``rows`` rows before those of each view, int64 (views,)."""
    sizes = [rows * math.prod(view.image_shape) for view in output.views]
    return np.array([sum(sizes[:view]) for view in range(len(sizes))], np.int64)


def slot_rows(slot: Slot, output: Output) -> int:
    """Rows of a slot."""
    return max(part.size for part in slot) // math.prod(output.shape)


def make_scratch(output: Output) -> Scratch:
    """Scratch of one thread: sizes depend on the output alone, so that no image makes it grow.

    Most of it is address space that a usual image never touches: 2 MB or so become real memory at 224 x 224.
    """
    height, width = (max(sides) for sides in zip(*((view.height, view.width) for view in output.views), strict=True))
    all_taps = 4 * (MAX_SIDE + 1) + 8 * width
    fast_columns = min(width * (MAX_FAST_TAPS // 2) + 2 * MAX_FAST_TAPS, MAX_SIDE) + CHUNK
    return Scratch(
        row_weights=np.empty(MAX_SIDE + 1, np.int32),
        column_weights=np.empty(all_taps, np.int32),
        column_first=np.empty(width, np.int32),
        column_count=np.empty(width, np.int32),
        weights=np.empty(MAX_SIDE + 1, np.float64),
        sums=np.empty(3 * width, np.int64),
        ring=np.empty(RING * 3 * width, np.int32),
        ring_rows=np.empty(RING, np.int64),
        fast_first_y=np.empty(height, np.int32),
        fast_first_x=np.empty(width, np.int32),
        fast_weights_y=np.empty(MAX_FAST_TAPS * height, np.uint16),
        fast_weights_x=np.empty(MAX_FAST_TAPS * width, np.uint16),
        fast_float=np.empty((MAX_FAST_TAPS + 4) * max(height, width), np.float64),
        strip=np.empty(2 * STRIP * BLOCK_ROWS, np.uint8),
        columns=np.empty(3 * fast_columns * 2 * BLOCK_ROWS, np.uint8),
        resampled=np.empty(3 * width * BLOCK_ROWS, np.uint8),
    )


def flat_slot(images: NDArray[np.generic]) -> Slot:
    """A C-contiguous slot as the kernels take it."""
    flat = images.reshape(-1)
    none1, none2, none4 = np.empty(0, np.uint8), np.empty(0, np.uint16), np.empty(0, np.float32)
    if flat.dtype.itemsize == 1:
        return Slot(flat.view(np.uint8), none2, none4)
    if flat.dtype.itemsize == 2:
        return Slot(none1, flat.view(np.uint16), none4)
    return Slot(none1, none2, flat.view(np.float32))
