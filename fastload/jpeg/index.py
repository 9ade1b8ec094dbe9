"""The seek index of one image: where, and with which DC predictors, decoding can begin in the middle of its scan.

Entries are the beginnings of tiles, runs of ``step`` MCUs of one row. As bytes, little-endian:

    0   uint8   step
    1   uint8   bits of a position in a row (0 to 32)
    2   uint8 x 3   bits of a DC predictor, relative to the row's (0 to 16)
    5   uint8   components
    6   uint16  MCUs in a row
    8   uint16  rows of MCUs
    10  uint32  bit position behind the last MCU
    14  for each row: uint32 bit position, int16 DC predictor of each component
        then packed, for each row and each tile but the first: position relative to the row's, DC predictors relative
        to the row's, with the bits given above, the lowest bits first
        then eight bytes of zeros, so that eight bytes can be loaded where any packed field begins, even an empty one

Bit positions count in the file as it is, stuffing included, from its first byte. An entry can be read without those
before it, which costs 10 % more bytes than differences from entry to entry would. An image of ImageNet takes 2.1 KB
with a step of 8 (decoder.INDEX_STEP says why 8).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fastload.jit import inlined
from fastload.jpeg import workspace as ws
from fastload.jpeg.bits import UNSTUFF_SLACK, unstuff
from fastload.jpeg.entropy import (
    COMMON_LIMIT,
    READ_AHEAD,
    TILE_BYTES,
    TILE_END,
    TILE_EXPECTED_END,
    TILE_EXPECTED_PREDICTORS,
    TILE_FIRST,
    TILE_LAST,
    TILE_PREDICTORS,
    TILE_START,
    TILE_TARGET,
    TILE_WHOLE,
)
from fastload.jpeg.intrinsics import (
    U3,
    Word,
    address_of,
    load_i16,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    load_u64,
    low_bits,
    move,
    shift_left,
    shift_right_signed,
    signed,
    store_i64,
    store_u64,
    unsigned,
)

HEADER_BYTES: Final = 14
PADDING: Final = 8
STEP: Final = 0
POSITION_BITS: Final = 1
DC_BITS: Final = 2
COMPONENTS: Final = 5
COLUMNS: Final = 6
ROWS: Final = 8
END: Final = 10


@inlined
def check_index(index: Word, size: Word, work: Word) -> Word:
    """Whether ``size`` bytes at the address ``index`` can be the index of the image whose geometry is in ``work``."""
    if size < HEADER_BYTES + PADDING:
        return False
    components = work[ws.COMPONENTS]
    columns = work[ws.MCU_COLUMNS]
    rows = work[ws.MCU_ROWS]
    step = signed(load_u8(index, STEP))
    if step == 0 or signed(load_u8(index, COMPONENTS)) != components:
        return False
    if signed(load_u16(index, COLUMNS)) != columns or signed(load_u16(index, ROWS)) != rows:
        return False
    bits = signed(load_u8(index, POSITION_BITS))
    if bits > 32:
        return False
    for i in range(components):
        dc_bits = signed(load_u8(index, DC_BITS + i))
        if dc_bits > 16:
            return False
        bits += dc_bits
    packed = rows * ((columns - 1) // step) * bits
    return size >= HEADER_BYTES + rows * (4 + 2 * components) + (packed + 7) // 8 + PADDING


@inlined
def _read_entry(index: Word, work: Word, row: Word, tile: Word, others: Word, entry_bits: Word, to: Word) -> Word:
    """Stores the three DC predictors before a tile at an address and returns its bit position.

    ``others``: tiles of a row behind its first; ``entry_bits``: bits of a packed entry. The tile behind the last one of
    a row is the first of the next; the one behind the last row has no predictors (what is stored there is left alone).
    """
    components = work[ws.COMPONENTS]
    rows = work[ws.MCU_ROWS]
    if tile > others:
        row += 1
        tile = 0
    if row == rows:
        return signed(load_u32(index, END))
    row_bytes = 4 + 2 * components
    at = move(index, HEADER_BYTES + row * row_bytes)
    position = signed(load_u32(at, 0))
    for i in range(components):
        store_i64(to, 8 * i, load_i16(at, 4 + 2 * i))
    if tile == 0:
        return position
    position_bits = signed(load_u8(index, POSITION_BITS))
    at = move(index, HEADER_BYTES + rows * row_bytes)
    bit = (row * others + tile - 1) * entry_bits
    position += signed(low_bits(load_u64(at, bit >> 3) >> unsigned(bit & 7), position_bits))
    bit += position_bits
    for i in range(components):
        dc_bits = signed(load_u8(index, DC_BITS + i))
        if dc_bits != 0:
            top = shift_left(load_u64(at, bit >> 3) >> unsigned(bit & 7), unsigned(-dc_bits))
            store_i64(to, 8 * i, load_i64(to, 8 * i) + shift_right_signed(top, unsigned(-dc_bits)))
            bit += dc_bits
    return position


@inlined
def lay_tiles(index: Word, work: Word, data: Word, length: Word, first_row: Word, rows: Word) -> Word:
    """Unstuffs the bytes of the tiles of some rows that the rectangle needs, and writes the tiles' records.

    Returns how many tiles there are, or minus one where the index cannot be true of these bytes.
    """
    memory = address_of(work)
    step = signed(load_u8(index, STEP))
    columns = work[ws.MCU_COLUMNS]
    first_column = work[ws.FIRST_COLUMN]
    end_column = first_column + work[ws.COLUMNS]
    first_tile = first_column // step
    tiles = (end_column - 1) // step + 1 - first_tile
    others = (columns - 1) // step
    entry_bits = signed(load_u8(index, POSITION_BITS))
    for i in range(work[ws.COMPONENTS]):
        entry_bits += signed(load_u8(index, DC_BITS + i))
    record = move(memory, work[ws.TILES])
    target = move(memory, work[ws.BITS] + ws.HEAD_GUARD)
    target_end = move(target, work[ws.MAX_BYTES])
    data_end = move(data, length)
    for row in range(first_row, first_row + rows):
        tile = first_tile
        position = _read_entry(index, work, row, tile, others, entry_bits, move(record, TILE_PREDICTORS))
        for _ in range(tiles):
            expected = move(record, TILE_EXPECTED_PREDICTORS)
            end = _read_entry(index, work, row, tile + 1, others, entry_bits, expected)
            if end < position or (end >> 3) >= length:
                return np.int64(-1)
            source_end = move(data, end >> 3)
            if move(target, (end >> 3) - (position >> 3) + 4 + UNSTUFF_SLACK) > target_end:
                return np.int64(-1)
            stop, following = unstuff(move(data, position >> 3), source_end, data_end, target)
            if stop != source_end:
                return np.int64(-1)
            store_u64(record, TILE_START, (target << U3) + unsigned(position & 7))
            store_u64(record, TILE_EXPECTED_END, (following << U3) + unsigned(end & 7))
            tile_end = min((tile + 1) * step, columns)
            whole = np.int64(tile_end <= end_column)
            if row == work[ws.MCU_ROWS] - 1 and tile_end == columns:
                whole <<= 1  # nothing follows whose predictors could be compared
            store_i64(record, TILE_WHOLE, whole)
            store_i64(record, TILE_FIRST, tile * step - first_column)
            store_i64(record, TILE_LAST, min(tile_end, end_column) - first_column)
            store_i64(record, TILE_TARGET, (row - first_row) * work[ws.ROW_BYTES])
            for i in range(0, 24, 8):
                predictor = load_i64(record, TILE_EXPECTED_PREDICTORS + i)
                store_i64(record, TILE_BYTES + TILE_PREDICTORS + i, predictor)
            record = move(record, TILE_BYTES)
            target = following
            position = end
            tile += 1
        # The byte in which the last tile ends is needed too, and may be stuffed.
        source_end = move(data, min((position >> 3) + 2, length))
        _, target = unstuff(move(data, position >> 3), source_end, data_end, target)
    store_u64(memory, ws.COMMON + COMMON_LIMIT, move(target, READ_AHEAD))
    return tiles * rows


@inlined
def check_tiles(work: Word, tiles: Word) -> Word:
    """Whether decoded tiles ended where, and with the predictors with which, the next ones begin."""
    record = move(address_of(work), work[ws.TILES])
    good = True
    for _ in range(tiles):
        end = load_i64(record, TILE_END)
        expected = load_i64(record, TILE_EXPECTED_END)
        whole = load_i64(record, TILE_WHOLE)
        if whole == 0:
            good &= end <= expected
        else:
            good &= end == expected
        if whole == 1:
            for i in range(0, 8 * work[ws.COMPONENTS], 8):
                predictor = load_i64(record, TILE_PREDICTORS + i)
                good &= predictor == load_i64(record, TILE_EXPECTED_PREDICTORS + i)
        record = move(record, TILE_BYTES)
    return good
