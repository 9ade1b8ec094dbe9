"""The inverse DCT: dequantised coefficients of 16 blocks at a time to rows of pixels, exactly as libjpeg's "islow".

Written as LLVM vectors: what LLVM makes of scalar loops over 16 blocks is several times slower. A vector holds one
coefficient of 16 neighbouring blocks, so that both passes work without a transposition, and the order in which the
coefficients are read undoes the zigzag for nothing. 16 lanes are one register of AVX-512 (as 32 bits), two of AVX2 and
four of NEON; LLVM cuts them to what the target has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from fastload.jit import inlined
from fastload.jpeg.intrinsics import (
    I16,
    I32,
    I64,
    Word,
    global_constant,
    intrinsic,
    llvm_function,
    load_lanes,
    move,
    store_lanes,
)

# Row r, column c of a block is number ZIGZAG[8 * r + c] of its coefficients in the file.
ZIGZAG = (
    0, 1, 5, 6, 14, 15, 27, 28,
    2, 4, 7, 13, 16, 26, 29, 42,
    3, 8, 12, 17, 25, 30, 41, 43,
    9, 11, 18, 24, 31, 40, 44, 53,
    10, 19, 23, 32, 39, 45, 52, 54,
    20, 22, 33, 38, 46, 51, 55, 60,
    21, 34, 37, 47, 50, 56, 59, 61,
    35, 36, 48, 49, 57, 58, 62, 63,
)  # fmt: skip

LANES = 16
_ROW_BYTES = 2 * LANES  # of one coefficient of the 16 blocks
_EIGHT = 8 * _ROW_BYTES
_EXTENTS = 65 * _ROW_BYTES
SCRATCH_BYTES = 64 * _ROW_BYTES
# The first ten coefficients in zigzag order lie in the upper left 4 x 4; in units of four, as entropy.py notes extents.
_SMALL_EXTENT = 4 * 10

_CONST_BITS = 13  # jidctint.c: constants are rounded to 13 bits, the first pass keeps 2 bits more than whole numbers
_PASS_1_SHIFT = 11
_PASS_2_SHIFT = 18


def _splat(builder: Any, scalar: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def _constant(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


class _Emitter:
    """Arithmetic on vectors of which some are known to be zero (None)."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.b = builder
        self.lanes = lanes
        self.wide = ir.VectorType(I32, lanes)

    def add(self, a: Any, b: Any) -> Any:
        if a is None or b is None:
            return a if b is None else b
        return self.b.add(a, b)

    def sub(self, a: Any, b: Any) -> Any:
        if b is None:
            return a
        return self.b.sub(_constant(b.type, 0) if a is None else a, b)

    def interleaved(self, a: Any, b: Any) -> Any:
        """int16 vectors as one, a0 b0 a1 b1 ...; the pair as it is if one of them is zero."""
        if a is None or b is None:
            return a, b
        order = [index for lane in range(self.lanes) for index in (lane, self.lanes + lane)]
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, 2 * self.lanes), order))

    def dot(self, pairs: Any, factor_a: int, factor_b: int) -> Any:
        """int32 a x factor_a + b x factor_b of interleaved pairs.

        LLVM knows this form: it becomes one pmaddwd (vpdpwssd with the addition that follows), or smull and smlal.
        """
        b = self.b
        if isinstance(pairs, tuple):
            vector, factor = (pairs[0], factor_a) if pairs[1] is None else (pairs[1], factor_b)
            return b.mul(b.sext(vector, self.wide), _constant(self.wide, factor))
        twice = ir.VectorType(I32, 2 * self.lanes)
        products = b.mul(b.sext(pairs, twice), ir.Constant(twice, [factor_a, factor_b] * self.lanes))
        halves = [ir.Constant(self.wide, list(range(first, 2 * self.lanes, 2))) for first in (0, 1)]
        return b.add(*(b.shuffle_vector(products, products, half) for half in halves))

    def transform(self, x: list[Any], shift: int, offset: int) -> list[Any]:
        """One pass of jidctint.c over eight int16 vectors; gives eight int32 vectors, shifted, plus ``offset``.

        Sums are wrapped to 16 bits where libjpeg-turbo's vector code (jidctint-avx2.asm) has 16 bits, and nowhere else.
        """
        b, add, sub, dot = self.b, self.add, self.sub, self.dot
        pairs = self.interleaved(x[2], x[6])
        even_2, even_3 = dot(pairs, 4433, 4433 - 15137), dot(pairs, 4433 + 6270, 4433)
        rounding = _constant(self.wide, (1 << (shift - 1)) + (offset << shift))
        bits = _constant(self.wide, _CONST_BITS)
        even_0 = b.add(b.shl(b.sext(add(x[0], x[4]), self.wide), bits), rounding)
        even_1 = b.add(b.shl(b.sext(sub(x[0], x[4]), self.wide), bits), rounding)
        t10, t13 = add(even_0, even_3), sub(even_0, even_3)
        t11, t12 = add(even_1, even_2), sub(even_1, even_2)

        pairs = self.interleaved(add(x[7], x[3]), add(x[5], x[1]))
        z3, z4 = dot(pairs, 9633 - 16069, 9633), dot(pairs, 9633, 9633 - 3196)
        pairs = self.interleaved(x[7], x[1])
        p0, p3 = add(z3, dot(pairs, 2446 - 7373, -7373)), add(z4, dot(pairs, -7373, 12299 - 7373))
        pairs = self.interleaved(x[5], x[3])
        p1, p2 = add(z4, dot(pairs, 16819 - 20995, -20995)), add(z3, dot(pairs, -20995, 25172 - 20995))
        rows = [add(t10, p3), add(t11, p2), add(t12, p1), add(t13, p0)]
        rows += [sub(t13, p0), sub(t12, p1), sub(t11, p2), sub(t10, p3)]
        return [b.ashr(row, _constant(self.wide, shift)) for row in rows]


def _saturated(builder: Any, value: Any, kind: Any) -> Any:
    """int32 to int16 as packssdw does it, which is what libjpeg-turbo's vector code has between the passes."""
    for limit, compare in ((-32768, "<"), (32767, ">")):
        bound = _constant(value.type, limit)
        value = builder.select(builder.icmp_signed(compare, value, bound), bound, value)
    return builder.trunc(value, kind)


def _column_pass(rows: int, lanes: int) -> Any:
    """Makes the intrinsic for one column, of which only the first ``rows`` coefficients may differ from zero."""

    @intrinsic
    def column_pass(_typing: Any, coefficients: Any, column: Any, factors: Any, scratch: Any) -> Any:
        """coefficients: address of a group; column: 0 to 7; factors: address of the column's eight uint16."""

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            emitter = _Emitter(builder, lanes)
            narrow = ir.VectorType(I16, lanes)
            offsets = [ZIGZAG[8 * r + c] * _ROW_BYTES for c in range(8) for r in range(8)]
            table = ir.Constant(ir.ArrayType(I64, 64), offsets)
            table = global_constant(builder, "zigzag_offsets", table)
            x: list[Any] = [None] * 8
            for r in range(rows):
                at = builder.add(builder.shl(args[1], ir.Constant(I64, 3)), ir.Constant(I64, r))
                offset = builder.load(builder.gep(table, [ir.Constant(I64, 0), at]))
                vector = load_lanes(builder, builder.add(args[0], offset), 0, narrow)
                factor = load_lanes(builder, args[2], 2 * r, I16)
                x[r] = builder.mul(vector, _splat(builder, factor, narrow))
            target = builder.add(args[3], builder.mul(args[1], ir.Constant(I64, _ROW_BYTES)))
            for r, row in enumerate(emitter.transform(x, _PASS_1_SHIFT, 0)):
                store_lanes(builder, target, r * 8 * _ROW_BYTES, _saturated(builder, row, narrow))
            return context.get_dummy_value()

        return types.void(types.uint64, types.int64, types.uint64, types.uint64), emit

    return column_pass


def _row_pass(columns: int, lanes: int) -> Any:
    """Makes the intrinsic for one row, of which only the first ``columns`` values may differ from zero."""

    @intrinsic
    def row_pass(_typing: Any, scratch: Any, out: Any) -> Any:
        """scratch: address of the row's eight vectors; out: address of 8 x ``lanes`` pixels."""

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            narrow = ir.VectorType(I16, lanes)
            wide = ir.VectorType(I32, lanes)
            x = [load_lanes(builder, args[0], c * _ROW_BYTES, narrow) if c < columns else None for c in range(8)]
            y = _Emitter(builder, lanes).transform(x, _PASS_2_SHIFT, 128)
            quarters = []
            for c in (0, 4):
                # Bytes c, c + 1, c + 2, c + 3 of every block make one int32.
                even = _clamped_pairs(builder, y[c], y[c + 2])
                odd = _clamped_pairs(builder, y[c + 1], y[c + 3])
                quarters.append(builder.or_(even, builder.shl(odd, _constant(wide, 8))))
            order = [index for lane in range(lanes) for index in (lane, lanes + lane)]
            mask = ir.Constant(ir.VectorType(I32, 2 * lanes), order)
            store_lanes(builder, args[1], 0, builder.shuffle_vector(quarters[0], quarters[1], mask))
            return context.get_dummy_value()

        return types.void(types.uint64, types.uint64), emit

    return row_pass


def _clamped_pairs(builder: Any, low: Any, high: Any) -> Any:
    """Vectors of int32 that hold clamp(low) in bits 0-15 and clamp(high) in bits 16-31, both 0 to 255."""
    wide = low.type
    pairs = ir.VectorType(I16, 2 * wide.count)
    merged = builder.or_(
        builder.and_(low, _constant(wide, 0xFFFF)),
        builder.shl(high, _constant(wide, 16)),
    )
    value = builder.bitcast(merged, pairs)
    for limit, compare in ((0, "<"), (255, ">")):
        bound = _constant(pairs, limit)
        value = builder.select(builder.icmp_signed(compare, value, bound), bound, value)
    return builder.bitcast(value, wide)


_columns_full, _rows_full = _column_pass(8, 16), _row_pass(8, 16)
_columns_small, _rows_small = _column_pass(4, 16), _row_pass(4, 16)
_columns_full_half, _rows_full_half = _column_pass(8, 8), _row_pass(8, 8)
_columns_small_half, _rows_small_half = _column_pass(4, 8), _row_pass(4, 8)


@intrinsic
def _greatest(_typing: Any, address: Any) -> Any:
    """int64 <- the greatest of 16 int16."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        vector = ir.VectorType(I16, LANES)
        kind = ir.FunctionType(I16, [vector])
        reduce = llvm_function(builder, kind, "llvm.vector.reduce.smax.v16i16")
        return builder.sext(builder.call(reduce, [load_lanes(builder, args[0], 0, vector)]), I64)

    return types.int64(types.uint64), emit


@intrinsic
def greatest_dc(_typing: Any, group: Any) -> Any:
    """int64 <- the greatest magnitude (minus 1 for negative ones) of the 16 DC coefficients of a group."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        vector = ir.VectorType(I16, LANES)
        value = load_lanes(builder, args[0], 0, vector)
        value = builder.xor(value, builder.ashr(value, _constant(vector, 15)))
        kind = ir.FunctionType(I16, [vector])
        reduce = llvm_function(builder, kind, "llvm.vector.reduce.smax.v16i16")
        return builder.sext(builder.call(reduce, [value]), I64)

    return types.int64(types.uint64), emit


@intrinsic
def _zero_row(_typing: Any, address: Any) -> Any:
    """Zeros to one coefficient of the 16 blocks."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        store_lanes(builder, args[0], 0, ir.Constant(ir.VectorType(I16, LANES), [0] * LANES))
        return context.get_dummy_value()

    return types.void(types.uint64), emit


@inlined
def transform_group(group: Word, factors: Word, scratch: Word, out: Word, stride: Word, blocks: Word) -> None:
    """Writes the pixels of one group of up to 16 blocks: 8 rows of 8 x 16 pixels (8 x 8 where ``blocks`` <= 8).

    ``factors``: address of 64 uint16, column by column; ``scratch``: address of SCRATCH_BYTES.

    A block costs 9 ns, or 5 where the sixteen have coefficients in the upper left corner only. What was not zero in the
    group is zero again afterwards: cheaper here, where it is in the cache and known how far it reaches, than before the
    next image (6 us).
    """
    extent = _greatest(move(group, _EXTENTS))
    small = extent < _SMALL_EXTENT
    if blocks > 8:
        if small:
            for c in range(4):
                _columns_small(group, c, move(factors, 16 * c), scratch)
            for r in range(8):
                _rows_small(move(scratch, r * _EIGHT), move(out, r * stride))
        else:
            for c in range(8):
                _columns_full(group, c, move(factors, 16 * c), scratch)
            for r in range(8):
                _rows_full(move(scratch, r * _EIGHT), move(out, r * stride))
    elif small:
        for c in range(4):
            _columns_small_half(group, c, move(factors, 16 * c), scratch)
        for r in range(8):
            _rows_small_half(move(scratch, r * _EIGHT), move(out, r * stride))
    else:
        for c in range(8):
            _columns_full_half(group, c, move(factors, 16 * c), scratch)
        for r in range(8):
            _rows_full_half(move(scratch, r * _EIGHT), move(out, r * stride))
    for offset in range(0, (extent // 4 + 1) * _ROW_BYTES, _ROW_BYTES):
        _zero_row(move(group, offset))
    _zero_row(move(group, _EXTENTS))
