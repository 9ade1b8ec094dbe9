"""One decoded image with more to do than one resampling: before it, padding, maps, after it, and the store.

The image is sampled into a canvas of levels in the thread's studio, is worked on there, and goes to the slot
in one pass.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastload.augment.program import Code
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.entries import ENTRY_OPERATIONS, ENTRY_RESAMPLE, ENTRY_WARP
from fastload.engine.cpu.kernels.layout import (
    ANTIALIAS,
    BUFFER_TOO_SMALL,
    CHANNEL_STEP,
    DONE,
    FILTER,
    GRID_HEIGHT,
    GRID_WIDTH,
    KIND,
    KIND_FLOAT32,
    KIND_UINT8,
    OUT_HEIGHT,
    OUT_WIDTH,
    PIXEL_STEP,
    SLACK,
    WINDOW_LEFT,
    WINDOW_TOP,
    Constants,
    Scratch,
    Slot,
)
from fastload.engine.cpu.kernels.noise import normal_pair
from fastload.engine.cpu.kernels.planes import bfloat_bits, half_bits, join, level_of, plane_bytes, split, store_canvas
from fastload.engine.cpu.kernels.resample import find_visible
from fastload.engine.cpu.kernels.studio import CAPACITY, PLACE, Studio, carve
from fastload.engine.cpu.kernels.taps import mirrors
from fastload.engine.limits import MAX_SIDE
from fastload.jit import call_of_integer, call_of_truth, inlined, kernel
from fastload.jpeg.intrinsics import Word, address_of, move

_ERASE_NOISE, _ERASE_STORED, _LAMBDA = int(Code.ERASE_NOISE), int(Code.ERASE_STORED), int(Code.LAMBDA)

# What augment_image answers beside a resampler's own: the interpreter is needed, for a LAMBDA.
NEEDS_PYTHON: Final = 100
# Which of its steps augment_image takes.
BEFORE, SAMPLE, AFTER, STORE = 1, 2, 4, 8
ALL: Final = BEFORE | SAMPLE | AFTER | STORE

# Columns of ``Extras.numbers``: levels beside the grid, size of the window, maps of the warp (0: none), its
# interpolation, and then the maps: nine numbers of each, two of its size, three of its fill.
PAD, WINDOW_HEIGHT, WINDOW_WIDTH, NUM_MAPS, SMOOTH, MAPS = 0, 3, 4, 5, 6, 7
PER_MAP: Final = 14
# Columns of ``Extras.spans``: whether there is anything to do, and the operations before and after.
SPECIAL, BEFORE_BEGIN, BEFORE_END, AFTER_BEGIN, AFTER_END = 0, 1, 2, 3, 4

# Where in a thread's words (int64, see deliver.py's tally) the times of the steps are added up, and the clock's memory.
TIMES, CLOCK_WORDS = 3, 2
BEFORE_NS, WARP_NS, AUGMENT_NS, CLOCK = 0, 1, 2, 3


class Extras(NamedTuple):
    """What is done to n images beside one resampling; arrays without a row where that is nothing.

    Attributes:
        numbers: float64 (n, MAPS + k * PER_MAP), see PAD.
        spans: int64 (n, 5), see SPECIAL.
        operations: float64 (m, 1 + VALUES), codes and numbers.
    """

    numbers: NDArray[np.float64]
    spans: NDArray[np.int64]
    operations: NDArray[np.float64]


class Picture(NamedTuple):
    """A decoded image: its pixels, its size, and the part of it that the pixels are."""

    pixels: NDArray[np.uint8]
    height: int
    width: int
    top: int
    left: int
    region_height: int
    region_width: int


@inlined
def _before(picture: Picture, extras: Extras, item: int, block: NDArray[np.uint8], entries: NDArray[np.int64]) -> Word:
    """The operations on the pixels of the source, in their place."""
    begin, end = extras.spans[item, BEFORE_BEGIN], extras.spans[item, BEFORE_END]
    height, width = picture.region_height, picture.region_width
    if height < 1 or width < 1 or height > MAX_SIDE or width > MAX_SIDE:
        return False
    count = height * width
    studio = carve(block)
    if studio.first.size < 3 * plane_bytes(count) + SLACK or picture.pixels.size < 3 * count + SLACK:
        return False
    split(picture.pixels, count, studio.first)
    studio.numbers[PLACE] = 0
    if not call_of_truth(entries[ENTRY_OPERATIONS], (extras.operations, begin, end, height, width, block, entries)):
        return False
    join(studio.first if studio.numbers[PLACE] == 0 else studio.second, count, picture.pixels)
    return True


@inlined
def _pad(
    parameters: NDArray[np.float64], numbers: NDArray[np.float64], height: int, width: int, studio: Studio
) -> None:
    """The levels beside the grid, over a window that has been resampled into ``studio.first``."""
    upside_down, flip = mirrors(parameters)
    y0, y1 = find_visible(int(parameters[WINDOW_TOP]), int(parameters[GRID_HEIGHT]), height, upside_down)
    x0, x1 = find_visible(int(parameters[WINDOW_LEFT]), int(parameters[GRID_WIDTH]), width, flip)
    if y0 == 0 and x0 == 0 and y1 == height and x1 == width:
        return
    pixel, channel_step = studio.numbers[PIXEL_STEP], studio.numbers[CHANNEL_STEP]
    for channel in range(3):
        level = level_of(np.float32(min(max(numbers[PAD + channel], 0.0), 255.0)))
        for y in range(height):
            inside = y0 <= y < y1
            for x in range(width):
                if not inside or x < x0 or x >= x1:
                    studio.first[(y * width + x) * pixel + channel * channel_step] = level


@inlined
def _sample(
    picture: Picture,
    parameters: NDArray[np.float64],
    numbers: NDArray[np.float64],
    constants: Constants,
    slot: Slot,
    scratch: Scratch,
    studio: Studio,
    entries: NDArray[np.int64],
) -> Word:
    """The window of the resampled grid, into the studio's first canvas: as planes, or side by side for a warp."""
    height, width = np.int64(numbers[WINDOW_HEIGHT]), np.int64(numbers[WINDOW_WIDTH])
    warped, stride = numbers[NUM_MAPS] > 0.0, plane_bytes(height * width)
    if min(scratch.fast_first_y.size, scratch.row_weights.size) < height or scratch.fast_first_x.size < width:
        return BUFFER_TOO_SMALL
    form = studio.numbers
    form[OUT_HEIGHT], form[OUT_WIDTH] = height, width
    form[FILTER], form[ANTIALIAS], form[KIND] = constants.numbers[FILTER], constants.numbers[ANTIALIAS], KIND_UINT8
    form[PIXEL_STEP], form[CHANNEL_STEP] = (3, 1) if warped else (1, stride)
    levels = Constants(form[:PLACE], constants.table2, constants.table4, constants.scale, constants.bias)
    target = Slot(studio.first, slot.bytes2[:0], slot.bytes4[:0])
    image = (picture.pixels, picture.height, picture.width, picture.top, picture.left)
    region = (picture.region_height, picture.region_width)
    work = (parameters, levels, target, np.int64(0), scratch)
    answer = call_of_integer(entries[ENTRY_RESAMPLE], image + region + work)
    if answer == DONE:
        _pad(parameters, numbers, height, width, studio)
    return answer


@inlined
def _warp(numbers: NDArray[np.float64], height: int, width: int, studio: Studio, entries: NDArray[np.int64]) -> Word:
    """The window, side by side in the first canvas, to the output, as planes in the same."""
    from_height, from_width = np.int64(numbers[WINDOW_HEIGHT]), np.int64(numbers[WINDOW_WIDTH])
    count, sizes = np.int64(numbers[NUM_MAPS]), studio.counts
    at = MAPS + 9 * count
    if count < 1 or numbers.size < MAPS + PER_MAP * count or sizes.size < 2 * count:
        return False
    for i in range(2 * count):
        sizes[i] = np.int64(numbers[at + i])
    maps = (numbers[MAPS:at], sizes[: 2 * count], numbers[at + 2 * count :], count, np.int64(numbers[SMOOTH] != 0.0))
    source, target = studio.first[: 3 * from_height * from_width + 2], studio.second[: 3 * height * width]
    if not call_of_truth(entries[ENTRY_WARP], (source, from_height, from_width, target, height, width, *maps)):
        return False
    split(studio.second, height * width, studio.first)
    return True


@inlined
def _store_value(slot: Slot, constants: Constants, position: int, value: np.float32) -> None:
    kind = constants.numbers[KIND]
    if kind == KIND_UINT8:
        slot.bytes1[position] = level_of(min(max(value, np.float32(0.0)), np.float32(255.0)))
    elif kind == KIND_FLOAT32:
        slot.bytes4[position] = value
    else:
        slot.bytes2[position] = half_bits(value) if kind == 1 else bfloat_bits(value)


@inlined
def _erase_stored(values: NDArray[np.float64], code: int, constants: Constants, slot: Slot, start: int) -> None:
    """A rectangle of the stored image in one colour, or in normal noise."""
    numbers = constants.numbers
    height, width = numbers[OUT_HEIGHT], numbers[OUT_WIDTH]
    top, left = min(max(int(values[0]), 0), height), min(max(int(values[1]), 0), width)
    bottom, right = min(int(values[0] + values[2]), height), min(int(values[1] + values[3]), width)
    key, key_2 = np.int64(values[4]), np.int64(values[5])
    for y in range(top, bottom):
        for x in range(left, right):
            for channel in range(3):
                position = start + (y * width + x) * numbers[PIXEL_STEP] + channel * numbers[CHANNEL_STEP]
                value = np.float32(values[4 + channel])
                if code == _ERASE_NOISE:
                    value, _ = normal_pair(3 * (y * width + x) + channel, key, key_2)
                _store_value(slot, constants, position, value)


@inlined
def _store(extras: Extras, item: int, constants: Constants, slot: Slot, row: int, block: NDArray[np.uint8]) -> Word:
    height, width = constants.numbers[OUT_HEIGHT], constants.numbers[OUT_WIDTH]
    studio = carve(block)
    values = slot.bytes1.size + slot.bytes2.size + slot.bytes4.size
    start = row * height * width * 3
    if row < 0 or start + height * width * 3 > values:
        return False
    if studio.first.size < 3 * plane_bytes(height * width):
        return False
    store_canvas(studio.first if studio.numbers[PLACE] == 0 else studio.second, height * width, constants, slot, start)
    for number in range(extras.spans[item, AFTER_BEGIN], extras.spans[item, AFTER_END]):
        code = int(extras.operations[number, 0])
        if code == _ERASE_STORED or code == _ERASE_NOISE:
            _erase_stored(extras.operations[number, 1:], code, constants, slot, start)
    return True


@inlined
def _asks_for_python(extras: Extras, item: int) -> Word:
    spans = extras.spans[item]
    for number in range(spans[BEFORE_BEGIN], spans[BEFORE_END]):
        if int(extras.operations[number, 0]) == _LAMBDA:
            return True
    for number in range(spans[AFTER_BEGIN], spans[AFTER_END]):
        if int(extras.operations[number, 0]) == _LAMBDA:
            return True
    return False


@kernel
def augment_image(
    steps: int,
    picture: Picture,
    item: int,
    parameters: NDArray[np.float64],
    extras: Extras,
    constants: Constants,
    slot: Slot,
    row: int,
    scratch: Scratch,
    block: NDArray[np.uint8],
    entries: NDArray[np.int64],
    times: NDArray[np.int64],
) -> Word:
    """One decoded image into row ``row`` of a slot, as its parameters and extras say; its pixels are worked on.

    Args:
        steps: BEFORE, SAMPLE, AFTER and STORE, those that are to be done; ALL but for an image that needs Python.
        picture: The image.
        item: Its row of ``parameters`` and ``extras``.
        parameters: float64 (n, PARAMETERS).
        extras: What else is done.
        constants, slot, row, scratch: As resample_image takes them.
        block: The thread's studio.
        entries: Addresses of the kernels (see ENTRY_RESAMPLE).
        times: int64, TIMES words to which nanoseconds are added, and memory of the clock.

    Returns:
        What resample_image returns, or NEEDS_PYTHON; BUFFER_TOO_SMALL too where the studio is too small.
    """
    if item < 0 or item >= extras.spans.shape[0] or (steps == ALL and _asks_for_python(extras, item)):
        return NEEDS_PYTHON
    height, width = constants.numbers[OUT_HEIGHT], constants.numbers[OUT_WIDTH]
    numbers, spans, studio = extras.numbers[item], extras.spans[item], carve(block)
    pixels = max(height * width, np.int64(numbers[WINDOW_HEIGHT]) * np.int64(numbers[WINDOW_WIDTH]))
    if studio.numbers[CAPACITY] < plane_bytes(pixels):
        return BUFFER_TOO_SMALL
    clock = move(address_of(times), 8 * CLOCK)
    begun = system.clock_ns(clock)
    if steps & BEFORE and spans[BEFORE_BEGIN] < spans[BEFORE_END]:
        if not _before(picture, extras, item, block, entries):
            return BUFFER_TOO_SMALL
        now = system.clock_ns(clock)
        times[BEFORE_NS] += now - begun
    if steps & SAMPLE:
        answer = _sample(picture, parameters[item], numbers, constants, slot, scratch, studio, entries)
        if answer != DONE:
            return answer
        if numbers[NUM_MAPS] > 0.0:
            begun = system.clock_ns(clock)
            if not _warp(numbers, height, width, studio, entries):
                return BUFFER_TOO_SMALL
            times[WARP_NS] += system.clock_ns(clock) - begun
        studio.numbers[PLACE] = 0
    begun = system.clock_ns(clock)
    if steps & AFTER and spans[AFTER_BEGIN] < spans[AFTER_END]:
        work = (extras.operations, spans[AFTER_BEGIN], spans[AFTER_END], height, width, block, entries)
        if not call_of_truth(entries[ENTRY_OPERATIONS], work):
            return BUFFER_TOO_SMALL
    if steps & STORE and not _store(extras, item, constants, slot, row, block):
        return BUFFER_TOO_SMALL
    times[AUGMENT_NS] += system.clock_ns(clock) - begun
    return DONE
