"""Huffman decoding: runs of MCUs from bits to coefficients, two independent runs at a time.

A bit reader is three uint64 in registers: ``pointer`` to the next byte, ``window`` with the next bits on top, and
``valid``, how many of them are known. Every lookup refills without a branch: load eight bytes, or them in below the
valid ones, advance by whole bytes, and at least 56 are valid. (A conditional refill cost 56 us of 340 an image.)

Decoding one symbol waits for the one before it. Two runs decoded in turns fill those waits: 340 -> 294 us. Tried and
left: three runs in turns (470 us where two take 448, the registers do not suffice); a reader that is a single bit
address and loads anew for each lookup (three runs in turns 455, but one alone 720 where this one takes 500).
"""

from __future__ import annotations

import numpy as np

from fastload.jit import fused, inlined
from fastload.jpeg.intrinsics import (
    U0,
    U1,
    U2,
    U3,
    U4,
    U7,
    U8,
    U15,
    U63,
    U64,
    U255,
    Word,
    load_big_endian,
    load_i8,
    load_i16,
    load_i64,
    load_u8,
    load_u64,
    low_bits,
    move,
    shift_left,
    shift_right,
    signed,
    store_i16,
    store_i64,
    store_u64,
    unlikely,
    unsigned,
)
from fastload.jpeg.tables import AC_BITS, DC_BITS, END_OF_BLOCK, find_long_code

# Coefficients lie in groups of 16 neighbouring blocks of one component, coefficient by coefficient in zigzag order:
# 64 rows of 16 int16, then one row that takes what a damaged file puts behind the end of a block, then for each block
# the greatest zigzag position before its end-of-block symbol, times four.
GROUP_BYTES = 66 * 32
_SPILL = U64(4 * 64)
_EXTENTS = U64(65 * 32)

# A tile is a run of MCUs of one row with a known beginning. Its record holds int64 at these offsets in bytes:
TILE_START = 0  # bit address of its first MCU
TILE_END = 8  # out: bit address behind its last MCU
TILE_FIRST = 16  # column of its first MCU, counted from the first one that is wanted; may be negative
TILE_LAST = 24  # column behind its last MCU
TILE_TARGET = 32  # bytes to add to where the blocks of a plan go
TILE_PREDICTORS = 40  # DC predictors of three components: before, and when it is done after
# and what it will be compared with when it is done (index.py):
TILE_EXPECTED_END = 64
TILE_WHOLE = 72  # 0: decoded in part, has to end before the expected address; 1: ends there; 2: the image's last one
TILE_EXPECTED_PREDICTORS = 80
TILE_BYTES = 104

# The plan of an MCU is a list of records, one for each of its blocks, of uint64 at these offsets:
PLAN_TARGET = 0  # address of the group that holds column 0 of the block's row
PLAN_STEP = 8  # blocks of the component in one row of an MCU
PLAN_OFFSET = 16  # which of them this is
PLAN_DC = 24  # address of the DC table
PLAN_AC = 32  # address of the AC table
PLAN_PREDICTOR = 40  # offset of the predictor in a tile's record, bytes
PLAN_BYTES = 48
_PLAN_STEP = U64(PLAN_BYTES)
_TILE_STEP = U64(TILE_BYTES)

# What all streams share is another record of uint64:
COMMON_LIMIT = 0  # no block begins with a reader whose pointer is further; READ_AHEAD behind the last byte
COMMON_PLAN = 8
COMMON_PLAN_END = 16
COMMON_DUMMY = 24  # group that takes the coefficients of unwanted MCUs
COMMON_DAMAGE = 32  # set to 1 where the bits mean nothing: a code that is not in the table, a block of over 64 values
COMMON_BYTES = 40
READ_AHEAD = 8  # bytes by which a reader's pointer may be ahead of its bits

_AC_SHIFT = U64(64 - AC_BITS)
_DC_SHIFT = U64(64 - DC_BITS)
_AC_TAIL = U64(8 << AC_BITS)
_DC_TAIL = U64(8 << DC_BITS)
_AC_LENGTH = np.int64(AC_BITS)
_DC_LENGTH = np.int64(DC_BITS)
_BLOCK_DONE = U64(4 * 63)
_END_OF_BLOCK = U64(END_OF_BLOCK)
_RUN_OF_16 = U64(0xF0)
_GROUP_STEP = U64(GROUP_BYTES)
_16, _56, _64 = U64(16), U64(56), U64(64)


@fused
def _extend(top: Word, minus_size: Word) -> Word:
    """The signed value of the highest (64 - minus_size) mod 64 bits of ``top``; not for sizes of 0."""
    inverse = unsigned(~(signed(top) >> 63))
    return signed(shift_right(top, minus_size)) - signed(shift_right(inverse, minus_size))


@inlined
def _slow_dc(window: Word, table: Word, damage: Word) -> Word:
    """The DC entry that is not in the table, as size << 8 | code length."""
    found = find_long_code(window, table + _DC_TAIL, _DC_LENGTH)
    if found == U0:
        store_u64(damage, 0, U1)
        return _16
    return found


@inlined
def _slow_ac(window: Word, position: Word, block: Word, table: Word, damage: Word) -> Word:
    """One AC symbol that is not in the table; returns the bits it takes and the position."""
    found = find_long_code(window, table + _AC_TAIL, _AC_LENGTH)
    if found == U0:
        store_u64(damage, 0, U1)
        return U1, _BLOCK_DONE
    symbol = found >> U8
    length = found & U255
    size = symbol & U15
    if size == U0:
        if symbol != _RUN_OF_16:
            return length, position + _END_OF_BLOCK
        position += _64
    else:
        position += ((symbol >> U4) + U1) << U2
        if position <= _BLOCK_DONE:
            store_i16(block, position << U3, _extend(shift_left(window, length), U0 - size))
    if position > _BLOCK_DONE:
        store_u64(damage, 0, U1)
    return length + size, position


@fused
def _open(bit: Word) -> Word:
    """The reader (pointer, window, valid) at a bit address."""
    pointer = bit >> U3
    skipped = bit & U7
    return pointer + U7, load_big_endian(pointer) << skipped, _56 - skipped


@fused
def _begin_block(common: Word, pointer: Word, window: Word, valid: Word, plan: Word, column: Word, tile: Word) -> Word:
    """Decodes the DC value of a block; returns the reader, the block's address and its AC table."""
    limit = load_u64(common, COMMON_LIMIT)
    if pointer > limit:
        pointer = limit
    column = column * load_u64(plan, PLAN_STEP) + load_u64(plan, PLAN_OFFSET)
    block = load_u64(plan, 0) + load_u64(tile, TILE_TARGET)
    block += (column >> U4) * _GROUP_STEP + ((column & U15) << U1)
    if signed(column) < 0:
        block = load_u64(common, COMMON_DUMMY)
    window |= shift_right(load_big_endian(pointer), valid)
    pointer += (U63 - valid) >> U3
    valid |= _56
    table = load_u64(plan, PLAN_DC)
    entry = load_u64(table, (window >> _DC_SHIFT) << U3)
    taken = entry & U63
    length = entry >> U8
    minus_size = entry >> _16
    mask = signed(entry << U8) >> 32
    if unlikely(taken == U0):
        found = _slow_dc(window, table, move(common, COMMON_DAMAGE))
        length = found & U255
        size = found >> U8
        minus_size = U0 - size
        taken = length + size
        mask = np.int64(-1) if size != U0 else np.int64(0)
    predictor = tile + load_u64(plan, PLAN_PREDICTOR)
    value = load_i64(predictor, 0) + (_extend(shift_left(window, length), minus_size) & mask)
    store_i64(predictor, 0, value)
    store_i16(block, 0, value)
    return pointer, shift_left(window, taken), valid - taken, block, load_u64(plan, PLAN_AC)


@inlined
def _unusual_end(window: Word, position: Word, block: Word, table: Word, damage: Word) -> Word:
    """A lookup that the table does not answer, or whose second symbol lies behind the end of the block, or damage.

    ``position`` is the one before the lookup. Returns the bits it takes and the position behind it.
    """
    entry = table + ((window >> _AC_SHIFT) << U3)
    if load_u8(entry, 0) == U0:
        return _slow_ac(window, position, block, table, damage)
    position += load_u8(entry, 2)
    if position != _BLOCK_DONE:
        store_u64(damage, 0, U1)
        return U1, _BLOCK_DONE
    store_i16(block, position << U3, load_i8(entry, 6))
    return load_u8(entry, 7), position


@fused
def _begin_tile(common: Word, tile: Word) -> Word:
    """The state of a stream after the first DC value of a tile."""
    plan = load_u64(common, COMMON_PLAN)
    column = load_u64(tile, TILE_FIRST)
    pointer, window, valid = _open(load_u64(tile, TILE_START))
    pointer, window, valid, block, table = _begin_block(common, pointer, window, valid, plan, column, tile)
    return pointer, window, valid, U0, block, table, plan, column, tile


@fused
def _advance(
    common: Word,
    following: Word,
    end: Word,
    pointer: Word,
    window: Word,
    valid: Word,
    position: Word,
    block: Word,
    table: Word,
    plan: Word,
    column: Word,
    tile: Word,
) -> Word:
    """Moves a stream by one lookup, and on to the next block, MCU and tile where one ends.

    When there is no tile left, ``position`` stays at _BLOCK_DONE or above, and else it never is.
    """
    refill = load_big_endian(pointer)
    entry = table + ((window >> _AC_SHIFT) << U3)
    taken = load_u8(entry, 0)
    unseen = load_u8(entry, 1)
    position_1 = position + load_u8(entry, 2)
    position_2 = position_1 + load_u8(entry, 3)
    value_2 = load_i16(entry, 4)
    value_1 = load_i8(entry, 6)
    window |= shift_right(refill, valid)
    pointer += (U63 - valid) >> U3
    valid |= _56
    value_2 += signed(low_bits(shift_right(window, U0 - taken), unseen))
    if unlikely(position_2 >= _BLOCK_DONE):
        # Whether the block ends with the first symbol or with the second cannot be predicted: no branch on it.
        usual_1 = (position_1 < _BLOCK_DONE) | (position_2 == position_1)
        usual_2 = (position_2 == _BLOCK_DONE) | (position_2 & U3 == U3)
        if unlikely(not (usual_1 & usual_2 & (taken != U0))):
            taken, position_2 = _unusual_end(window, position, block, table, move(common, COMMON_DAMAGE))
        else:
            where = position_1
            if position_1 > _BLOCK_DONE:
                where = _SPILL
            store_i16(block, where << U3, value_1)
            where = position_2
            if position_2 > _BLOCK_DONE:
                where = _SPILL
            store_i16(block, where << U3, value_2)
        window = shift_left(window, taken)
        valid -= taken
        position = position_2
        if position >= _BLOCK_DONE:
            extent = _BLOCK_DONE
            if position > _BLOCK_DONE:
                extent = position - _END_OF_BLOCK
            store_i16(block, _EXTENTS, signed(extent))
            plan += _PLAN_STEP
            if plan == load_u64(common, COMMON_PLAN_END):
                plan = load_u64(common, COMMON_PLAN)
                column += U1
                if column == load_u64(tile, TILE_LAST):
                    store_u64(tile, TILE_END, (pointer << U3) - valid)
                    tile = following
                    following += _TILE_STEP
                    if tile != end:
                        pointer, window, valid = _open(load_u64(tile, TILE_START))
                        column = load_u64(tile, TILE_FIRST)
            if tile != end:
                pointer, window, valid, block, table = _begin_block(common, pointer, window, valid, plan, column, tile)
                position = U0
    else:
        store_i16(block, position_1 << U3, value_1)
        store_i16(block, position_2 << U3, value_2)
        window = shift_left(window, taken)
        valid -= taken
        position = position_2
    return following, pointer, window, valid, position, block, table, plan, column, tile


@inlined
def _run_alone(
    common: Word,
    following: Word,
    end: Word,
    pointer: Word,
    window: Word,
    valid: Word,
    position: Word,
    block: Word,
    table: Word,
    plan: Word,
    column: Word,
    tile: Word,
) -> None:
    """Moves one stream on until there is no tile left."""
    while position < _BLOCK_DONE:
        following, pointer, window, valid, position, block, table, plan, column, tile = _advance(
            common, following, end, pointer, window, valid, position, block, table, plan, column, tile
        )


@inlined
def decode_tile(common: Word, tile: Word) -> None:
    """Decodes one tile of at least one MCU."""
    end = tile + _TILE_STEP
    pointer, window, valid, position, block, table, plan, column, tile = _begin_tile(common, tile)
    _run_alone(common, end, end, pointer, window, valid, position, block, table, plan, column, tile)


@inlined
def decode_tiles(common: Word, tile: Word, tiles: Word) -> None:
    """Decodes ``tiles`` >= 1 tiles, of at least one MCU each, whose records lie one after the other from ``tile``."""
    if tiles == 1:
        decode_tile(common, tile)
        return
    end = move(tile, tiles * TILE_BYTES)
    pointer_a, window_a, valid_a, position_a, block_a, table_a, plan_a, column_a, tile_a = _begin_tile(common, tile)
    tile += _TILE_STEP
    pointer_b, window_b, valid_b, position_b, block_b, table_b, plan_b, column_b, tile_b = _begin_tile(common, tile)
    following = tile + _TILE_STEP
    while True:
        following, pointer_a, window_a, valid_a, position_a, block_a, table_a, plan_a, column_a, tile_a = _advance(
            common, following, end,
            pointer_a, window_a, valid_a, position_a, block_a, table_a, plan_a, column_a, tile_a,
        )  # fmt: skip
        if unlikely(position_a >= _BLOCK_DONE):
            _run_alone(
                common, end, end,
                pointer_b, window_b, valid_b, position_b, block_b, table_b, plan_b, column_b, tile_b,
            )  # fmt: skip
            return
        following, pointer_b, window_b, valid_b, position_b, block_b, table_b, plan_b, column_b, tile_b = _advance(
            common, following, end,
            pointer_b, window_b, valid_b, position_b, block_b, table_b, plan_b, column_b, tile_b,
        )  # fmt: skip
        if unlikely(position_b >= _BLOCK_DONE):
            _run_alone(
                common, end, end,
                pointer_a, window_a, valid_a, position_a, block_a, table_a, plan_a, column_a, tile_a,
            )  # fmt: skip
            return
