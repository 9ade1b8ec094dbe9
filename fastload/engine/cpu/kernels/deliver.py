"""One call for a thread's share of a batch, without the interpreter: images are read, decoded and resampled.

Threads take the items of a batch one by one, from a counter that they share, so that each needs the interpreter's lock
once for a batch, and none waits for another at its end. Beside images that leaves nothing in the caches: what Python
does for a call takes ten times as long as by itself. So what stays the same for many batches is handed over once
(``freeze_share``), a batch is a few words (a task), and the times of a call are added up here.

What the kernel cannot finish it leaves: damaged files, formats and JPEGs that are not for our decoder, memory that has
to grow. worker.py then does the image by itself, and finds the words for what is wrong with it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.reads import Reads
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.augment import ALL, BEFORE_BEGIN, BEFORE_END, SPECIAL, Extras, Picture, augment_image
from fastload.engine.cpu.kernels.entries import ENTRY_AUGMENT, ENTRY_DECODE, ENTRY_RESAMPLE
from fastload.engine.cpu.kernels.layout import (
    DONE,
    KIND,
    KIND_FLOAT32,
    KIND_UINT8,
    OUT_HEIGHT,
    OUT_WIDTH,
    SLACK,
    Constants,
    Scratch,
    Slot,
)
from fastload.engine.cpu.kernels.program import run_operations
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.cpu.kernels.warp import warp_levels
from fastload.engine.limits import MAX_PIXELS
from fastload.jit import call_of_integer, calls, entry, freeze, inlined, kernel, thaws
from fastload.jpeg import seek_lookup
from fastload.jpeg.intrinsics import Word, add_atomically, address_of, move, unsigned
from fastload.jpeg.rectangle import decode_rectangle
from fastload.jpeg.roundtrip import recompress
from fastload.jpeg.status import BAD_INDEX, OK
from fastload.jpeg.workspace import IMAGE_HEIGHT, IMAGE_WIDTH

# A thread returns to Python when it has left so many items: few, so that the others take their share of the work.
MOST_LEFT: Final = 8

# Words of a task (int64), which the threads of a batch share: the first item that none has taken, counted by the
# kernel, and its end; not 0 where no more is to begin; and the slot: its address, its values, its rows.
NEXT_ITEM, END_ITEM, STOP, SLOT_ADDRESS, SLOT_VALUES, SLOT_ROWS = 0, 1, 2, 3, 4, 5
TASK: Final = 6

# What a call answers: the images that it delivered, above three bits: whether there are items that it left, whether
# checksums were compared, and whether reading took so long that files were not in memory, where an image of 114 KB
# takes 15 to 20 us.
ANSWER_LEFT, ANSWER_CHECKED, ANSWER_SLOW = 1, 2, 4
ANSWER_BITS: Final = 3
_SLOW_NS_PER_IMAGE: Final = 30_000
_SLOW_BYTES_PER_NS: Final = 2

# Words of a tally (int64): what a call did, the items that it left, memory for the clock and for checksums; and the
# sums of all calls.
READ_NS, DECODE_NS, RESIZE_NS, NUM_DELIVERED, NUM_CHECKED, NUM_RAW, NUM_BYTES, NUM_LEFT = 0, 1, 2, 3, 4, 5, 6, 7
# Processor time of the call, all of it without the interpreter's lock. What a thread uses beside it is what it may hold
# the lock for: numba takes 9 us to take the arguments apart, 50 where a batch has passed through the caches meanwhile.
CALL_NS: Final = 8
# Times of images with more to do than one resampling; behind them the memory of the clock that takes them.
BEFORE_NS, WARP_NS, AUGMENT_NS = 9, 10, 11
# Images that were decoded without their seek index, because it cannot be theirs although its checksum is right.
NUM_REFUSED: Final = 14
COUNTS: Final = 15
_LEFT: Final = COUNTS
_CLOCK: Final = 8 * (_LEFT + MOST_LEFT)
_CRC: Final = _CLOCK + system.CLOCK_SCRATCH
_TOTALS: Final = (_CRC + seek_lookup.CRC_SCRATCH) // 8
TALLY: Final = _TOTALS + COUNTS

# Words in which a Share is frozen: some forty arrays.
FRAME: Final = 1024


class Items(NamedTuple):
    """The n images of all requests that were planned together, and k views of each, image after image.

    Attributes:
        rows: int64 (n,), row of the slot.
        parameters: float64 (n * k, PARAMETERS).
        regions: int64 (n * k, 4), top, left, height and width of the source pixels that are decoded for a view; the
            same for views that share them.
        reads: Where the files are.
        delivered: uint8 (n,), 1 where the kernel has delivered an item; written by it.
        extras: What is done beside one resampling, of n * k.
    """

    rows: NDArray[np.int64]
    parameters: NDArray[np.float64]
    regions: NDArray[np.int64]
    reads: Reads
    delivered: NDArray[np.uint8]
    extras: Extras


class Memory(NamedTuple):
    """A thread's buffers (see workspace.py), a tally of what the last call did, int64 (TALLY,), and its studio."""

    encoded: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    jpeg: NDArray[np.int64]
    scratch: Scratch
    tally: NDArray[np.int64]
    studio: NDArray[np.uint8]


class Share(NamedTuple):
    """What a thread needs for all batches that were planned together: images, constants, its memory, and kernels.

    ``entries`` is what ``find_entries`` says.
    """

    items: Items
    constants: Constants
    memory: Memory
    entries: NDArray[np.int64]


@kernel
def freeze_share(share: Share, frame: NDArray[np.int64]) -> Word:
    """Lays a share down in a frame, for ``deliver_items``; int64 <- the bytes that it takes.

    Nothing is laid down where there are fewer. A frame does not keep its arrays alive.
    """
    return freeze(share, address_of(frame), frame.size * 8)


_thaw = thaws(freeze_share)
_call_decode = calls(decode_rectangle)
_call_resample = calls(resample_image)


def find_entries(*, augmented: bool = False) -> NDArray[np.int64]:
    """Where the kernels for one image are (see kernels/entries.py); they have been compiled or loaded.

    Args:
        augmented: Whether those for images with more to do than one resampling are among them.
    """
    entries = [entry(decode_rectangle), entry(resample_image)]
    if augmented:
        entries += [entry(augment_image), entry(run_operations), entry(warp_levels), entry(recompress)]
    return np.array(entries, np.int64)


@inlined
def _read(item: int, reads: Reads, memory: Memory) -> Word:
    """Whether the file of an item is in ``encoded``, whole, and the bytes that it should be."""
    size = reads.size[item]
    # Room for a byte more, with which a file that has grown is seen. The smallest JPEG has a start and an end marker.
    if size < 4 or size >= memory.encoded.size:
        return False
    target = address_of(memory.encoded)
    offset = reads.offset[item]
    path = reads.path[item]
    if reads.descriptor[item] >= 0:
        done = system.read_range(reads.descriptor[item], target, size, offset)
    elif 0 <= path < reads.paths.size:
        one_more = np.int64(offset == 0)
        done = system.read_whole(move(address_of(reads.paths), path), target, size + one_more, offset)
    else:
        return False
    if done != size:
        return False
    if reads.check[item] == 0:
        return True
    return seek_lookup.crc32(target, size, move(address_of(memory.tally), _CRC)) == reads.crc32[item]


@inlined
def _decode(item: int, place: int, items: Items, memory: Memory, entries: NDArray[np.int64]) -> Word:
    """Whether the region of a view of an item is in ``pixels``."""
    encoded, work = memory.encoded, memory.jpeg
    size = items.reads.size[item]
    # Without its end marker a file was perhaps cut off behind the region: libjpeg-turbo looks at all of it.
    if encoded[size - 2] != 0xFF or encoded[size - 1] != 0xD9:
        return False
    top, left, height, width = items.regions[place]
    if height < 1 or width < 1 or height > MAX_PIXELS // width or memory.pixels.size < height * width * 3 + SLACK:
        return False
    index, index_size = seek_lookup.find_index(
        items.reads.seek[item], items.reads.crc32[item], move(address_of(memory.tally), _CRC)
    )
    rectangle = (top, left, height, width, memory.pixels, 3 * width, work)
    answer = _call_decode(entries[ENTRY_DECODE], (encoded, size, system.bytes_at(index, index_size), *rectangle))
    refused = answer == BAD_INDEX
    if refused:
        nothing = system.bytes_at(index, np.int64(0))
        answer = _call_decode(entries[ENTRY_DECODE], (encoded, size, nothing, *rectangle))
    good = answer == OK and work[IMAGE_HEIGHT] * work[IMAGE_WIDTH] <= MAX_PIXELS
    if good and refused:
        memory.tally[NUM_REFUSED] += 1
    return good


@inlined
def _read_rows(item: int, place: int, items: Items, memory: Memory) -> Word:
    """Whether those rows of an item's bare pixels that its region touches are in ``pixels``, over the whole width.

    One read: a row of a photograph that is stored raw has 1 to 2 KB, less than a call of the system costs in copying.
    """
    image_height, image_width = items.reads.raw[item]
    top, _, height, _ = items.regions[place]
    if items.reads.size[item] != 3 * image_height * image_width or items.reads.descriptor[item] < 0:
        return False
    if top < 0 or height < 1 or height > image_height or top > image_height - height:
        return False
    size = 3 * height * image_width
    if memory.pixels.size < size + SLACK:
        return False
    offset = items.reads.offset[item] + 3 * top * image_width
    return system.read_range(items.reads.descriptor[item], address_of(memory.pixels), size, offset) == size


@inlined
def _augment(
    item: int,
    place: int,
    items: Items,
    picture: Picture,
    constants: Constants,
    slot: Slot,
    memory: Memory,
    entries: NDArray[np.int64],
) -> Word:
    """Whether a view with more to do than one resampling is in its row."""
    if entries.size <= ENTRY_AUGMENT:
        return False
    times = memory.tally[BEFORE_NS:COUNTS]
    spent = times[0] + times[1] + times[2]
    image = (np.int64(ALL), picture, place, items.parameters, items.extras)
    row = (constants, slot, items.rows[item], memory.scratch, memory.studio, entries, times)
    answer = call_of_integer(entries[ENTRY_AUGMENT], image + row)
    # What is left of the time is the resampling's: the caller adds all of it.
    memory.tally[RESIZE_NS] -= times[0] + times[1] + times[2] - spent
    return answer == DONE


@inlined
def _resample(
    item: int,
    place: int,
    items: Items,
    constants: Constants,
    slot: Slot,
    memory: Memory,
    entries: NDArray[np.int64],
) -> Word:
    """Whether a view of an item is in its row."""
    top, left, height, width = items.regions[place]
    image_height, image_width = items.reads.raw[item]
    if image_height > 0:
        left, width = np.int64(0), image_width
    else:
        image_height, image_width = memory.jpeg[IMAGE_HEIGHT], memory.jpeg[IMAGE_WIDTH]
    if place < items.extras.spans.shape[0] and items.extras.spans[place, SPECIAL] != 0:
        picture = Picture(memory.pixels, image_height, image_width, top, left, height, width)
        return _augment(item, place, items, picture, constants, slot, memory, entries)
    image = (memory.pixels, image_height, image_width, top, left, height, width)
    row = (items.parameters[place], constants, slot, items.rows[item], memory.scratch)
    answer = _call_resample(entries[ENTRY_RESAMPLE], image + row)
    return answer == DONE


@inlined
def _of_view(constants: Constants, view: int) -> Constants:
    """The constants of one view."""
    return Constants(
        constants.numbers[view],
        constants.table2[view],
        constants.table4[view],
        constants.scale[view],
        constants.bias[view],
    )


@inlined
def _block(slot: Slot, start: int) -> Slot:
    """The part of a slot that begins behind ``start`` values; what is empty stays so."""
    return Slot(slot.bytes1[start:], slot.bytes2[start:], slot.bytes4[start:])


@inlined
def _shares(place: int, items: Items) -> Word:
    """Whether a view needs the pixels that were decoded for the one before it, and finds them as they were decoded."""
    for side in range(4):
        if items.regions[place, side] != items.regions[place - 1, side]:
            return False
    spans = items.extras.spans
    return place > spans.shape[0] or spans[place - 1, BEFORE_BEGIN] >= spans[place - 1, BEFORE_END]


@inlined
def _deliver(
    item: int,
    items: Items,
    constants: Constants,
    slot: Slot,
    slot_rows: int,
    memory: Memory,
    entries: NDArray[np.int64],
) -> Word:
    """Whether all views of an item, whose file has been read (of bare pixels nothing yet), are in their rows."""
    tally, views = memory.tally, constants.numbers.shape[0]
    clock = move(address_of(tally), _CLOCK)
    raw = items.reads.raw[item, 0] > 0
    start = np.int64(0)
    for view in range(views):
        place = item * views + view
        if view == 0 or not _shares(place, items):
            before = system.clock_ns(clock)
            good = _read_rows(item, place, items, memory) if raw else _decode(item, place, items, memory, entries)
            tally[READ_NS if raw else DECODE_NS] += system.clock_ns(clock) - before
            if not good:
                return False
        before = system.clock_ns(clock)
        block = _block(slot, start)
        start += slot_rows * 3 * constants.numbers[view, OUT_HEIGHT] * constants.numbers[view, OUT_WIDTH]
        good = _resample(item, place, items, _of_view(constants, view), block, memory, entries)
        tally[RESIZE_NS] += system.clock_ns(clock) - before
        if not good:
            return False
    return True


@inlined
def _slot_of(task: NDArray[np.int64], kind: int) -> Slot:
    """A task's slot as the kernels take it."""
    address, values, none = unsigned(task[SLOT_ADDRESS]), task[SLOT_VALUES], np.int64(0)
    has1, has4 = kind == KIND_UINT8, kind == KIND_FLOAT32
    return Slot(
        system.bytes_at(address, values if has1 else none),
        system.halves_at(address, none if has1 or has4 else values),
        system.floats_at(address, values if has4 else none),
    )


@inlined
def _take_items(task: NDArray[np.int64], slot: Slot, share: Share) -> None:
    """Takes items and delivers them until none is left, MOST_LEFT could not be delivered, or the task is stopped."""
    items, memory = share.items, share.memory
    tally = memory.tally
    clock = move(address_of(tally), _CLOCK)
    counter = address_of(task)
    while task[STOP] == 0 and tally[NUM_LEFT] < MOST_LEFT:
        item = add_atomically(counter, 1)
        if item >= min(task[END_ITEM], items.rows.size):
            break
        raw = items.reads.raw[item, 0] > 0
        good = True
        if not raw:
            started = system.clock_ns(clock)
            good = _read(item, items.reads, memory)
            tally[READ_NS] += system.clock_ns(clock) - started
        if good and _deliver(item, items, share.constants, slot, task[SLOT_ROWS], memory, share.entries):
            items.delivered[item] = 1
            tally[NUM_DELIVERED] += 1
            tally[NUM_CHECKED] += items.reads.check[item]
            if raw:
                tally[NUM_RAW] += 1
                views = share.constants.numbers.shape[0]
                tally[NUM_BYTES] += 3 * items.regions[item * views, 2] * items.reads.raw[item, 1]
            else:
                tally[NUM_BYTES] += items.reads.size[item]
        else:
            tally[_LEFT + tally[NUM_LEFT]] = item
            tally[NUM_LEFT] += 1


@kernel
def deliver_items(frame: NDArray[np.int64], task: NDArray[np.int64]) -> Word:
    """Delivers a thread's part of a task; int64 <- ANSWER_LEFT and the others.

    Args:
        frame: What ``freeze_share`` has laid down.
        task: int64 (TASK,), see NEXT_ITEM.
    """
    share = _thaw(address_of(frame))
    tally = share.memory.tally
    tally[:COUNTS] = 0
    clock = move(address_of(tally), _CLOCK)
    tally[CALL_NS] = -system.thread_clock_ns(clock)
    _take_items(task, _slot_of(task, share.constants.numbers[0, KIND]), share)
    delivered = tally[NUM_DELIVERED]
    answer = delivered << ANSWER_BITS
    if tally[NUM_LEFT] > 0:
        answer |= ANSWER_LEFT
    if tally[NUM_CHECKED] > 0:
        answer |= ANSWER_CHECKED
    if tally[READ_NS] > delivered * _SLOW_NS_PER_IMAGE + tally[NUM_BYTES] // _SLOW_BYTES_PER_NS:
        answer |= ANSWER_SLOW
    tally[CALL_NS] += system.thread_clock_ns(clock)
    for word in range(COUNTS):
        tally[_TOTALS + word] += tally[word]
    return answer


@kernel
def read_ahead(descriptor: NDArray[np.int64], offset: NDArray[np.int64], size: NDArray[np.int64]) -> None:
    """Has the system read the images of a request while others are worked on (see Reads); those in open files only.

    All of a batch at once: a disk is driven at its bandwidth by many requests. An image that is in memory costs 1.9 us.
    """
    for item in range(descriptor.size):
        if descriptor[item] >= 0:
            system.will_need(descriptor[item], size[item], offset[item])


def read_totals(tally: NDArray[np.int64]) -> list[int]:
    """COUNTS words: the sums of all calls."""
    totals: list[int] = tally[_TOTALS : _TOTALS + COUNTS].tolist()
    return totals


def read_left(tally: NDArray[np.int64]) -> list[int]:
    """The items that the last call left."""
    left: list[int] = tally[_LEFT : _LEFT + int(tally[NUM_LEFT])].tolist()
    return left
