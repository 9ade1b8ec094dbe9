"""Entropy-coded bytes without their stuffing: FF 00 becomes FF, and a marker ends the run."""

from __future__ import annotations

from fastload.jit import inlined
from fastload.jpeg.intrinsics import (
    U0,
    U1,
    U2,
    U8,
    U32,
    U64,
    U255,
    Word,
    copy_32_bytes,
    load_u8,
    load_u64,
    low_bits,
    markers_in_32_bytes,
    store_u8,
    trailing_zeros,
)

# unstuff writes whole vectors: so many bytes behind what it keeps are overwritten with anything.
UNSTUFF_SLACK = 32

_ONES = U64(0x0101010101010101)
_HIGHS = U64(0x8080808080808080)


@inlined
def _has_ff(word: Word) -> Word:
    """Whether one of eight bytes is FF: a byte of ~word is 00 then, and this is the classical test for that."""
    return (~word - _ONES) & word & _HIGHS != U0


@inlined
def unstuff(source: Word, end: Word, readable: Word, target: Word) -> Word:
    """Copies entropy-coded bytes from ``source`` up to ``end`` (addresses), without the 00 that follows each FF.

    Stops before a marker (FF and anything but 00), or an FF that is the last byte. Bytes up to ``readable`` >= end may
    be read; ``target`` takes at most end - source + UNSTUFF_SLACK bytes. Returns the address behind the last byte that
    counts and the one behind the last byte written that counts.

    32 bytes at a time, up to the first FF among them; one byte at a time takes five times as long.
    """
    while source < end:
        rest = end - source
        if source + U32 <= readable:
            found = copy_32_bytes(source, target)
            if rest < U32:
                found = low_bits(found, rest)
            else:
                rest = U32
            if found == U0:
                source += rest
                target += rest
                continue
            before = trailing_zeros(found)
        elif load_u8(source, 0) != U255:
            store_u8(target, 0, load_u8(source, 0))
            source += U1
            target += U1
            continue
        else:
            store_u8(target, 0, U255)
            before = U0
        source += before
        target += before
        if source + U1 == end or load_u8(source, 1) != U0:
            return source, target
        source += U2
        target += U1
    return source, target


@inlined
def find_marker(source: Word, end: Word) -> Word:
    """The address of the first FF that is followed by neither 00 nor the end; ``end`` if there is none."""
    while source + U32 < end:
        found = markers_in_32_bytes(source)
        if found != U0:
            return source + trailing_zeros(found)
        source += U32
    while source + U1 < end:
        if load_u8(source, 0) == U255 and load_u8(source, 1) != U0:
            return source
        source += U1
    return end


@inlined
def stuffed_address(source: Word, kept: Word) -> Word:
    """The address of the byte that follows ``kept`` unstuffed bytes from ``source``; they are known to be there."""
    while kept != U0:
        if kept >= U8 and not _has_ff(load_u64(source, 0)):
            source += U8
            kept -= U8
        else:
            source += U2 if load_u8(source, 0) == U255 else U1
            kept -= U1
    return source
