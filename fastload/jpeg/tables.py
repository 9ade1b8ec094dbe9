"""Huffman lookup tables: built for each image from the code lengths in its header, checked as libjpeg checks them.

An AC lookup takes the next 10 bits and yields up to two coefficients. On ImageNet 139 thousand coefficients of an image
take 87 thousand lookups that way; tables of 11 bits and more lose what they gain, by building time and cache misses.
Building the four tables of an image takes 14 us of 280. ImageNet's files have tables of their own, nearly every one
(1,937 distinct among 1,977); those of cameras and of most encoders have the same, and then what is there is kept.
"""

from __future__ import annotations

import numpy as np

from fastload.jit import inlined
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
    load_i64,
    load_u8,
    load_u64,
    low_bits,
    move,
    signed,
    store_i64,
    store_u8,
    store_u64,
    unsigned,
)

AC_BITS = 10
DC_BITS = 9

# An AC entry is eight bytes:
#   0  bits that the entry takes from the stream; 0: the code does not fit, take the slow path
#      (the run is END_OF_BLOCK then, so that the inner loop tests for nothing else)
#   1  how many of them, at the end, are bits of the last coefficient that the table could not see
#   2  4 x (zeros before the first coefficient + 1); END_OF_BLOCK if it is the end of the block
#   3  the same for the second coefficient; 0 if the entry has only one
#   4  last coefficient, int16, to which the unseen bits are added
#   6  first coefficient, int8, if there are two
#   7  bits that the first coefficient takes
# With one coefficient only, its value is "the last" and is stored over the first, which has the same place.
END_OF_BLOCK = 255  # 3 modulo 4, so that it shows in a sum of runs; and one comparison ends a block
# A DC entry is eight bytes too: 0 bits taken, 1 bits of the code, 2 minus the bits of the difference (modulo 64),
# 3 to 6 a mask of zeros if the difference has no bits, of ones otherwise.

# Behind the entries of a table lie what longer codes need: for each length 0 to 16 the first 16-bit prefix beyond all
# codes of at most that length, and what is to be added to a code to find its symbol; then the table as it is in a file
# (but first a byte that is 1 if all this was built from the rest, else 0; then 16 numbers of codes; the symbols).
LIMITS = 0
SYMBOL_OFFSETS = LIMITS + 8 * 17
SPEC = SYMBOL_OFFSETS + 8 * 17
SYMBOLS = SPEC + 17
TAIL_BYTES = 576
AC_TABLE_BYTES = (8 << AC_BITS) + TAIL_BYTES
DC_TABLE_BYTES = (8 << DC_BITS) + TAIL_BYTES
SCRATCH_BYTES = 8 << AC_BITS
assert SYMBOLS + 256 <= TAIL_BYTES

_AC_BITS = U64(AC_BITS)
# Typed, because a helper is compiled anew for every literal that it is called with.
_AC_LENGTH, _DC_LENGTH = np.int64(AC_BITS), np.int64(DC_BITS)
_NO, _YES = np.int64(0), np.int64(1)
_AC_SIZE = U64(1 << AC_BITS)
_DC_TABLE_END = U64(8 << DC_BITS)
_END = U64(END_OF_BLOCK)
_RUN_OF_16 = U64(0xF0)
_LOW_16 = U64(0xFFFF)
_MASK_24_TO_55 = U64(0xFFFFFFFF << 24)
_16, _24, _32, _48, _56 = U64(16), U64(24), U64(32), U64(48), U64(56)


@inlined
def _is_built(spec: Word, tail: Word) -> Word:
    """Whether a table holds what is at ``spec`` in a file; if not, that is copied to it for _read_codes."""
    size = np.int64(17)
    for i in range(1, 17):
        size += signed(load_u8(spec, i))
    same = load_u8(tail, SPEC) == U1
    for i in range(1, size):
        byte = load_u8(spec, i)
        same &= byte == load_u8(tail, SPEC + i)
        store_u8(tail, SPEC + i, byte)
    if not same:
        store_u8(tail, SPEC, U0)
    return same


@inlined
def _read_codes(tail: Word, bits: Word, scratch: Word, is_dc: Word) -> Word:
    """Assigns the canonical codes of the table at SPEC in ``tail`` and fills the rest of that.

    ``scratch`` gets, for each value of the next ``bits`` bits, symbol << 8 | code length as uint64, 0 where the code
    is longer. Returns False for what libjpeg refuses: too many codes of a length, or a DC category above 15.
    """
    for i in range(U0, U8 << U64(bits), U8):
        store_u64(scratch, i, U0)
    code = np.int64(0)
    symbol_number = np.int64(0)
    store_i64(tail, LIMITS, np.int64(0))
    store_i64(tail, SYMBOL_OFFSETS, np.int64(0))
    for length in range(np.int64(1), np.int64(17)):
        codes = signed(load_u8(tail, SPEC + length))
        store_i64(tail, SYMBOL_OFFSETS + 8 * length, symbol_number - code)
        if codes and code + codes >= np.int64(1) << length:  # the code of ones alone is not allowed
            return False
        for _ in range(codes):
            symbol = load_u8(tail, SYMBOLS + symbol_number)
            if is_dc == _YES and symbol > U15:
                return False
            if length <= bits:
                entry = symbol << U8 | unsigned(length)
                first = scratch + (unsigned(code) << U64(bits - length + 3))
                for at in range(first, first + (U8 << U64(bits - length)), U8):
                    store_u64(at, 0, entry)
            symbol_number += 1
            code += 1
        store_i64(tail, LIMITS + 8 * length, code << (16 - length))
        code <<= 1
    return True


@inlined
def _value(bits: Word, size: Word) -> Word:
    """The coefficient that ``size`` bits mean, of which ``bits`` holds a beginning followed by zeros."""
    value = signed(bits)
    if bits >> (size - U1) == U0:
        value -= signed((U1 << size) - U1)
    return value


@inlined
def _pair_entry(i: Word, singles: Word) -> Word:
    """The AC entry for the next ten bits ``i``."""
    bits = _AC_BITS
    single = load_u64(singles, (i << U3))
    length = single & U255
    symbol = single >> U8
    size = symbol & U15
    if length == U0 or (size != U0 and length == bits):
        return _END << _16
    taken = length + size
    run = ((symbol >> U4) + U1) << U2
    if size == U0 and symbol != _RUN_OF_16:  # libjpeg takes every such symbol for the end of the block
        return taken | _END << _16 | taken << _56
    if taken > bits:
        unseen = taken - bits
        seen = low_bits(i, size - unseen)
        value = _value(seen << unseen, size)
        return taken | unseen << U8 | run << _16 | (unsigned(value) & _LOW_16) << _32 | taken << _56
    value = np.int64(0)
    if size != U0:
        value = _value(low_bits(i >> (bits - taken), size), size)
    entry = taken | run << _16 | (unsigned(value) & _LOW_16) << _32 | taken << _56
    if size > U7 or taken == bits:
        return entry
    single = load_u64(singles, (low_bits(i << taken, bits) << U3))
    length = single & U255
    symbol = single >> U8
    size = symbol & U15
    seen = bits - taken
    if length == U0 or length > seen or (size != U0 and length == seen):
        return entry
    first = value
    unseen = U0
    value = np.int64(0)
    run_of_second = ((symbol >> U4) + U1) << U2
    if size == U0 and symbol != _RUN_OF_16:
        run_of_second = _END
    elif size != U0:
        seen -= length
        if size > seen:
            unseen = size - seen
            value = _value(low_bits(i, seen) << unseen, size)
        else:
            value = _value(low_bits(i >> (seen - size), size), size)
    return (
        (taken + length + size)
        | unseen << U8
        | run << _16
        | run_of_second << _24
        | (unsigned(value) & _LOW_16) << _32
        | (unsigned(first) & U255) << _48
        | taken << _56
    )


@inlined
def build_ac_table(spec: Word, table: Word, scratch: Word) -> Word:
    """Makes the AC_TABLE_BYTES of one table from the one in a file (the address of its Tc/Th byte).

    False if that is not a valid code. ``scratch``: address of SCRATCH_BYTES.
    """
    tail = move(table, 8 << AC_BITS)
    if _is_built(spec, tail):
        return True
    if not _read_codes(tail, _AC_LENGTH, scratch, _NO):
        return False
    for i in range(U0, _AC_SIZE):
        store_u64(table, i << U3, _pair_entry(i, scratch))
    store_u8(tail, SPEC, U1)
    return True


@inlined
def build_dc_table(spec: Word, table: Word, scratch: Word) -> Word:
    """The same for the DC_TABLE_BYTES of a DC table."""
    tail = move(table, 8 << DC_BITS)
    if _is_built(spec, tail):
        return True
    if not _read_codes(tail, _DC_LENGTH, scratch, _YES):
        return False
    for i in range(U0, _DC_TABLE_END, U8):
        single = load_u64(scratch, i)
        length = single & U255
        size = single >> U8
        entry = U0
        if length != U0:
            entry = (length + size) | length << U8 | ((U0 - size) & U63) << _16
            if size != U0:
                entry |= _MASK_24_TO_55
        store_u64(table, i, entry)
    store_u8(tail, SPEC, U1)
    return True


@inlined
def build_lookup_table(spec: Word, table: Word, is_dc: Word) -> Word:
    """The DC_TABLE_BYTES of a plain table, DC (``is_dc`` 1) or AC (0).

    For each value of the next DC_BITS bits symbol << 8 | code length, 0 for what find_long_code has to find. False if
    the table in the file is not a valid code.
    """
    tail = move(table, 8 << DC_BITS)
    if _is_built(spec, tail):
        return True
    if not _read_codes(tail, _DC_LENGTH, table, is_dc):
        return False
    store_u8(tail, SPEC, U1)
    return True


@inlined
def find_long_code(window: Word, tail: Word, bits: Word) -> Word:
    """The symbol at the head of a 64-bit window whose code has at least ``bits`` bits, as symbol << 8 | code length.

    0 if no code begins like that.
    """
    prefix = signed(window >> _48)
    length = bits
    for shorter in range(bits, 16):
        if prefix >= load_i64(tail, LIMITS + 8 * shorter):
            length += 1
    if prefix >= load_i64(tail, LIMITS + 8 * 16):
        return U0
    offset = load_i64(tail, SYMBOL_OFFSETS + 8 * length)
    symbol = load_u8(tail, SYMBOLS + (((prefix >> (16 - length)) + offset) & 255))
    return symbol << U8 | unsigned(length)
