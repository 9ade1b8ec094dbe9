"""Coefficients to the bytes of one sequential scan, with restart markers: first its symbols, then their codes."""

from __future__ import annotations

from typing import Final

import numpy as np

from fastload.jit import fused, inlined, kernel
from fastload.jpeg.intrinsics import U64, U255, Word, bit_length, unsigned
from fastload.jpeg.recode import geometry as geo

# A token is a symbol of one of four tables and the bits that follow it (the symbol's lower half is their number):
# table << 19 | symbol << 11 | bits. Or it is this one, the end of a tile:
END_OF_TILE: Final = 1 << 21
# A block has at most 64 symbols and three runs of 16 zeros; a tile's end may follow.
BLOCK_TOKENS: Final = 72
# A token becomes at most 16 + 11 bits, each byte of which may be stuffed; a tile's end becomes a byte and a marker.
TOKEN_BYTES: Final = 16
OUT_OF_RANGE: Final = -1
BAD_CALL: Final = -2
_MOST_DC_BITS = 11  # what baseline decoders of 8-bit images have to take
_MOST_AC_BITS = 10
_RUN_OF_16 = np.int64(0xF0)
_32 = U64(32)
_24, _16, _8, _5, _11 = U64(24), U64(16), U64(8), U64(5), U64(11)
_31, _1023, _2047 = U64(31), U64(1023), U64(2047)
_LOW_32 = U64(0xFFFFFFFF)
_ONES, _HIGHS = U64(0x01010101), U64(0x80808080)
_END = U64(END_OF_TILE)


@fused
def _add(tokens: Word, count: Word, counts: Word, table: Word, symbol: Word, size: Word, value: Word) -> Word:
    """Notes one symbol and its value, as ``size`` bits; returns the new number of tokens."""
    bits = value if value >= 0 else value + (np.int64(1) << size) - 1
    tokens[count] = table << 19 | symbol << 11 | bits
    counts[table, symbol] += 1
    return count + 1


@inlined
def _add_block(
    tokens: Word, count: Word, counts: Word, values: Word, at: Word, last: Word, dc: Word, ac: Word, difference: Word
) -> Word:
    """The tokens of one block; returns their new number, OUT_OF_RANGE for what baseline JPEG does not have."""
    size = bit_length(difference)
    if size > _MOST_DC_BITS:
        return np.int64(OUT_OF_RANGE)
    count = _add(tokens, count, counts, dc, size, size, difference)
    before = np.int64(0)
    for k in range(1, last + 1):
        value = np.int64(values[at + k])
        if value == 0:
            continue
        run = k - before - 1
        while run > 15:
            count = _add(tokens, count, counts, ac, _RUN_OF_16, np.int64(0), np.int64(0))
            run -= 16
        size = bit_length(value)
        if size > _MOST_AC_BITS:
            return np.int64(OUT_OF_RANGE)
        count = _add(tokens, count, counts, ac, run << 4 | size, size, value)
        before = k
    if last < 63:
        count = _add(tokens, count, counts, ac, np.int64(0), np.int64(0), np.int64(0))
    return count


@kernel
def list_symbols(scan: Word, values: Word, last: Word, counts: Word, tokens: Word) -> Word:
    """Lists the symbols of a sequential scan whose tiles are scan[geometry.RESTART] MCUs long.

    Args:
        scan: int64[::1], geometry.WORDS.
        values, last: As in coefficients.Coefficients.
        counts: int64[:, ::1] (4, 257), zeros; out: how often each symbol of each table occurs.
        tokens: uint32[::1], out, BLOCK_TOKENS for each block and for five more.

    Returns:
        The number of tokens, or OUT_OF_RANGE or BAD_CALL.
    """
    if not geo.is_inside(scan, np.int64(last.size)) or values.size != 64 * last.size or scan[geo.RESTART] < 1:
        return np.int64(BAD_CALL)
    if counts.shape[0] != 4 or counts.shape[1] != 257 or tokens.size < 1:
        return np.int64(BAD_CALL)
    columns, interval = scan[geo.COLUMNS], scan[geo.RESTART]
    mcus = columns * scan[geo.ROWS]
    count = np.int64(0)
    for number in range(mcus):
        if number % interval == 0:
            for i in range(4):
                scan[geo.PREDICTORS + i] = 0
        row, column = number // columns, number % columns
        for i in range(scan[geo.PARTS]):
            part = geo.PART + geo.PART_WORDS * i
            across, dc, ac = scan[part + geo.ACROSS], scan[part + geo.DC] & 3, scan[part + geo.AC] & 3
            for v in range(scan[part + geo.DOWN]):
                first = scan[part] + (row * scan[part + geo.DOWN] + v) * scan[part + geo.STRIDE] + column * across
                if count > tokens.size - BLOCK_TOKENS * (across + 1):
                    return np.int64(BAD_CALL)
                for block in range(first, first + across):
                    mean = np.int64(values[64 * block])
                    difference = mean - scan[geo.PREDICTORS + i]
                    scan[geo.PREDICTORS + i] = mean
                    end = min(np.int64(last[block]), np.int64(63))
                    count = _add_block(tokens, count, counts, values, 64 * block, end, dc, ac, difference)
                    if count < 0:
                        return count
        if (number + 1) % interval == 0 or number + 1 == mcus:
            tokens[count] = END_OF_TILE
            count += 1
    return count


@fused
def _write_byte(out: Word, position: Word, byte: Word) -> Word:
    """One byte, and 00 behind it if it is FF."""
    out[position] = byte
    if byte == U255:
        out[position + 1] = 0
        return position + 2
    return position + 1


@inlined
def _end_tile(out: Word, position: Word, window: Word, used: Word, marker: Word) -> Word:
    """Writes the ``used`` bits that wait, filled up with ones, and a marker."""
    filling = -used & 7
    window = window << unsigned(filling) | ((U64(1) << unsigned(filling)) - U64(1))
    used += filling
    while used > 0:
        used -= 8
        position = _write_byte(out, position, (window >> unsigned(used)) & U255)
    out[position] = 0xFF
    out[position + 1] = marker
    return position + 2


@kernel
def write_scan(tokens: Word, count: Word, codes: Word, out: Word) -> Word:
    """Writes ``count`` tokens as entropy-coded bytes; RSTn follows each tile but the last, which EOI follows.

    Args:
        tokens: uint32[::1], as list_symbols leaves them.
        codes: uint64[::1] (1024,), for table << 8 | symbol: (code << size) << 5 | bits of the code and of the value.
        out: uint8[::1].

    Returns:
        Bytes written, or BAD_CALL where ``out`` is too short.
    """
    if count > tokens.size or codes.size != 1024:
        return np.int64(BAD_CALL)
    position, used, tiles = np.int64(0), np.int64(0), np.int64(0)
    window = U64(0)
    for i in range(count):
        token = U64(tokens[i])
        if position > out.size - TOKEN_BYTES:
            return np.int64(BAD_CALL)
        if token == _END:
            marker = 0xD9 if i == count - 1 else 0xD0 + (tiles & 7)
            position = _end_tile(out, position, window, used, marker)
            window, used = U64(0), np.int64(0)
            tiles += 1
            continue
        code = codes[(token >> _11) & _1023]
        window = window << (code & _31) | code >> _5 | (token & _2047)
        used += np.int64(code & _31)
        if used >= 32:
            used -= 32
            word = (window >> unsigned(used)) & _LOW_32
            if (~word - _ONES) & word & _HIGHS != U64(0):
                for shift in (_24, _16, _8, U64(0)):
                    position = _write_byte(out, position, (word >> shift) & U255)
            else:
                out[position], out[position + 1] = word >> _24, (word >> _16) & U255
                out[position + 2], out[position + 3] = (word >> _8) & U255, word & U255
                position += 4
    return position
