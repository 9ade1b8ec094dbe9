"""Memory and bit operations that numba lacks, each one instruction or two; the only place that touches raw addresses.

Contract. An address is a uint64 taken from an array that its kernel holds for as long as it runs. None of these
functions checks anything: the caller guarantees that every byte touched lies inside such an array, for any input file
(workspace.py states the margins that make this true, and tests/fuzz/images.py puts unmapped pages behind them).
Any alignment will do. Integers are little-endian in memory except where a name says big-endian.

Why not array indexing: with int64 indices LLVM keeps Python's negative-index arithmetic in the inner loops, and an
unaligned eight-byte load cannot be expressed at all. One rule of numba's to remember: int64 and uint64 must never be
mixed in an expression, the result would be float64. Here offsets may be either.
"""

from __future__ import annotations

from typing import Any

import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

I1 = ir.IntType(1)
I8 = ir.IntType(8)
I16 = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)

U64 = np.uint64
# Named, because each call U64(3) in a kernel is typed and lowered anew: half of the time that compilation took.
U0, U1, U2, U3, U4, U7, U8, U15, U32, U63, U255 = (U64(n) for n in (0, 1, 2, 3, 4, 7, 8, 15, 32, 63, 255))

# What kernels take and give: uint64 and int64 (and arrays), which a type checker need not tell apart.
Word = Any


def intrinsic(function: Any) -> Any:
    """numba.extending.intrinsic, opaque to type checkers, for which the typing context is one argument too many."""
    return numba.extending.intrinsic(function)


def load_lanes(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    """Emits a load of one LLVM value (a vector, mostly) from an address plus a constant number of bytes."""
    if offset:
        address = builder.add(address, ir.Constant(I64, offset))
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 1
    return value


def store_lanes(builder: Any, address: Any, offset: int, value: Any) -> None:
    """Emits a store of one LLVM value to an address plus a constant number of bytes."""
    if offset:
        address = builder.add(address, ir.Constant(I64, offset))
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 1


def llvm_function(builder: Any, kind: Any, name: str) -> Any:
    """One of LLVM's own functions, declared in the module that is being built."""
    return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]


def global_constant(builder: Any, name: str, value: Any) -> Any:
    """Address of a constant in the module that is being built."""
    return cgutils.global_constant(builder, name, value)  # type: ignore[no-untyped-call]


def _loader(kind: Any, result: Any, extend: str | None) -> Any:
    """Makes load(address, offset in bytes) of an integer type, extended to 64 bits."""

    @intrinsic
    def load(_typing: Any, address: Any, offset: Any) -> Any:
        def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            value = load_lanes(builder, builder.add(args[0], args[1]), 0, kind)
            return getattr(builder, extend)(value, I64) if extend else value

        return result(types.uint64, _as_word(offset)), emit

    return load


def _storer(kind: Any, source: Any) -> Any:
    """Makes store(address, offset in bytes, value) of the low bits of a 64-bit value."""

    @intrinsic
    def store(_typing: Any, address: Any, offset: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            low = args[2] if kind is I64 else builder.trunc(args[2], kind)
            store_lanes(builder, builder.add(args[0], args[1]), 0, low)
            return context.get_dummy_value()

        return types.void(types.uint64, _as_word(offset), source), emit

    return store


def _as_word(kind: Any) -> Any:
    return types.uint64 if kind == types.uint64 else types.int64


load_u8 = _loader(I8, types.uint64, "zext")
load_i8 = _loader(I8, types.int64, "sext")
load_u16 = _loader(I16, types.uint64, "zext")
load_i16 = _loader(I16, types.int64, "sext")
load_u32 = _loader(I32, types.uint64, "zext")
load_u64 = _loader(I64, types.uint64, None)
load_i64 = _loader(I64, types.int64, None)
store_u8 = _storer(I8, types.uint64)
store_i16 = _storer(I16, types.int64)
store_u64 = _storer(I64, types.uint64)
store_i64 = _storer(I64, types.int64)


@intrinsic
def move(_typing: Any, address: Any, offset: Any) -> Any:
    """uint64 <- an address some bytes further on."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.add(args[0], args[1])

    return types.uint64(types.uint64, _as_word(offset)), emit


@intrinsic
def load_big_endian(_typing: Any, address: Any) -> Any:
    """uint64 <- the eight bytes at an address, the first one on top: one movbe."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bswap(load_lanes(builder, args[0], 0, I64))

    return types.uint64(types.uint64), emit


@intrinsic
def add_atomically(_typing: Any, address: Any, value: Any) -> Any:
    """int64 <- what was at an aligned address before ``value`` was added to it, in one step for all threads."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "monotonic")

    return types.int64(types.uint64, types.int64), emit


@intrinsic
def zero_64_bytes(_typing: Any, address: Any) -> Any:
    """64 zero bytes to an address."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        store_lanes(builder, args[0], 0, ir.Constant(ir.VectorType(I8, 64), [0] * 64))
        return context.get_dummy_value()

    return types.void(types.uint64), emit


@intrinsic
def copy_64_bytes(_typing: Any, source: Any, target: Any) -> Any:
    """64 bytes from one address to another."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        store_lanes(builder, args[1], 0, load_lanes(builder, args[0], 0, ir.VectorType(I8, 64)))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), emit


@intrinsic
def copy_32_bytes(_typing: Any, source: Any, target: Any) -> Any:
    """32 bytes from one address to another; returns a uint64 whose bit i says whether byte i is FF."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.VectorType(I8, 32)
        value = load_lanes(builder, args[0], 0, kind)
        store_lanes(builder, args[1], 0, value)
        found = builder.icmp_unsigned("==", value, ir.Constant(kind, [255] * 32))
        return builder.zext(builder.bitcast(found, I32), I64)

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def markers_in_32_bytes(_typing: Any, source: Any) -> Any:
    """uint64 whose bit i says whether byte i is FF and the one behind it is not 00; reads 33 bytes."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.VectorType(I8, 32)
        first, second = load_lanes(builder, args[0], 0, kind), load_lanes(builder, args[0], 1, kind)
        is_ff = builder.icmp_unsigned("==", first, ir.Constant(kind, [255] * 32))
        is_used = builder.icmp_unsigned("!=", second, ir.Constant(kind, [0] * 32))
        return builder.zext(builder.bitcast(builder.and_(is_ff, is_used), I32), I64)

    return types.uint64(types.uint64), emit


@intrinsic
def trailing_zeros(_typing: Any, value: Any) -> Any:
    """uint64 <- how many zero bits are below the lowest one of a value that is not 0."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(I1, 1))

    return types.uint64(types.uint64), emit


@intrinsic
def bit_length(_typing: Any, value: Any) -> Any:
    """int64 <- how many bits the magnitude of an int64 has."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        negative = builder.icmp_signed("<", args[0], ir.Constant(I64, 0))
        magnitude = builder.select(negative, builder.neg(args[0]), args[0])
        return builder.sub(ir.Constant(I64, 64), builder.ctlz(magnitude, ir.Constant(I1, 0)))

    return types.int64(types.int64), emit


@intrinsic
def shift_left(_typing: Any, value: Any, count: Any) -> Any:
    """value << (count mod 64): one shlx, where numba's << would add a test for counts of 64 and more."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.shl(args[0], builder.and_(args[1], ir.Constant(I64, 63)))

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def shift_right(_typing: Any, value: Any, count: Any) -> Any:
    """value >> (count mod 64), zeros from the left: one shrx."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.lshr(args[0], builder.and_(args[1], ir.Constant(I64, 63)))

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def shift_right_signed(_typing: Any, value: Any, count: Any) -> Any:
    """int64 <- the bits of a uint64 >> (count mod 64), copies of the highest from the left: one sarx."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ashr(args[0], builder.and_(args[1], ir.Constant(I64, 63)))

    return types.int64(types.uint64, types.uint64), emit


@intrinsic
def low_bits(_typing: Any, value: Any, count: Any) -> Any:
    """The lowest ``count`` bits of value: one bzhi. count < 64, or the result is undefined."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        one = ir.Constant(I64, 1)
        return builder.and_(args[0], builder.sub(builder.shl(one, args[1]), one))

    return types.uint64(types.uint64, _as_word(count)), emit


@intrinsic
def signed(_typing: Any, value: Any) -> Any:
    """int64 <- the same 64 bits of a uint64."""

    def emit(_context: Any, _builder: Any, _signature: Any, args: Any) -> Any:
        return args[0]

    return types.int64(types.uint64), emit


@intrinsic
def unsigned(_typing: Any, value: Any) -> Any:
    """uint64 <- the same 64 bits of an int64."""

    def emit(_context: Any, _builder: Any, _signature: Any, args: Any) -> Any:
        return args[0]

    return types.uint64(types.int64), emit


@intrinsic
def unlikely(_typing: Any, condition: Any) -> Any:
    """The condition; the branch on it is laid out for the case that it is false."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(I1, [I1, I1])
        expect = llvm_function(builder, kind, "llvm.expect.i1")
        return builder.call(expect, [args[0], ir.Constant(I1, 0)])

    return types.boolean(types.boolean), emit


@intrinsic
def address_of(_typing: Any, array: Any) -> Any:
    """uint64 address of the first element of a C-contiguous array."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, I64)

    return types.uint64(array), emit
