"""Decodes one scan of a JPEG file into coefficients: sequential or progressive, of any components, with restarts.

Plain code where entropy.py is quick: every symbol is looked up in eight freshly loaded bytes, at a bit position that is
the reader's whole state. A block begins at or before the last bit of its segment and takes at most 64 codes of 31 bits
and 64 bits of correction, so that nothing is read beyond the SLACK zeros behind a segment.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fastload.jit import fused, inlined, kernel
from fastload.jpeg.bits import unstuff
from fastload.jpeg.intrinsics import (
    U0,
    U1,
    U3,
    U8,
    U15,
    U63,
    U64,
    U255,
    Word,
    address_of,
    load_big_endian,
    load_u8,
    load_u64,
    move,
    shift_left,
    shift_right,
    signed,
    store_u64,
    unsigned,
)
from fastload.jpeg.recode import geometry as geo
from fastload.jpeg.tables import DC_BITS, DC_TABLE_BYTES, build_lookup_table, find_long_code

SLACK: Final = 512  # bytes behind the bits of a segment; `bits` has so many more than the file, and some to write over
BITS_EXTRA: Final = 2 * SLACK
TABLE_WORDS: Final = DC_TABLE_BYTES // 8  # of a lookup table; there are two for each component
DAMAGED: Final = -1
BAD_TABLE: Final = -2
BAD_CALL: Final = -3

_LENGTH = np.int64(DC_BITS)
_SHIFT = U64(64 - DC_BITS)
_TAIL = 8 << DC_BITS
_BAD = np.int64(-1)
_ZERO = np.int64(0)
_DC, _AC = np.int64(1), np.int64(0)
_LARGEST = 32767
_16 = U64(16)


@fused
def _peek(bits: Word, bit: Word) -> Word:
    """The 57 bits and more that follow a bit position, on top of a word."""
    return shift_left(load_big_endian(move(bits, bit >> 3)), unsigned(bit & 7))


@fused
def _symbol(window: Word, table: Word) -> Word:
    """The symbol on top of a window: symbol << 8 | bits of its code; 0 if there is none."""
    entry = load_u64(table, (window >> _SHIFT) << U3)
    if entry == U0:
        entry = find_long_code(window, move(table, _TAIL), _LENGTH)
    return entry


@fused
def _value(window: Word, length: Word, size: Word) -> Word:
    """The signed value of ``size`` bits (0 to 15) that follow a code of ``length`` bits."""
    if size == 0:
        return _ZERO
    value = signed(shift_right(shift_left(window, unsigned(length)), unsigned(64 - size)))
    if value < np.int64(1) << (size - 1):
        value -= (np.int64(1) << size) - 1
    return value


@inlined
def _difference(bits: Word, bit: Word, table: Word) -> Word:
    """A DC difference and the bit behind it, which is -1 for damage."""
    window = _peek(bits, bit)
    entry = _symbol(window, table)
    if entry == U0:
        return _BAD, _ZERO
    length, size = signed(entry & U255), signed(entry >> U8)
    return bit + length + size, _value(window, length, size)


@inlined
def _sequential_block(bits: Word, bit: Word, table: Word, values: Word, last: Word, block: Word) -> Word:
    """The AC coefficients of a sequential block; returns the bit behind it, -1 for damage."""
    k = np.int64(1)
    while k < 64:
        window = _peek(bits, bit)
        entry = _symbol(window, table)
        if entry == U0:
            return _BAD
        length, size, run = signed(entry & U255), signed((entry >> U8) & U15), signed(entry >> U8) >> 4
        bit += length + size
        if size != 0:
            k += run
            if k > 63:
                return _BAD
            values[64 * block + k] = _value(window, length, size)
            last[block] = k
            k += 1
        elif run == 15:
            k += 16
        else:
            return bit
    return bit if k == 64 else _BAD


@inlined
def _first_block(bits: Word, bit: Word, table: Word, values: Word, last: Word, block: Word, scan: Word) -> Word:
    """A band of AC coefficients at reduced precision."""
    if scan[geo.END_RUN] > 0:
        scan[geo.END_RUN] -= 1
        return bit
    k, final, low = scan[geo.FIRST], scan[geo.LAST], scan[geo.LOW]
    while k <= final:
        window = _peek(bits, bit)
        entry = _symbol(window, table)
        if entry == U0:
            return _BAD
        length, size, run = signed(entry & U255), signed((entry >> U8) & U15), signed(entry >> U8) >> 4
        bit += length + size
        if size != 0:
            k += run
            value = _value(window, length, size) << low
            if k > final or value > _LARGEST or value < -_LARGEST:
                return _BAD
            values[64 * block + k] = value
            last[block] = max(np.int64(last[block]), k)
            k += 1
        elif run == 15:
            k += 16
        else:
            scan[geo.END_RUN] = _end_run(bits, bit, run) - 1
            return bit + run
    return bit if k == final + 1 else _BAD


@inlined
def _end_run(bits: Word, bit: Word, size: Word) -> Word:
    """How many blocks end here, of which ``size`` bits tell the rest."""
    if size == 0:
        return np.int64(1)
    return (np.int64(1) << size) + signed(shift_right(_peek(bits, bit), unsigned(64 - size)))


@inlined
def _corrected(bits: Word, bit: Word, value: Word, low: Word) -> Word:
    """A coefficient that is known already with one more bit of its magnitude."""
    one = np.int64(1) << low
    if _peek(bits, bit) >> U63 != U0 and (value & one) == 0:
        return value + one if value > 0 else value - one
    return value


@inlined
def _refined_block(bits: Word, bit: Word, table: Word, values: Word, last: Word, block: Word, scan: Word) -> Word:
    """One more bit of a band of AC coefficients: corrections of those that are not zero, and new ones between them."""
    k, final, low = scan[geo.FIRST], scan[geo.LAST], scan[geo.LOW]
    at = 64 * block
    while k <= final and scan[geo.END_RUN] == 0:
        window = _peek(bits, bit)
        entry = _symbol(window, table)
        if entry == U0:
            return _BAD
        length, size, run = signed(entry & U255), signed((entry >> U8) & U15), signed(entry >> U8) >> 4
        bit += length + size
        if size > 1:
            return _BAD
        if size == 0 and run != 15:
            scan[geo.END_RUN] = _end_run(bits, bit, run)
            bit += run
            break
        while k <= final:
            value = np.int64(values[at + k])
            if value != 0:
                values[at + k] = _corrected(bits, bit, value, low)
                bit += 1
            elif run == 0:
                break
            else:
                run -= 1
            k += 1
        if k > final:
            return _BAD
        if size != 0:
            sign = signed(shift_left(window, unsigned(length))) >> 63  # all ones where the bit says "positive"
            values[at + k] = (1 << low) if sign != 0 else -(1 << low)
            last[block] = max(np.int64(last[block]), k)
        k += 1
    if scan[geo.END_RUN] > 0:
        scan[geo.END_RUN] -= 1
        for i in range(k, min(final, np.int64(last[block])) + 1):
            value = np.int64(values[at + i])
            if value != 0:
                values[at + i] = _corrected(bits, bit, value, low)
                bit += 1
    return bit


@inlined
def _block(bits: Word, bit: Word, tables: Word, values: Word, last: Word, block: Word, scan: Word, i: Word) -> Word:
    """One block of component ``i`` of the scan; returns the bit behind it, -1 for damage."""
    dc = move(tables, 16 * TABLE_WORDS * i)
    ac = move(dc, 8 * TABLE_WORDS)
    low = scan[geo.LOW]
    if scan[geo.FIRST] != 0:
        if scan[geo.HIGH] == 0:
            return _first_block(bits, bit, ac, values, last, block, scan)
        return _refined_block(bits, bit, ac, values, last, block, scan)
    if scan[geo.HIGH] != 0:
        if _peek(bits, bit) >> U63 != U0:
            values[64 * block] = np.int64(values[64 * block]) | (np.int64(1) << low)
        return bit + 1
    bit, difference = _difference(bits, bit, dc)
    value = scan[geo.PREDICTORS + i] + difference
    scan[geo.PREDICTORS + i] = value
    value <<= low
    if bit < 0 or value > _LARGEST or value < -_LARGEST:
        return _BAD
    values[64 * block] = value
    if scan[geo.PROGRESSIVE] != 0:
        return bit
    return _sequential_block(bits, bit, ac, values, last, block)


@inlined
def _open_segment(source: Word, end: Word, bits: Word, scan: Word) -> Word:
    """Unstuffs a segment; returns the address of the marker behind it and how many bits it has."""
    marker, bits_end = unstuff(source, end, end, bits)
    for i in range(0, SLACK, 8):
        store_u64(bits_end, i, U0)
    for i in range(4):
        scan[geo.PREDICTORS + i] = 0
    return marker, signed(bits_end - bits) << 3


@inlined
def _restart(marker: Word, end: Word, number: Word) -> Word:
    """The address behind restart marker ``number``, 0 if something else is there."""
    while marker < end and load_u8(marker, 0) == U255:
        marker += U1
    if marker >= end or signed(load_u8(marker, 0)) != 0xD0 + (number & 7):
        return U0
    return marker + U1


@inlined
def _tables_are_good(data: Word, length: Word, scan: Word, tables: Word) -> Word:
    """Builds the tables that the scan uses from the places in the file that its words name."""
    for i in range(scan[geo.PARTS]):
        for kind in range(2):
            ac = kind == 1
            used = scan[geo.FIRST] != 0 or scan[geo.PROGRESSIVE] == 0 if ac else scan[geo.FIRST] == 0
            if not used or (scan[geo.HIGH] != 0 and not ac):
                continue
            spec = scan[geo.PART + geo.PART_WORDS * i + geo.DC + kind]
            if spec < 1 or spec > length - 17:
                return False
            codes = np.int64(0)
            for k in range(1, 17):
                codes += np.int64(data[spec + k])
            if codes > 256 or spec > length - 17 - codes:
                return False
            table = move(address_of(tables), 8 * TABLE_WORDS * (2 * i + kind))
            if not build_lookup_table(move(address_of(data), spec), table, _AC if ac else _DC):
                return False
    return True


@kernel
def decode_scan(
    data: Word, start: Word, length: Word, scan: Word, values: Word, last: Word, bits: Word, tables: Word
) -> Word:
    """Decodes the scan whose entropy-coded bytes begin at ``start``.

    Args:
        data: uint8[::1], the file, in its first ``length`` bytes.
        scan: int64[::1], geometry.WORDS.
        values: int16[::1], 64 for each block in zigzag order: what is known so far, and then more.
        last: uint8[::1], for each block the place of its last AC coefficient that is not zero.
        bits: uint8[::1], length + BITS_EXTRA bytes to work in.
        tables: uint64[::1], 8 * TABLE_WORDS; zeros or what an earlier call left there.

    Returns:
        The offset of the marker behind the scan, or DAMAGED, BAD_TABLE or BAD_CALL.
    """
    if length > data.size or start < 0 or start > length or bits.size < length + BITS_EXTRA:
        return np.int64(BAD_CALL)
    if tables.size != 8 * TABLE_WORDS or values.size != 64 * last.size:
        return np.int64(BAD_CALL)
    if not geo.is_inside(scan, np.int64(last.size)):
        return np.int64(BAD_CALL)
    if not _tables_are_good(data, length, scan, tables):
        return np.int64(BAD_TABLE)
    begin, end = address_of(data), move(address_of(data), length)
    memory, lookup = address_of(bits), address_of(tables)
    columns, restart = scan[geo.COLUMNS], scan[geo.RESTART]
    mcus = columns * scan[geo.ROWS]
    interval = restart if restart > 0 else mcus
    marker = move(begin, start)
    mcu = np.int64(0)
    while mcu < mcus:
        if mcu > 0:
            marker = _restart(marker, end, mcu // interval - 1)
            if marker == U0:
                return np.int64(DAMAGED)
        marker, limit = _open_segment(marker, end, memory, scan)
        scan[geo.END_RUN] = 0
        bit = np.int64(0)
        for number in range(mcu, min(mcu + interval, mcus)):
            row, column = number // columns, number % columns
            for i in range(scan[geo.PARTS]):
                part = geo.PART + geo.PART_WORDS * i
                across, down = scan[part + geo.ACROSS], scan[part + geo.DOWN]
                for v in range(down):
                    block = scan[part] + (row * down + v) * scan[part + geo.STRIDE] + column * across
                    for h in range(across):
                        bit = _block(memory, bit, lookup, values, last, block + h, scan, np.int64(i))
                        if bit < 0 or bit > limit:
                            return np.int64(DAMAGED)
        if limit - bit > 7 or scan[geo.END_RUN] != 0:
            return np.int64(DAMAGED)
        mcu += interval
    return signed(marker - begin)
