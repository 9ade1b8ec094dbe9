"""Vector instructions that numba cannot express; the only module of this engine that touches raw addresses.

Contract. An address is an int64 taken from an array that the calling kernel holds for as long as it runs. Nothing is
checked here: the caller guarantees that every byte that is named below lies inside such an array (fast.py does so,
from sizes that resample.py has validated). Any alignment will do.

The code is LLVM's portable vector IR, not one processor's intrinsics: ``trunc(lshr(mul(zext a, zext b), 16))`` becomes
pmulhuw on x86 and umull on ARM, shuffles become unpack and zip. Why not leave it to the vectoriser: numba widens 16-bit
arithmetic to 64 bits, and a row of pixels then costs 0.6 us in place of 0.014.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastload.engine.cpu.kernels.layout import BLOCK_ROWS, CHUNK, KIND_BFLOAT16, KIND_FLOAT16, KIND_FLOAT32, KIND_UINT8

_build: Any = cgutils
# numba's own annotation takes the typing context for an argument of the call.
_intrinsic: Callable[[Any], Any] = intrinsic

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_ROWS16 = ir.VectorType(_I16, BLOCK_ROWS)
_ROWS8 = ir.VectorType(_I8, BLOCK_ROWS)
# Bytes of one column of a block with 16-bit values.
_COLUMN = 2 * BLOCK_ROWS


def _number(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _at(builder: Any, address: Any, offset: int) -> Any:
    return builder.add(address, _number(offset)) if offset else address


def _load(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    value = builder.load(builder.inttoptr(_at(builder, address, offset), kind.as_pointer()))
    value.align = 1
    return value


def _store(builder: Any, value: Any, address: Any, offset: int = 0) -> None:
    builder.store(value, builder.inttoptr(_at(builder, address, offset), value.type.as_pointer())).align = 1


def _all(element: Any, lanes: int, value: float) -> ir.Constant:
    return ir.Constant(ir.VectorType(element, lanes), [value] * lanes)


def _shuffle(builder: Any, first: Any, second: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    """One value in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    return _shuffle(builder, builder.insert_element(undefined, value, ir.Constant(_I32, 0)), undefined, [0] * lanes)


def _multiply_high(builder: Any, first: Any, second: Any, signed: bool) -> Any:
    """The upper 16 bits of the product of 16-bit lanes: pmulhuw, or pmulhw of signed ones."""
    wide = ir.VectorType(_I32, first.type.count)
    extend = builder.sext if signed else builder.zext
    product = builder.mul(extend(first, wide), extend(second, wide))
    return builder.trunc(builder.lshr(product, _all(_I32, first.type.count, 16)), first.type)


def _clamp(builder: Any, value: Any, greatest: int) -> Any:
    for limit, compare in ((0, "<"), (greatest, ">")):
        bound = _all(_I16, value.type.count, limit)
        value = builder.select(builder.icmp_signed(compare, value, bound), bound, value)
    return value


def _interleave(builder: Any, first: Any, second: Any, half: int) -> Any:
    """Alternates the lanes of the lower (half 0) or upper (half 1) part of every 16 bytes: one unpack or zip."""
    count = first.type.count
    step = 16 // (first.type.element.width // 8)
    lanes = []
    for begin in range(0, count, step):
        for lane in range(begin + half * step // 2, begin + half * step // 2 + step // 2):
            lanes += [lane, count + lane]
    return _shuffle(builder, first, second, lanes)


def _transpose(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Transposes, inside every 16 bytes, n vectors whose 16 bytes hold n elements (n = 8 or 16)."""
    rows = list(rows)
    half = len(rows) // 2
    for _ in range(half.bit_length()):
        rows = [_interleave(builder, rows[i], rows[i + half], part) for i in range(half) for part in (0, 1)]
    return rows


def _tap_loop(
    builder: Any,
    taps: Any,
    weights: Any,
    weights_step: Any,
    count: int,
    signed: bool,
    body: Callable[[Any], Sequence[Any]],
) -> list[Any]:
    """Sums ``count`` vectors of 16-bit lanes over the taps; ``body`` gives what is multiplied in one tap.

    Every product loses the fraction that multiply-high cuts off, half a unit on average: the sum starts with that.
    """
    start = _spread(builder, builder.trunc(builder.lshr(taps, _number(1)), _I16), BLOCK_ROWS)
    sums = [_build.alloca_once(builder, start.type) for _ in range(count)]
    for total in sums:
        builder.store(start, total)
    with _build.for_range(builder, taps) as loop:
        weight = _spread(
            builder, _load(builder, builder.add(weights, builder.mul(loop.index, weights_step)), _I16), BLOCK_ROWS
        )
        for total, value in zip(sums, body(loop.index), strict=True):
            builder.store(builder.add(builder.load(total), _multiply_high(builder, value, weight, signed)), total)
    return [builder.load(total) for total in sums]


def _make_mix_rows(signed: bool) -> Any:
    @_intrinsic
    def mix_rows(_typing: Any, source: Any, stride: Any, weights: Any, weights_step: Any, taps: Any, strip: Any) -> Any:
        """Weighted sum of ``taps`` rows of CHUNK bytes, ``stride`` bytes apart, as 16-bit values.

        Unsigned: weights are uint16 (65536 = 1), values grey levels times 256. Signed: weights are int16 (16384 = 1),
        values grey levels times 128, cut off below 0 and above 255. Reads CHUNK bytes of each row and one weight every
        ``weights_step`` bytes; writes 2 * CHUNK bytes to ``strip``: of each 64 bytes of the source first the 32 at even
        places, then the 32 at odd ones.
        """

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            source, stride, weights, weights_step, taps, strip = args

            def levels(tap: Any) -> list[Any]:
                row = builder.add(source, builder.mul(tap, stride))
                values = []
                for offset in range(0, CHUNK, 64):
                    pair = _load(builder, row, _ROWS16, offset)
                    values.append(builder.shl(pair, _all(_I16, BLOCK_ROWS, 8)))
                    values.append(builder.and_(pair, _all(_I16, BLOCK_ROWS, 0xFF00)))
                return [builder.lshr(value, _all(_I16, BLOCK_ROWS, 1)) for value in values] if signed else values

            totals = _tap_loop(builder, taps, weights, weights_step, CHUNK // 32, signed, levels)
            for place, total in enumerate(totals):
                if signed:
                    total = builder.shl(_clamp(builder, total, 255 * 32), _all(_I16, BLOCK_ROWS, 2))
                _store(builder, total, strip, 64 * place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    return mix_rows


mix_rows = _make_mix_rows(signed=False)
mix_rows_signed = _make_mix_rows(signed=True)


@_intrinsic
def turn_strip(_typing: Any, strip: Any, columns: Any) -> Any:
    """Turns BLOCK_ROWS rows that ``mix_rows`` wrote, one behind the other, into CHUNK columns of BLOCK_ROWS values.

    Reads BLOCK_ROWS * 2 * CHUNK bytes and writes as many; columns come out in the order of the source's bytes.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        strip, columns = args
        eight = ir.VectorType(_I16, 8)
        with _build.for_range(builder, _number(CHUNK // 8)) as loop:
            group = loop.index
            rows = []
            for row in range(8):
                parts = [
                    _load(
                        builder, builder.add(strip, builder.mul(group, _number(16))), eight, (row + 8 * i) * 2 * CHUNK
                    )
                    for i in range(4)
                ]
                halves = [_shuffle(builder, parts[i], parts[i + 1], range(16)) for i in (0, 2)]
                rows.append(_shuffle(builder, halves[0], halves[1], range(32)))
            # Groups 0-3 are the even bytes of the first 64, 4-7 the odd ones, 8-11 the even ones of the next 64 ...
            piece, odd = builder.lshr(group, _number(3)), builder.and_(builder.lshr(group, _number(2)), _number(1))
            column = builder.add(
                builder.add(builder.mul(piece, _number(64)), odd),
                builder.mul(builder.and_(group, _number(3)), _number(16)),
            )
            target = builder.add(columns, builder.mul(column, _number(_COLUMN)))
            for place, turned in enumerate(_transpose(builder, rows)):
                _store(builder, turned, target, 2 * place * _COLUMN)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def _make_mix_columns(signed: bool) -> Any:
    @_intrinsic
    def mix_columns(_typing: Any, columns: Any, weights: Any, weights_step: Any, taps: Any, target: Any) -> Any:
        """One output pixel of BLOCK_ROWS rows: the weighted sum of ``taps`` pixels of three columns, as grey levels.

        Values and weights are those of mix_rows. Reads taps * 3 columns of 16-bit values and one weight every
        ``weights_step`` bytes; writes 3 * BLOCK_ROWS bytes.
        """

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            columns, weights, weights_step, taps, target = args

            def levels(tap: Any) -> list[Any]:
                pixel = builder.add(columns, builder.mul(tap, _number(3 * _COLUMN)))
                return [_load(builder, pixel, _ROWS16, channel * _COLUMN) for channel in range(3)]

            for channel, total in enumerate(_tap_loop(builder, taps, weights, weights_step, 3, signed, levels)):
                if signed:
                    rounded = builder.add(total, _all(_I16, BLOCK_ROWS, 16))
                    level = _clamp(builder, builder.ashr(rounded, _all(_I16, BLOCK_ROWS, 5)), 255)
                else:
                    rounded = builder.add(total, _all(_I16, BLOCK_ROWS, 128))
                    level = builder.lshr(rounded, _all(_I16, BLOCK_ROWS, 8))
                _store(builder, builder.trunc(level, _ROWS8), target, channel * BLOCK_ROWS)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return mix_columns


mix_columns = _make_mix_columns(signed=False)
mix_columns_signed = _make_mix_columns(signed=True)


@_intrinsic
def prefetch_for_writing(_typing: Any, address: Any) -> Any:
    """Asks for the cache line at ``address``, which is to be written soon; never faults, whatever the address."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = _I8.as_pointer()
        function = _build.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32]), "llvm.prefetch.p0i8"
        )
        flags = [ir.Constant(_I32, 1), ir.Constant(_I32, 3), ir.Constant(_I32, 1)]
        builder.call(function, [builder.inttoptr(args[0], pointer), *flags])
        return context.get_dummy_value()

    return types.void(types.int64), emit


def _half_in_hardware() -> bool:
    """Whether the processor that numba compiles for converts to float16 by itself; LLVM would call a library else."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    config: Any = numba.config
    if config.CPU_FEATURES is not None:
        return "+f16c" in config.CPU_FEATURES.split(",")
    return bool(config.ENABLE_AVX) and bool(llvmlite.binding.get_host_cpu_features().get("f16c", False))


def _to_half(builder: Any, values: Any) -> Any:
    """float32 lanes to the bits of float16, to nearest even, infinity beyond its range."""
    count = values.type.count
    if _half_in_hardware():
        half = builder.fptrunc(values, ir.VectorType(ir.HalfType(), count))
        return builder.bitcast(half, ir.VectorType(_I16, count))
    return half_by_integers(builder, values)


def half_by_integers(builder: Any, values: Any) -> Any:
    """The same with integer arithmetic alone, for processors without the instruction."""
    count = values.type.count
    lanes = ir.VectorType(_I32, count)

    def word(value: int) -> ir.Constant:
        return _all(_I32, count, value)

    bits = builder.bitcast(values, lanes)
    sign = builder.and_(bits, word(0x80000000))
    size = builder.xor(bits, sign)
    odd = builder.and_(builder.lshr(size, word(13)), word(1))
    normal = builder.lshr(builder.add(builder.add(size, word(0xC8000FFF)), odd), word(13))
    # Below 2**-14 the float adder itself rounds to the fixed step of float16's subnormal numbers.
    magic = word(0x3F000000)
    added = builder.fadd(builder.bitcast(size, values.type), builder.bitcast(magic, values.type))
    subnormal = builder.sub(builder.bitcast(added, lanes), magic)
    result = builder.select(builder.icmp_unsigned("<", size, word(0x38800000)), subnormal, normal)
    result = builder.select(builder.icmp_unsigned(">=", size, word(0x47800000)), word(0x7C00), result)
    return builder.trunc(builder.or_(result, builder.lshr(sign, word(16))), ir.VectorType(_I16, count))


def _to_bfloat(builder: Any, values: Any) -> Any:
    """float32 lanes to the bits of bfloat16, to nearest even."""
    count = values.type.count
    bits = builder.bitcast(values, ir.VectorType(_I32, count))
    odd = builder.and_(builder.lshr(bits, _all(_I32, count, 16)), _all(_I32, count, 1))
    rounded = builder.add(builder.add(bits, _all(_I32, count, 0x7FFF)), odd)
    return builder.trunc(builder.lshr(rounded, _all(_I32, count, 16)), ir.VectorType(_I16, count))


def stored_lanes(builder: Any, kind: int, levels: Any, scale: Any, bias: Any) -> Any:
    """Sixteen grey levels as they are stored."""
    if kind == KIND_UINT8:
        return levels
    wide = builder.uitofp(builder.zext(levels, ir.VectorType(_I32, 16)), ir.VectorType(_F32, 16))
    values = builder.fadd(builder.fmul(wide, scale), bias)
    if kind == KIND_FLOAT16:
        return _to_half(builder, values)
    return _to_bfloat(builder, values) if kind == KIND_BFLOAT16 else values


def _make_store(kind: int) -> Any:
    @_intrinsic
    def store(_typing: Any, columns: Any, columns_step: Any, target: Any, row_bytes: Any, scale: Any, bias: Any) -> Any:
        """Stores sixteen columns of BLOCK_ROWS grey levels as rows of sixteen values, scaled and biased.

        Reads BLOCK_ROWS bytes every ``columns_step`` bytes from ``columns`` on, and sixteen float32 at ``scale`` and
        ``bias``; writes sixteen values to each of BLOCK_ROWS rows, ``row_bytes`` apart.
        """

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            columns, columns_step, target, row_bytes, scale, bias = args
            floats = ir.VectorType(_F32, 16)
            scales, biases = _load(builder, scale, floats), _load(builder, bias, floats)
            places = [builder.add(columns, builder.mul(_number(i), columns_step)) for i in range(16)]
            rows = _transpose(builder, [_load(builder, place, _ROWS8) for place in places])
            for row, both in enumerate(rows):
                for half in (0, 1):
                    levels = _shuffle(builder, both, both, range(16 * half, 16 * half + 16))
                    place = builder.add(target, builder.mul(_number(row + 16 * half), row_bytes))
                    _store(builder, stored_lanes(builder, kind, levels, scales, biases), place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    return store


store_uint8 = _make_store(KIND_UINT8)
store_float16 = _make_store(KIND_FLOAT16)
store_bfloat16 = _make_store(KIND_BFLOAT16)
store_float32 = _make_store(KIND_FLOAT32)
