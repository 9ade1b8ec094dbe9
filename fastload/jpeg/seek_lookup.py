"""For kernels: crc32, and the seek index of one sample in a mapped seek file."""

from __future__ import annotations

from typing import Any, Final

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types

from fastload.jit import inlined
from fastload.jpeg.intrinsics import (
    I8,
    I32,
    I64,
    U0,
    U8,
    U255,
    Word,
    intrinsic,
    llvm_function,
    load_i64,
    load_lanes,
    load_u8,
    load_u32,
    load_u64,
    move,
    signed,
    store_lanes,
    store_u64,
    unsigned,
)
from fastload.jpeg.seek_file import HEADER_BYTES


def _byte_table() -> Any:
    """CRC-32 of each byte, as zlib has it."""
    values = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        values = np.where(values & np.uint64(1), values >> np.uint64(1) ^ np.uint64(0xEDB88320), values >> np.uint64(1))
    return values


def _carryless_in_hardware() -> bool:
    """Whether the processor that numba compiles for multiplies without carry (x86: pclmulqdq)."""
    config: Any = numba.config
    if config.CPU_FEATURES is not None:
        return "+pclmul" in config.CPU_FEATURES.split(",")
    if config.CPU_NAME is not None:
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("pclmul", False))


_TABLE: Final = _byte_table()
_FOLDS: Final = _carryless_in_hardware()
_ONES: Final = np.uint64(0xFFFFFFFF)
# x**n mod the polynomial, reflected: what moves 64 bits by 64 bytes and by 16 (Gopal and others, "Fast CRC Computation
# for Generic Polynomials Using PCLMULQDQ", Intel 2009).
_BY_64: Final = (np.uint64(0x154442BD4), np.uint64(0x1C6E41596))
_BY_16: Final = (np.uint64(0x1751997D0), np.uint64(0x0CCAA009E))
_PAIR: Any = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]
_LANES: Final = 64
# Bytes of memory that crc32 works in.
CRC_SCRATCH: Final = _LANES


@intrinsic
def _fold(_typing: Any, state: Any, factors: Any, data: Any) -> Any:
    """16 bytes at ``state`` <- their low half * factors[0] + their high half * factors[1] + 16 bytes at ``data``."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if _FOLDS:  # LLVM ends the process where it cannot select an instruction, even one that is never reached
            pair = ir.VectorType(I64, 2)
            multiply = llvm_function(builder, ir.FunctionType(pair, [pair, pair, I8]), "llvm.x86.pclmulqdq")
            both = ir.Constant(pair, ir.Undefined)
            for lane in range(2):
                factor = builder.extract_value(args[1], lane)
                both = builder.insert_element(both, factor, ir.Constant(I32, lane))
            value = load_lanes(builder, args[0], 0, pair)
            low = builder.call(multiply, [value, both, ir.Constant(I8, 0x00)])
            high = builder.call(multiply, [value, both, ir.Constant(I8, 0x11)])
            moved = builder.xor(builder.xor(low, high), load_lanes(builder, args[2], 0, pair))
            store_lanes(builder, args[0], 0, moved)
        return context.get_dummy_value()

    return types.void(types.uint64, _PAIR, types.uint64), emit


@inlined
def _by_bytes(crc: Word, data: Word, length: Word) -> Word:
    for i in range(length):
        crc = _TABLE[signed((crc ^ load_u8(data, i)) & U255)] ^ (crc >> U8)
    return crc


@inlined
def crc32(data: Word, length: Word, scratch: Word) -> Word:
    """int64 <- crc32, as zlib has it, of ``length`` bytes at an address; works in CRC_SCRATCH bytes at ``scratch``.

    110 KB take 9 us where processors multiply without carry (zlib takes 26 to 100 us), 250 us elsewhere.
    """
    crc = _ONES
    if _FOLDS and length >= _LANES:
        # Four lanes of 16 bytes side by side, because a product takes as long as seven other instructions.
        for i in range(0, _LANES, 8):
            store_u64(scratch, i, load_u64(data, i))
        store_u64(scratch, 0, load_u64(data, 0) ^ crc)
        done = np.int64(_LANES)
        while done + _LANES <= length:
            for i in range(0, _LANES, 16):
                _fold(move(scratch, i), _BY_64, move(data, done + i))
            done += _LANES
        for i in range(16, _LANES, 16):
            _fold(scratch, _BY_16, move(scratch, i))
        # What 16 bytes are left with has the same remainder as all the bytes before.
        crc = _by_bytes(U0, scratch, 16)
        data = move(data, done)
        length -= done
    return signed(_by_bytes(crc, data, length) ^ _ONES)


@inlined
def find_index(seek: Word, image_crc: Word, scratch: Word) -> Word:
    """Where in memory the index of one sample is and how many bytes it has (0: none to be used).

    Args:
        seek: int64 (4,): address of a file that SeekFile has opened (0: none), its bytes, its samples, the number of
            the sample.
        image_crc: The data set's checksum of the image.
        scratch: Address of CRC_SCRATCH bytes.

    Everything is checked as it is read, the index's checksum too (0.2 us): somebody may write to the file meanwhile.
    """
    file, size, samples, number = unsigned(seek[0]), seek[1], seek[2], seek[3]
    if file == U0 or number < 0 or number >= samples:
        return file, np.int64(0)
    crcs = move(file, HEADER_BYTES + 8 * (samples + 1))
    begin = load_i64(file, HEADER_BYTES + 8 * number)
    end = load_i64(file, HEADER_BYTES + 8 * (number + 1))
    if begin < 0 or begin > end or end > size or signed(load_u32(crcs, 4 * number)) != image_crc:
        return file, np.int64(0)
    index = move(file, begin)
    if crc32(index, end - begin, scratch) != signed(load_u32(crcs, 4 * (samples + number))):
        return file, np.int64(0)
    return index, end - begin
