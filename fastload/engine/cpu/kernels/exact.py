"""The reference resampler: Pillow's own arithmetic, any filter, any number of taps, any size, on any processor.

Columns are filtered first, then rows, with a rounding to 8 bits in between. (Pillow 13 takes whichever axis first is
cheaper. For bicubic, whose overshoot is cut off at that rounding, the two orders differ by several grey levels where
there is noise.) Plain bicubic, which in torch is floating point throughout, keeps 8 more bits and its overshoot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastload import jit
from fastload.engine.cpu.kernels.layout import (
    ANTIALIAS,
    BICUBIC_PLAIN,
    BOX_HEIGHT,
    BOX_LEFT,
    BOX_TOP,
    BOX_WIDTH,
    CHANNEL_STEP,
    FILTER,
    GRID_HEIGHT,
    GRID_WIDTH,
    KIND,
    KIND_FLOAT32,
    KIND_UINT8,
    OUT_HEIGHT,
    OUT_WIDTH,
    PIXEL_STEP,
    RING,
    WINDOW_LEFT,
    WINDOW_TOP,
    Constants,
    Scratch,
    Slot,
)
from fastload.engine.cpu.kernels.taps import PRECISION, find_taps, mirrors

_HALF = 1 << (PRECISION - 1)
# Fraction of a grey level that plain bicubic keeps between the two passes, in bits.
_FRACTION = 8


@jit.inlined
def clip(value: int) -> int:
    """A 22-bit fixed-point sum as a grey level."""
    return min(max(value >> PRECISION, 0), 255)


@jit.inlined
def store_level(slot: Slot, constants: Constants, start: int, y: int, x: int, channel: int, level: int) -> None:
    """Stores one grey level of the image that begins at value ``start``, as the slot's type."""
    numbers = constants.numbers
    position = start + (y * numbers[OUT_WIDTH] + x) * numbers[PIXEL_STEP] + channel * numbers[CHANNEL_STEP]
    kind = numbers[KIND]
    if kind == KIND_UINT8:
        slot.bytes1[position] = np.uint8(level)
    elif kind == KIND_FLOAT32:
        slot.bytes4[position] = constants.table4[256 * channel + level]
    else:
        slot.bytes2[position] = constants.table2[256 * channel + level]


@jit.inlined
def _column_taps(
    parameters: NDArray[np.float64],
    constants: Constants,
    width: int,
    begin: int,
    end: int,
    x0: int,
    x1: int,
    s: Scratch,
) -> bool:
    """Taps of output columns x0 to x1, packed one after the other; whether all lie in source columns begin to end."""
    numbers = constants.numbers
    _, flip = mirrors(parameters)
    left = int(parameters[WINDOW_LEFT])
    packed = 0
    for x in range(x0, x1):
        column = left + (numbers[OUT_WIDTH] - 1 - x if flip else x)
        first, count = find_taps(
            numbers[FILTER],
            numbers[ANTIALIAS] != 0,
            parameters[BOX_LEFT],
            parameters[BOX_WIDTH],
            int(parameters[GRID_WIDTH]),
            width,
            column,
            s.weights,
            s.column_weights[packed:],
        )
        if first < begin or first + count > end:
            return False
        s.column_first[x] = first - begin
        s.column_count[x] = count
        packed += count
    return True


@jit.inlined
def _resample_row(
    pixels: NDArray[np.uint8], row_start: int, x0: int, x1: int, ring_start: int, fine: bool, s: Scratch
) -> None:
    """One source row, resampled to output columns x0 to x1, into the ring."""
    packed = 0
    half = _HALF >> _FRACTION if fine else _HALF
    for x in range(x0, x1):
        start = row_start + 3 * s.column_first[x]
        count = s.column_count[x]
        red = green = blue = half
        for k in range(count):
            weight = np.int64(s.column_weights[packed + k])
            red += weight * pixels[start + 3 * k]
            green += weight * pixels[start + 3 * k + 1]
            blue += weight * pixels[start + 3 * k + 2]
        packed += count
        at = ring_start + 3 * x
        if fine:
            shift = PRECISION - _FRACTION
            s.ring[at], s.ring[at + 1], s.ring[at + 2] = red >> shift, green >> shift, blue >> shift
        else:
            s.ring[at], s.ring[at + 1], s.ring[at + 2] = clip(red), clip(green), clip(blue)


@jit.inlined
def resample_exact(
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

    Returns False where a tap lies outside the region of which there are pixels; the output is then not defined.
    """
    y0, y1, x0, x1 = visible
    region_top, region_left, region_height, region_width = region
    numbers = constants.numbers
    out_width, last_row = numbers[OUT_WIDTH], numbers[OUT_HEIGHT] - 1
    upside_down, _ = mirrors(parameters)
    fine = numbers[FILTER] == BICUBIC_PLAIN
    fraction = _FRACTION if fine else 0
    if not _column_taps(parameters, constants, width, region_left, region_left + region_width, x0, x1, s):
        return False
    s.ring_rows[:] = -1
    for y in range(y0, y1):
        first, count = find_taps(
            numbers[FILTER],
            numbers[ANTIALIAS] != 0,
            parameters[BOX_TOP],
            parameters[BOX_HEIGHT],
            int(parameters[GRID_HEIGHT]),
            height,
            int(parameters[WINDOW_TOP]) + (last_row - y if upside_down else y),
            s.weights,
            s.row_weights,
        )
        if first < region_top or first + count > region_top + region_height:
            return False
        for j in range(3 * x0, 3 * x1):
            s.sums[j] = _HALF << fraction
        for k in range(count):
            row = first + k
            kept = row % RING
            if s.ring_rows[kept] != row:
                _resample_row(pixels, (row - region_top) * region_width * 3, x0, x1, kept * 3 * out_width, fine, s)
                s.ring_rows[kept] = row
            weight = np.int64(s.row_weights[k])
            ring = s.ring[kept * 3 * out_width : (kept + 1) * 3 * out_width]
            for j in range(3 * x0, 3 * x1):
                s.sums[j] += weight * ring[j]
        for x in range(x0, x1):
            for channel in range(3):
                store_level(slot, constants, start, y, x, channel, clip(s.sums[3 * x + channel] >> fraction))
    return True
