"""One image into one row of a slot: checks, the part outside the grid, and the choice of resampler."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastload import jit
from fastload.engine.cpu.kernels.exact import resample_exact, store_level
from fastload.engine.cpu.kernels.fast import resample_fast
from fastload.engine.cpu.kernels.layout import (
    BICUBIC_PLAIN,
    BOX_HEIGHT,
    BOX_LEFT,
    BOX_OUTSIDE,
    BOX_TOP,
    BOX_WIDTH,
    BUFFER_TOO_SMALL,
    DONE,
    FILTER,
    GRID_HEIGHT,
    GRID_WIDTH,
    NEAREST,
    OUT_HEIGHT,
    OUT_WIDTH,
    REGION_TOO_SMALL,
    SLACK,
    WINDOW_LEFT,
    WINDOW_TOP,
    Constants,
    Scratch,
    Slot,
)
from fastload.engine.cpu.kernels.taps import mirrors
from fastload.engine.limits import MAX_SIDE


@jit.inlined
def _inside(start: float, length: float, size: int) -> bool:
    # Written so that NaN fails. A box that was drawn in float64 may end an ulp or so behind the border.
    return start >= 0.0 and start < size and length > 0.0 and start + length <= size * (1.0 + 1e-12)


@jit.inlined
def _fill_outside(
    constants: Constants, slot: Slot, start: int, visible: tuple[int, int, int, int], height: int, width: int
) -> None:
    """Black, scaled and biased, wherever the window lies outside the grid."""
    y0, y1, x0, x1 = visible
    for y in range(height):
        whole = y < y0 or y >= y1
        for x in range(width):
            if whole or x < x0 or x >= x1:
                for channel in range(3):
                    store_level(slot, constants, start, y, x, channel, 0)


@jit.inlined
def resample(
    pixels: NDArray[np.uint8],
    height: int,
    width: int,
    top: int,
    left: int,
    region_height: int,
    region_width: int,
    parameters: NDArray[np.float64],
    constants: Constants,
    slot: Slot,
    row: int,
    scratch: Scratch,
) -> int:
    """Crops, resamples, flips, scales and stores one decoded image as row ``row`` of a slot.

    ``pixels`` holds the pixels of a region of the image (of all of it, or of what engine/cpu/region.py says is
    enough): region_height x region_width x 3 bytes, and SLACK more that may be read. Checks every number that an
    address depends on before it is used. For use inside other kernels; returns DONE, BOX_OUTSIDE, REGION_TOO_SMALL or
    BUFFER_TOO_SMALL.
    """
    numbers = constants.numbers
    out_height, out_width = numbers[OUT_HEIGHT], numbers[OUT_WIDTH]
    if height < 1 or width < 1 or height > MAX_SIDE or width > MAX_SIDE:
        return BUFFER_TOO_SMALL
    if top < 0 or region_height < 1 or top > height - region_height:
        return REGION_TOO_SMALL
    if left < 0 or region_width < 1 or left > width - region_width:
        return REGION_TOO_SMALL
    if pixels.size < region_height * region_width * 3 + SLACK:
        return BUFFER_TOO_SMALL
    region = (top, left, region_height, region_width)
    # All but one of the three are empty: make_constants and flat_slot agree on which.
    values = slot.bytes1.size + slot.bytes2.size + slot.bytes4.size
    start = row * out_height * out_width * 3
    if row < 0 or start + out_height * out_width * 3 > values:
        return BUFFER_TOO_SMALL
    if not _inside(parameters[BOX_TOP], parameters[BOX_HEIGHT], height):
        return BOX_OUTSIDE
    if not _inside(parameters[BOX_LEFT], parameters[BOX_WIDTH], width):
        return BOX_OUTSIDE
    upside_down, flip = mirrors(parameters)
    y0, y1 = find_visible(int(parameters[WINDOW_TOP]), int(parameters[GRID_HEIGHT]), out_height, upside_down)
    x0, x1 = find_visible(int(parameters[WINDOW_LEFT]), int(parameters[GRID_WIDTH]), out_width, flip)
    visible = (y0, y1, x0, x1)
    if y0 > 0 or y1 < out_height or x0 > 0 or x1 < out_width:
        _fill_outside(constants, slot, start, visible, out_height, out_width)
    code = numbers[FILTER]
    if (
        code != NEAREST
        and code != BICUBIC_PLAIN
        and resample_fast(pixels, height, width, region, parameters, constants, slot, start, visible, scratch)
    ):
        return DONE
    done = resample_exact(pixels, height, width, region, parameters, constants, slot, start, visible, scratch)
    return DONE if done else REGION_TOO_SMALL


@jit.inlined
def find_visible(first: int, grid: int, size: int, flip: bool) -> tuple[int, int]:
    """Output positions that lie on the grid, as a half-open range (empty: equal ends)."""
    begin = min(max(-first, 0), size)
    end = max(min(grid - first, size), begin)
    if flip:
        return size - end, size - begin
    return begin, end


@jit.kernel
def resample_image(
    pixels: NDArray[np.uint8],
    height: int,
    width: int,
    top: int,
    left: int,
    region_height: int,
    region_width: int,
    parameters: NDArray[np.float64],
    constants: Constants,
    slot: Slot,
    row: int,
    scratch: Scratch,
) -> int:
    """``resample`` for callers in Python."""
    return resample(
        pixels, height, width, top, left, region_height, region_width, parameters, constants, slot, row, scratch
    )
