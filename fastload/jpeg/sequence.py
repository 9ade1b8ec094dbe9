"""Decoding from the beginning of the scan, or of a restart segment, where no seek index says where to begin.

A segment is what lies between two restart markers; a scan without them is one segment. Restart markers can be found
without decoding, so that segments above the rectangle are skipped.
"""

from __future__ import annotations

import numpy as np

from fastload.jit import inlined
from fastload.jpeg import workspace as ws
from fastload.jpeg.bits import find_marker, unstuff
from fastload.jpeg.entropy import (
    COMMON_LIMIT,
    READ_AHEAD,
    TILE_END,
    TILE_FIRST,
    TILE_LAST,
    TILE_PREDICTORS,
    TILE_START,
    TILE_TARGET,
    decode_tile,
)
from fastload.jpeg.header import SCAN
from fastload.jpeg.intrinsics import (
    U0,
    U1,
    U3,
    U255,
    Word,
    address_of,
    load_i64,
    load_u8,
    move,
    signed,
    store_i64,
    store_u64,
    unsigned,
)


@inlined
def open_scan(work: Word, data: Word) -> None:
    """Puts the decoder before the first segment of the scan in the file at the address ``data``."""
    work[ws.NEXT_SOURCE] = signed(data) + work[SCAN]
    work[ws.SEGMENT] = 0
    work[ws.NEXT_MCU] = 0
    work[ws.SEGMENT_END] = 0


@inlined
def _pass_marker(work: Word, marker: Word, end: Word) -> Word:
    """Moves behind the marker that has to follow a segment; False if another one does."""
    while marker < end and load_u8(marker, 0) == U255:
        marker += U1
    if marker >= end:
        return False
    code = signed(load_u8(marker, 0))
    mcus = work[ws.MCU_COLUMNS] * work[ws.MCU_ROWS]
    if work[ws.SEGMENT_END] == mcus:
        return code == 0xD9
    if code != 0xD0 + (work[ws.SEGMENT] & 7):
        return False
    work[ws.NEXT_SOURCE] = signed(marker + U1)
    work[ws.SEGMENT] += 1
    return True


@inlined
def open_segment(work: Word, end: Word) -> Word:
    """Unstuffs the next segment of a file that ends at the address ``end``."""
    memory = address_of(work)
    mcus = work[ws.MCU_COLUMNS] * work[ws.MCU_ROWS]
    interval = work[ws.RESTART]
    work[ws.SEGMENT_END] = mcus if interval == 0 else min(mcus, work[ws.NEXT_MCU] + interval)
    source = unsigned(work[ws.NEXT_SOURCE])
    bits = move(memory, work[ws.BITS] + ws.HEAD_GUARD)
    marker, bits_end = unstuff(source, end, end, bits)
    # What a damaged segment reads behind its end is zeros, not what an earlier image left there.
    for i in range(0, 256, 8):
        store_u64(bits_end, i, U0)
    work[ws.LIMIT_BIT] = signed(bits_end << U3)
    store_u64(memory, ws.COMMON + COMMON_LIMIT, move(bits_end, READ_AHEAD))
    tile = move(memory, work[ws.TILES])
    store_u64(tile, TILE_END, bits << U3)
    for i in range(3):
        store_i64(tile, TILE_PREDICTORS + 8 * i, np.int64(0))
    return _pass_marker(work, marker, end)


@inlined
def skip_segments(work: Word, end: Word, mcu: Word) -> Word:
    """Moves to the beginning of the segment that holds MCU number ``mcu``, if that is not behind; False on damage."""
    interval = work[ws.RESTART]
    if interval == 0:
        return True
    while work[ws.SEGMENT_END] + interval <= mcu:
        work[ws.SEGMENT_END] += interval
        if not _pass_marker(work, find_marker(unsigned(work[ws.NEXT_SOURCE]), end), end):
            return False
    if work[ws.SEGMENT_END] <= mcu:  # the rest of an open segment is not needed either
        work[ws.NEXT_MCU] = work[ws.SEGMENT_END]
    return True


@inlined
def decode_run(work: Word, end: Word, mcus: Word, first: Word, target: Word) -> Word:
    """Decodes the next ``mcus`` MCUs as columns ``first``, first + 1 ... of the plan; False on damage.

    At the end of each segment nothing but filling bits may be left.
    """
    memory = address_of(work)
    common = move(memory, ws.COMMON)
    tile = move(memory, work[ws.TILES])
    while mcus > 0:
        if work[ws.NEXT_MCU] == work[ws.SEGMENT_END] and not open_segment(work, end):
            return False
        some = min(mcus, work[ws.SEGMENT_END] - work[ws.NEXT_MCU])
        store_i64(tile, TILE_START, load_i64(tile, TILE_END))
        store_i64(tile, TILE_FIRST, first)
        store_i64(tile, TILE_LAST, first + some)
        store_i64(tile, TILE_TARGET, target)
        decode_tile(common, tile)
        first += some
        mcus -= some
        work[ws.NEXT_MCU] += some
        left = work[ws.LIMIT_BIT] - load_i64(tile, TILE_END)
        if left < 0 or (work[ws.NEXT_MCU] == work[ws.SEGMENT_END] and left > 7):
            return False
    return True
