"""Carries out the operations of one image on its canvas: the interpreter of augment/program.py's codes.

On uint8 images all of them equal torchvision v2's functions bit for bit, on fifty photographs and at any size, but for
BLUR and ELASTIC, which are within one level (5 and 0.5 % of the values at most), and what is random: the noise of NOISE
and ELASTIC is ours, what is done with it torchvision's. Sums over images of more than 65,536 pixels are exact here and
rounded in torch: CONTRAST may then differ by a level.

Operations that change each level by itself are composed in a table, and looked up when something else needs the pixels;
everything stays in the L2 cache (three planes of 224 x 224 are 150 KB).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.program import VALUES, Code
from fastload.engine.cpu.kernels import neighbours, noise, pointwise, tables
from fastload.engine.cpu.kernels.entries import ENTRY_JPEG, ENTRY_WARP
from fastload.engine.cpu.kernels.layout import SLACK
from fastload.engine.cpu.kernels.planes import copy, join, look_up, plane_bytes, split
from fastload.engine.cpu.kernels.studio import PLACE, Studio, carve
from fastload.engine.limits import MAX_SIDE
from fastload.jit import call_of_truth, inlined, kernel
from fastload.jpeg.intrinsics import Word

_CONTRAST, _SATURATION, _HUE, _GRAYSCALE, _AUTOCONTRAST, _EQUALIZE, _SHARPNESS, _PERMUTE = (
    int(code)
    for code in (
        Code.CONTRAST, Code.SATURATION, Code.HUE, Code.GRAYSCALE,
        Code.AUTOCONTRAST, Code.EQUALIZE, Code.SHARPNESS, Code.PERMUTE,
    )
)  # fmt: skip
_BLUR, _NOISE, _ELASTIC, _ERASE, _SAVE, _RESTORE, _ADD, _MIXED, _MATRIX, _FRAME, _WARP, _JPEG = (
    int(code)
    for code in (
        Code.BLUR, Code.NOISE, Code.ELASTIC, Code.ERASE, Code.SAVE, Code.RESTORE,
        Code.ADD, Code.MIXED, Code.COLOR_MATRIX, Code.FRAME, Code.WARP, Code.JPEG,
    )
)  # fmt: skip

# Columns of a row of operations: its code, and its numbers.
COLUMNS: Final = 1 + VALUES


@inlined
def _find_statistics_table(code: int, factor: float, canvas: NDArray[np.uint8], pixels: int, studio: Studio) -> None:
    """The table of CONTRAST, AUTOCONTRAST or EQUALIZE for an image as it stands."""
    stride = plane_bytes(pixels)
    table = studio.table
    if code == _CONTRAST:
        red, green, blue = canvas[:stride], canvas[stride : 2 * stride], canvas[2 * stride : 3 * stride]
        tables.contrast(table, factor, pointwise.mean_grey(red, green, blue, pixels))
        return
    for channel in range(3):
        plane = canvas[channel * stride : channel * stride + pixels]
        if code == _AUTOCONTRAST:
            least, greatest = pointwise.find_extremes(plane, pixels)
            tables.autocontrast(table, channel, least, greatest)
        else:
            pointwise.count_levels(plane, pixels, studio.counts)
            tables.equalize(table, channel, studio.counts)


@inlined
def _weight_of_kept(operations: NDArray[np.float64], number: int, end: int) -> Word:
    """What the MIXED behind a SAVE says: the sum begins with the kept image, as torchvision's does."""
    for later in range(number, end):
        if int(operations[later, 0]) == _MIXED:
            return operations[later, 1]
    return 0.0


@inlined
def _in_place(
    code: int, values: NDArray[np.float64], canvas: NDArray[np.uint8], height: int, width: int, studio: Studio
) -> None:
    pixels = height * width
    stride = plane_bytes(pixels)
    red, green, blue = canvas[:stride], canvas[stride : 2 * stride], canvas[2 * stride : 3 * stride]
    if code == _SATURATION:
        pointwise.saturation(red, green, blue, values[0])
    elif code == _HUE:
        pointwise.hue(red, green, blue, values[0])
    elif code == _GRAYSCALE:
        pointwise.grayscale(red, green, blue)
    elif code == _MATRIX:
        pointwise.color_matrix(red, green, blue, values)
    elif code == _NOISE:
        noise.add_noise(
            canvas, pixels, values[0], values[1], values[2] != 0.0, np.int64(values[3]), np.int64(values[4])
        )
    elif code == _ERASE:
        neighbours.erase(canvas, height, width, values)
    elif code == _FRAME:
        neighbours.frame(canvas, height, width, values, studio.counts)
    elif code == _RESTORE:
        copy(studio.kept, canvas, 3 * stride)
    elif code == _ADD:
        pointwise.add_weighted(canvas[: 3 * stride], values[0], studio.sums, False)
    elif code == _MIXED:
        pointwise.take_sums(studio.sums, canvas[: 3 * stride])


@inlined
def _from_one_to_other(
    code: int,
    values: NDArray[np.float64],
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    height: int,
    width: int,
    studio: Studio,
) -> None:
    stride = plane_bytes(height * width)
    if code == _ELASTIC:
        neighbours.elastic(source, target, height, width, values, studio.floats)
        return
    if code == _BLUR:
        neighbours.blur(source, target, height, width, values, studio.floats, studio.counts)
        return
    for channel in range(3):
        plane = target[channel * stride : (channel + 1) * stride]
        if code == _PERMUTE:
            taken = min(max(int(values[channel]), 0), 2)
            copy(source[taken * stride :], plane, stride)
        else:
            before = source[channel * stride : (channel + 1) * stride]
            neighbours.sharpen(before, plane, height, width, values[0])


@inlined
def _warp(
    values: NDArray[np.float64],
    front: NDArray[np.uint8],
    back: NDArray[np.uint8],
    height: int,
    width: int,
    studio: Studio,
    entries: NDArray[np.int64],
) -> None:
    """One map of the canvas onto itself, by way of pixels side by side; the result is in ``back``."""
    join(front, height * width, back)
    # The map's own size is not looked at; memory that is at hand.
    sizes, pixels = studio.counts[:2], 3 * height * width
    map_numbers = (values[4:13], sizes, values[1:4], 1, np.int64(values[0] != 0.0))
    call_of_truth(entries[ENTRY_WARP], (back[: pixels + 2], height, width, front[:pixels], height, width, *map_numbers))
    split(front, height * width, back)


@inlined
def _compress(
    quality: int,
    front: NDArray[np.uint8],
    back: NDArray[np.uint8],
    height: int,
    width: int,
    studio: Studio,
    entries: NDArray[np.int64],
) -> Word:
    """The canvas through JPEG and back; False, and nothing done, where it is too wide for the studio."""
    stride, scratch = plane_bytes(height * width), studio.floats.view(np.uint8)
    if not call_of_truth(entries[ENTRY_JPEG], (front, stride, height, width, quality, scratch, back)):
        return False
    split(back, height * width, front)
    return True


@inlined
def _has_room(code: int, stride: int, studio: Studio) -> bool:
    if code == _BLUR or code == _ELASTIC or code == _JPEG:
        return studio.floats.size > 0
    if code == _SAVE or code == _RESTORE or code == _ADD or code == _MIXED:
        return studio.kept.size >= 3 * stride and studio.sums.size >= 3 * stride
    return True


@kernel
def run_operations(
    operations: NDArray[np.float64],
    begin: int,
    end: int,
    height: int,
    width: int,
    block: NDArray[np.uint8],
    entries: NDArray[np.int64],
) -> bool:
    """Operations ``begin`` to ``end`` on the canvas in a studio; False, and no result, where that has no room for them.

    Codes of later stages (erasing stored values) and such as are not for a kernel (LAMBDA) are passed over. Numbers are
    those that engine/operations.py lets through; whatever they are, nothing outside of the studio is touched.

    Args:
        operations: float64 (m, COLUMNS).
        begin, end: Which of them.
        height, width: Of the canvas.
        block: The studio, whose PLACE says where the image lies, before and after.
        entries: Addresses of kernels, see ENTRY_WARP.
    """
    stride = plane_bytes(height * width)
    if height < 1 or width < 1 or height > MAX_SIDE or width > MAX_SIDE or begin < 0 or end > operations.shape[0]:
        return False
    studio = carve(block)
    if min(studio.first.size, studio.second.size) < 3 * stride + SLACK:
        return False
    front, back = studio.first, studio.second
    if studio.numbers[PLACE] != 0:
        front, back = back, front
    table, one = studio.table[:768], studio.table[768:]
    pending = False
    tables.reset(table)
    for number in range(begin, end):
        code, values = int(operations[number, 0]), operations[number, 1:]
        if tables.is_of_levels(code):
            tables.compose(table, code, values, one)
            pending = True
            continue
        if not _has_room(code, stride, studio):
            return False
        if pending:
            look_up(table, front, stride)
            pending = False
        if code == _CONTRAST or code == _AUTOCONTRAST or code == _EQUALIZE:
            _find_statistics_table(code, values[0], front, height * width, studio)
            pending = True
            continue
        tables.reset(table)
        if code == _SAVE:
            copy(front, studio.kept, 3 * stride)
            weight = _weight_of_kept(operations, number, end)
            pointwise.add_weighted(front[: 3 * stride], weight, studio.sums, True)
        elif code == _SHARPNESS or code == _BLUR or code == _PERMUTE or code == _ELASTIC or code == _WARP:
            if code == _WARP:
                _warp(values, front, back, height, width, studio, entries)
            else:
                _from_one_to_other(code, values, front, back, height, width, studio)
            front, back = back, front
            studio.numbers[PLACE] ^= 1
        elif code == _JPEG:
            if not _compress(int(values[0]), front, back, height, width, studio, entries):
                return False
        else:
            _in_place(code, values, front, height, width, studio)
    if pending:
        look_up(table, front, stride)
    return True


@kernel
def copy_in(pixels: NDArray[np.uint8], count: int, block: NDArray[np.uint8]) -> bool:
    """``count`` pixels side by side, and SLACK bytes behind them, to the first canvas; False without room."""
    studio = carve(block)
    if count < 1 or pixels.size < 3 * count + SLACK or studio.first.size < 3 * plane_bytes(count):
        return False
    split(pixels, count, studio.first)
    studio.numbers[PLACE] = 0
    return True


@kernel
def copy_out(block: NDArray[np.uint8], count: int, pixels: NDArray[np.uint8]) -> bool:
    """The opposite, from the canvas that holds the image."""
    studio = carve(block)
    if count < 1 or pixels.size < 3 * count + SLACK or studio.first.size < 3 * plane_bytes(count):
        return False
    join(studio.first if studio.numbers[PLACE] == 0 else studio.second, count, pixels)
    return True
