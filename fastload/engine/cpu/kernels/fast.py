"""The fast resampler: bilinear, bicubic, box and area in 16-bit vector arithmetic, to every stored type and layout.

Blocks of 32 output rows pass three stages that stay in the caches: rows are mixed (bytes side by side, whatever pixel
they belong to), turned so that the 32 rows of one column lie side by side, mixed along the columns, and turned back on
their way to the slot. A flip is a mirrored table and costs nothing.

Why it is within one grey level of Pillow. Pillow rounds to 8 bits between its two passes, so it is at most 1.0 from the
true value. Here 16 bits pass from the first stage to the second: each tap adds an error of at most 1/512 (what
multiply-high cuts off, centred) and 255/131072 (the rounding of its weight) grey levels, which for MAX_FAST_TAPS on
both axes is below 0.38; the one rounding to 8 bits adds 0.5. Less than 2 in all, and integers that differ by less than
2 differ by at most 1. (With 8 bits between the passes the two roundings differ by 2 now and then.)

Bicubic (antialiased; plain bicubic is left to exact.py) needs weights below 0: signed products, with three bits fewer.
As in Pillow, what goes beyond black and white between the passes is cut off; Pillow begins with either axis, this with
the rows, which makes more than a grey level in 0.02 % of the values of photographs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastload import jit
from fastload.engine.cpu.kernels.layout import (
    ANTIALIAS,
    AREA,
    BICUBIC,
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    BOX,
    BOX_HEIGHT,
    BOX_LEFT,
    BOX_TOP,
    BOX_WIDTH,
    CHANNEL_STEP,
    CHUNK,
    FILTER,
    GRID_HEIGHT,
    GRID_WIDTH,
    KIND,
    KIND_BFLOAT16,
    KIND_FLOAT16,
    KIND_FLOAT32,
    KIND_UINT8,
    MAX_FAST_TAPS,
    OUT_HEIGHT,
    OUT_WIDTH,
    PIXEL_STEP,
    STRIP,
    WINDOW_LEFT,
    WINDOW_TOP,
    Constants,
    Scratch,
    Slot,
)
from fastload.engine.cpu.kernels.taps import cubic, find_reach, mirrors
from fastload.engine.cpu.kernels.vector import (
    mix_columns,
    mix_columns_signed,
    mix_rows,
    mix_rows_signed,
    prefetch_for_writing,
    store_bfloat16,
    store_float16,
    store_float32,
    store_uint8,
    turn_strip,
)


@jit.inlined
def _count_taps(code: int, length: float, grid: int, antialias: bool, pixels: int) -> int:
    """Taps that every output position of an axis gets; more than MAX_FAST_TAPS is not for this resampler."""
    stretch = max(length / grid, 1.0) if antialias else 1.0
    return min(math.ceil(min(2.0 * find_reach(code, stretch), 1e9)), pixels)


@jit.inlined
def _fill_table(
    code: int,
    start: float,
    length: float,
    grid: int,
    antialias: bool,
    taps: int,
    lower: int,
    upper: int,
    position: int,
    step: int,
    count: int,
    first: NDArray[np.int32],
    weights: NDArray[np.uint16],
    real: NDArray[np.float64],
) -> tuple[int, int]:
    """First source pixel and weights of grid positions position, position + step, ... (``count`` of them).

    Weights lie tap after tap, each tap's ``count`` weights side by side, so that the loops vectorise. Returns the
    lowest source pixel (all entries of ``first`` are relative to it) and the end of the range that is used.
    """
    scale = length / grid
    stretch = max(scale, 1.0) if antialias else 1.0
    reach = find_reach(code, stretch)
    inverse = 1.0 / stretch
    # Bilinear and area are one trapezium: its slope, and how high it would go and goes.
    slope, peak, ceiling = (1.0, reach, 1.0) if code == AREA else (inverse, 1.0, 1.0)
    begins, centres = real[:count], real[count : 2 * count]
    ends, totals = real[2 * count : 3 * count], real[3 * count : 4 * count]
    # Pixels count from the first one that the box touches, as after Pillow's crop.
    origin, last_start = start - lower, float(upper - lower - taps)
    for i in range(count):
        centre = origin + (position + i * step + 0.5) * scale
        begins[i] = min(max(math.floor(centre - reach + 0.5), 0.0), last_start)
        ends[i] = math.floor(centre + reach + 0.5)
        centres[i] = centre
        totals[i] = 0.0
    # What stands for a weight of 1: of cubic weights some are negative, and at a border some are greater than 1.
    one, greatest = (16384.0, 32767.0) if code == BICUBIC else (65536.0, 65535.0)
    for k in range(taps):
        row = real[(4 + k) * count : (5 + k) * count]
        if code == BOX:
            for i in range(count):
                pixel = begins[i] + k
                offset = (pixel - centres[i] + 0.5) * inverse
                row[i] = 1.0 if (offset > -0.5) & (offset <= 0.5) & (pixel < ends[i]) else 0.0
                totals[i] += row[i]
        elif code == BICUBIC:
            for i in range(count):
                row[i] = cubic(abs((begins[i] + k - centres[i] + 0.5) * inverse), -0.5)
                totals[i] += row[i]
        else:
            for i in range(count):
                offset = begins[i] + k - centres[i] + 0.5
                row[i] = min(max(peak - abs(offset) * slope, 0.0), ceiling)
                totals[i] += row[i]
    for i in range(count):
        first[i] = np.int32(begins[i]) + lower
        totals[i] = one / totals[i]
    for k in range(taps):
        row = real[(4 + k) * count : (5 + k) * count]
        out = weights[k * count : (k + 1) * count]
        for i in range(count):
            out[i] = np.uint16(np.int32(math.floor(min(row[i] * totals[i] + 0.5, greatest))))
    lowest = min(first[0], first[count - 1])
    end = max(first[0], first[count - 1]) + taps
    for i in range(count):
        first[i] -= lowest
    return lowest, end


@jit.inlined
def resample_fast(
    pixels: NDArray[np.uint8],
    height: int,
    width: int,
    region: tuple[int, int, int, int],
    parameters: NDArray[np.float64],
    constants: Constants,
    slot: Slot,
    start: int,
    visible: tuple[int, int, int, int],
    s: Scratch,
) -> bool:
    """Writes output rows y0 to y1, columns x0 to x1 (``visible``) of one image to the slot from value ``start`` on.

    Returns False, having written nothing, where the exact resampler is to do it: more than MAX_FAST_TAPS taps, less
    than a block of output rows or columns, or taps outside the region of which there are pixels.
    """
    y0, y1, x0, x1 = visible
    rows, columns = y1 - y0, x1 - x0
    if rows < BLOCK_ROWS or columns < BLOCK_COLUMNS:
        return False
    numbers = constants.numbers
    code, antialias = numbers[FILTER], numbers[ANTIALIAS] != 0
    top, left = math.floor(parameters[BOX_TOP]), math.floor(parameters[BOX_LEFT])
    bottom = max(min(math.ceil(parameters[BOX_TOP] + parameters[BOX_HEIGHT]), height), top + 1)
    right = max(min(math.ceil(parameters[BOX_LEFT] + parameters[BOX_WIDTH]), width), left + 1)
    grid_height, grid_width = int(parameters[GRID_HEIGHT]), int(parameters[GRID_WIDTH])
    taps_y = _count_taps(code, parameters[BOX_HEIGHT], grid_height, antialias, bottom - top)
    taps_x = _count_taps(code, parameters[BOX_WIDTH], grid_width, antialias, right - left)
    if taps_y > MAX_FAST_TAPS or taps_x > MAX_FAST_TAPS:
        return False
    upside_down, flip = mirrors(parameters)
    window_top = int(parameters[WINDOW_TOP])
    window_left = int(parameters[WINDOW_LEFT])
    low_y, end_y = _fill_table(
        code, parameters[BOX_TOP], parameters[BOX_HEIGHT], grid_height, antialias, taps_y, top, bottom,
        window_top + (numbers[OUT_HEIGHT] - 1 - y0 if upside_down else y0), -1 if upside_down else 1, rows,
        s.fast_first_y, s.fast_weights_y, s.fast_float,
    )  # fmt: skip
    low_x, end_x = _fill_table(
        code, parameters[BOX_LEFT], parameters[BOX_WIDTH], grid_width, antialias, taps_x, left, right,
        window_left + (numbers[OUT_WIDTH] - 1 - x0 if flip else x0), -1 if flip else 1, columns,
        s.fast_first_x, s.fast_weights_x, s.fast_float,
    )  # fmt: skip
    used = 3 * (end_x - low_x)
    if (used + CHUNK) * 2 * BLOCK_ROWS > s.columns.size:
        return False
    region_top, region_left, region_height, region_width = region
    if low_y < region_top or end_y > region_top + region_height:
        return False
    if low_x < region_left or end_x > region_left + region_width:
        return False
    source = np.int64(pixels.ctypes.data) + ((low_y - region_top) * region_width + low_x - region_left) * 3
    for block in range(0, rows, BLOCK_ROWS):
        # The last block ends with the last row, and may so repeat rows of the one before.
        row = min(block, rows - BLOCK_ROWS)
        _mix_block(code, source, region_width * 3, used, row, rows, taps_y, s)
        first = start + ((y0 + row) * numbers[OUT_WIDTH] + x0) * numbers[PIXEL_STEP]
        _mix_and_ask(code, columns, taps_x, first, constants, slot, s)
        store_block(columns, first, constants, slot, s)
    return True


@jit.inlined
def _mix_block(code: int, source: int, stride: int, used: int, row: int, rows: int, taps: int, s: Scratch) -> None:
    """Source rows to ``s.columns``: BLOCK_ROWS mixed rows, column by column."""
    strip, columns = np.int64(s.strip.ctypes.data), np.int64(s.columns.ctypes.data)
    weights = np.int64(s.fast_weights_y.ctypes.data)
    for begin in range(0, used, STRIP):
        end = min(begin + STRIP, used)
        for i in range(BLOCK_ROWS):
            row_start = source + np.int64(s.fast_first_y[row + i]) * stride
            target = strip + i * 2 * CHUNK
            for at in range(begin, end, CHUNK):
                if code == BICUBIC:
                    mix_rows_signed(row_start + at, stride, weights + 2 * (row + i), 2 * rows, taps, target)
                else:
                    mix_rows(row_start + at, stride, weights + 2 * (row + i), 2 * rows, taps, target)
                target += 2 * CHUNK * BLOCK_ROWS
        for at in range(begin, end, CHUNK):
            turn_strip(strip + (at - begin) * 2 * BLOCK_ROWS, columns + at * 2 * BLOCK_ROWS)


@jit.inlined
def _target(start: int, constants: Constants, slot: Slot) -> tuple[int, int]:
    """Address of value ``start`` of the slot, and the bytes of a value."""
    kind = constants.numbers[KIND]
    if kind == KIND_UINT8:
        return np.int64(slot.bytes1.ctypes.data) + start, 1
    if kind == KIND_FLOAT32:
        return np.int64(slot.bytes4.ctypes.data) + 4 * start, 4
    return np.int64(slot.bytes2.ctypes.data) + 2 * start, 2


@jit.inlined
def _mix_and_ask(code: int, count: int, taps: int, start: int, constants: Constants, slot: Slot, s: Scratch) -> None:
    """``s.columns`` to ``count`` output columns of BLOCK_ROWS rows in ``s.resampled``, bound for value ``start``."""
    columns, resampled = np.int64(s.columns.ctypes.data), np.int64(s.resampled.ctypes.data)
    weights = np.int64(s.fast_weights_x.ctypes.data)
    numbers = constants.numbers
    target, size = _target(start, constants, slot)
    planes, plane_bytes = (3, size * numbers[CHANNEL_STEP]) if numbers[PIXEL_STEP] == 1 else (1, 0)
    asked_bytes = BLOCK_ROWS * size * numbers[PIXEL_STEP]
    for i in range(count):
        # The slot is in no cache: its lines are asked for while there is arithmetic to do (4% of the whole).
        for plane in range(planes):
            for ahead in range(0, asked_bytes, 64):
                prefetch_for_writing(target + plane * plane_bytes + i * asked_bytes + ahead)
        first, level = columns + np.int64(s.fast_first_x[i]) * (6 * BLOCK_ROWS), resampled + i * 3 * BLOCK_ROWS
        if code == BICUBIC:
            mix_columns_signed(first, weights + 2 * i, 2 * count, taps, level)
        else:
            mix_columns(first, weights + 2 * i, 2 * count, taps, level)


@jit.inlined
def store_block(count: int, start: int, constants: Constants, slot: Slot, s: Scratch) -> None:
    """``count`` columns of BLOCK_ROWS rows from ``s.resampled`` to the slot, from value ``start`` on."""
    numbers = constants.numbers
    kind, planar = numbers[KIND], numbers[PIXEL_STEP] == 1
    target, size = _target(start, constants, slot)
    row_bytes = size * numbers[PIXEL_STEP] * numbers[OUT_WIDTH]
    resampled = np.int64(s.resampled.ctypes.data)
    scale, bias = np.int64(constants.scale.ctypes.data), np.int64(constants.bias.ctypes.data)
    # Three times sixteen values are sixteen pixels: those of one channel each, or a third of each row of them.
    source_step, source_part = (3 * BLOCK_ROWS, BLOCK_ROWS) if planar else (BLOCK_ROWS, 16 * BLOCK_ROWS)
    target_part = size * numbers[CHANNEL_STEP] if planar else 16 * size
    # One loop, for LLVM would write a loop over the three out in full.
    for piece in range(3 * ((count + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS)):
        # As with rows, the last sixteen columns may repeat some of those before.
        column, part = min(piece // 3 * BLOCK_COLUMNS, count - BLOCK_COLUMNS), piece % 3
        source = resampled + column * 3 * BLOCK_ROWS + part * source_part
        at = target + size * numbers[PIXEL_STEP] * column + part * target_part
        scales, biases = scale + 64 * part, bias + 64 * part
        if kind == KIND_UINT8:
            store_uint8(source, source_step, at, row_bytes, scales, biases)
        elif kind == KIND_FLOAT16:
            store_float16(source, source_step, at, row_bytes, scales, biases)
        elif kind == KIND_BFLOAT16:
            store_bfloat16(source, source_step, at, row_bytes, scales, biases)
        else:
            store_float32(source, source_step, at, row_bytes, scales, biases)
