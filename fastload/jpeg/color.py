"""Chroma upsampling and colour conversion, exactly as libjpeg-turbo's "fancy" upsampling and its YCbCr tables.

Everything works on runs of 32 pixels. Where a row does not end on one, the last run begins earlier and writes some
pixels a second time, so that nothing is ever written behind a row; rows of fewer than 32 pixels go through a buffer.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from fastload.jit import inlined
from fastload.jpeg.intrinsics import (
    I8,
    I16,
    I32,
    U0,
    U1,
    U2,
    U3,
    U64,
    Word,
    intrinsic,
    load_lanes,
    load_u8,
    store_lanes,
    store_u8,
)

RUN = 32  # pixels
_BYTES = ir.VectorType(I8, RUN)
_SHORTS = ir.VectorType(I16, RUN)
_INTS = ir.VectorType(I32, RUN)
# Reads beyond the last sample of a row: a whole run, and one sample more on either side.
READ_SLACK = 2 * RUN
_RUN = U64(RUN)


def _constant(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _load_shorts(builder: Any, address: Any, offset: int = 0) -> Any:
    """32 bytes as int16."""
    return builder.zext(load_lanes(builder, address, offset, _BYTES), _SHORTS)


def _times(builder: Any, vector: Any, factor: int) -> Any:
    return builder.mul(builder.sext(vector, _INTS), _constant(_INTS, factor))


def _high_half(builder: Any, vector: Any) -> Any:
    return builder.trunc(builder.lshr(vector, _constant(_INTS, 16)), _SHORTS)


def _rounded_dot(builder: Any, a: Any, b: Any, factor_a: int, factor_b: int) -> Any:
    """int16 (a x factor_a + b x factor_b + 32768) >> 16, by the pattern that LLVM makes one pmaddwd of (see idct.py).

    The halves are those of punpcklwd and punpckhwd, four of every eight lanes, so that x86 needs nothing else.
    """
    halves = []
    for first in (0, 4):
        lanes = [8 * group + first + i for group in range(RUN // 8) for i in range(4)]
        order = [index for lane in lanes for index in (lane, RUN + lane)]
        pairs = builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, RUN), order))
        products = builder.mul(builder.sext(pairs, _INTS), ir.Constant(_INTS, [factor_a, factor_b] * (RUN // 2)))
        picks = [ir.Constant(ir.VectorType(I32, RUN // 2), list(range(odd, RUN, 2))) for odd in (0, 1)]
        total = builder.add(*(builder.shuffle_vector(products, products, pick) for pick in picks))
        total = builder.add(total, _constant(ir.VectorType(I32, RUN // 2), 32768))
        halves.append(builder.bitcast(total, _SHORTS))
    # The high 16 bits of each sum, back in order.
    back = [base + 8 * group + 2 * i + 1 for group in range(RUN // 8) for base in (0, RUN) for i in range(4)]
    return builder.shuffle_vector(*halves, ir.Constant(_INTS, back))


def _rounded_half(builder: Any, vector: Any) -> Any:
    one = _constant(_SHORTS, 1)
    return builder.ashr(builder.add(vector, one), one)


def _clamped(builder: Any, vector: Any) -> Any:
    for limit, compare in ((0, "<"), (255, ">")):
        bound = _constant(_SHORTS, limit)
        vector = builder.select(builder.icmp_signed(compare, vector, bound), bound, vector)
    return builder.trunc(vector, _BYTES)


def _store_interleaved(builder: Any, address: Any, red: Any, green: Any, blue: Any) -> None:
    """96 bytes: r g b r g b ..."""
    wide = ir.VectorType(I32, 2 * RUN)
    both = ir.Constant(wide, list(range(2 * RUN)))
    red_green = builder.shuffle_vector(red, green, both)
    blue_any = builder.shuffle_vector(blue, ir.Constant(_BYTES, ir.Undefined), both)
    order = [index for i in range(RUN) for index in (i, RUN + i, 2 * RUN + i)]
    mask = ir.Constant(ir.VectorType(I32, 3 * RUN), order)
    store_lanes(builder, address, 0, builder.shuffle_vector(red_green, blue_any, mask))


@intrinsic
def _convert_run(_typing: Any, luma: Any, blue: Any, red: Any, out: Any) -> Any:
    """32 pixels from addresses of Y, Cb, Cr samples to 96 bytes of RGB.

    The same integers as jdcolor.c: R = Y + 1.402 Cr with the factor split as libjpeg-turbo's vector code splits it.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        y = _load_shorts(builder, args[0])
        cb = builder.sub(_load_shorts(builder, args[1]), _constant(_SHORTS, 128))
        cr = builder.sub(_load_shorts(builder, args[2]), _constant(_SHORTS, 128))
        cb2, cr2 = builder.add(cb, cb), builder.add(cr, cr)
        r = builder.add(cr, _rounded_half(builder, _high_half(builder, _times(builder, cr2, 26345))))
        b = builder.add(cb2, _rounded_half(builder, _high_half(builder, _times(builder, cb2, -14942))))
        g = builder.sub(_rounded_dot(builder, cb, cr, -22554, 18734), cr)
        r, g, b = (_clamped(builder, builder.add(y, term)) for term in (r, g, b))
        _store_interleaved(builder, args[3], r, g, b)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 4), emit


@intrinsic
def _spread_run(_typing: Any, luma: Any, out: Any) -> Any:
    """32 grey pixels to 96 bytes of RGB."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        y = load_lanes(builder, args[0], 0, _BYTES)
        _store_interleaved(builder, args[1], y, y, y)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 2), emit


@intrinsic
def _weigh_run(_typing: Any, near: Any, far: Any, out: Any) -> Any:
    """32 samples 3 x near + far, as int16."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        near_3 = builder.mul(_load_shorts(builder, args[0]), _constant(_SHORTS, 3))
        store_lanes(builder, args[2], 0, builder.add(near_3, _load_shorts(builder, args[1])))
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 3), emit


@intrinsic
def _blend_run(_typing: Any, near: Any, far: Any, bias: Any, out: Any) -> Any:
    """32 samples (3 x near + far + bias) >> 2: upsampling in the vertical alone."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        near_3 = builder.mul(_load_shorts(builder, args[0]), _constant(_SHORTS, 3))
        total = builder.add(near_3, _load_shorts(builder, args[1]))
        bias = builder.insert_element(
            ir.Constant(_SHORTS, ir.Undefined), builder.trunc(args[2], I16), ir.Constant(I32, 0)
        )
        bias = builder.shuffle_vector(bias, bias, ir.Constant(ir.VectorType(I32, RUN), [0] * RUN))
        total = builder.lshr(builder.add(total, bias), _constant(_SHORTS, 2))
        store_lanes(builder, args[3], 0, builder.trunc(total, _BYTES))
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 4), emit


def _emit_doubled(
    builder: Any, centre: Any, left: Any, right: Any, rounding: tuple[int, int], bits: int, out: Any
) -> None:
    """64 samples between int16 neighbours: (3 x centre + left + rounding) >> bits and the same with right."""
    centre_3 = builder.mul(centre, _constant(_SHORTS, 3))
    shift = _constant(_SHORTS, bits)
    even = builder.lshr(builder.add(builder.add(centre_3, left), _constant(_SHORTS, rounding[0])), shift)
    odd = builder.lshr(builder.add(builder.add(centre_3, right), _constant(_SHORTS, rounding[1])), shift)
    store_lanes(builder, out, 0, builder.or_(even, builder.shl(odd, _constant(_SHORTS, 8))))


@intrinsic
def _double_weighed_run(_typing: Any, source: Any, out: Any) -> Any:
    """32 weighed sums (int16) to 64 samples: the horizontal half of upsampling in both directions."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        centre, left, right = (load_lanes(builder, args[0], 2 * step, _SHORTS) for step in (0, -1, 1))
        _emit_doubled(builder, centre, left, right, (8, 7), 4, args[1])
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 2), emit


@intrinsic
def _double_run(_typing: Any, source: Any, out: Any) -> Any:
    """32 samples to 64: upsampling in the horizontal alone."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        centre, left, right = (_load_shorts(builder, args[0], step) for step in (0, -1, 1))
        _emit_doubled(builder, centre, left, right, (1, 2), 2, args[1])
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 2), emit


@inlined
def convert_row(luma: Word, blue: Word, red: Word, out: Word, width: Word, short_row: Word) -> None:
    """One row of RGB from rows of Y, Cb and Cr; ``short_row`` is the address of 3 x RUN bytes of scratch."""
    if width < _RUN:
        _convert_run(luma, blue, red, short_row)
        for i in range(U0, width * U3):
            store_u8(out, i, load_u8(short_row, i))
        return
    last = width - _RUN
    for x in range(U0, last, _RUN):
        _convert_run(luma + x, blue + x, red + x, out + x * U3)
    _convert_run(luma + last, blue + last, red + last, out + last * U3)


@inlined
def spread_row(luma: Word, out: Word, width: Word, short_row: Word) -> None:
    """One row of RGB from a row of grey."""
    if width < _RUN:
        _spread_run(luma, short_row)
        for i in range(U0, width * U3):
            store_u8(out, i, load_u8(short_row, i))
        return
    last = width - _RUN
    for x in range(U0, last, _RUN):
        _spread_run(luma + x, out + x * U3)
    _spread_run(luma + last, out + last * U3)


@inlined
def upsample_both(near: Word, far: Word, sums: Word, out: Word, samples: Word) -> None:
    """2 x ``samples`` samples of one output row from the chroma row that covers it and the next nearest (4:2:0).

    Reads one sample to the left and right of each row; ``sums`` is the address of int16 scratch for the row.
    """
    for x in range(U0, samples + U2, _RUN):
        _weigh_run(near + x - U1, far + x - U1, sums + x * U2)
    for x in range(U0, samples, _RUN):
        _double_weighed_run(sums + x * U2 + U2, out + x * U2)


@inlined
def upsample_across(row: Word, out: Word, samples: Word) -> None:
    """2 x ``samples`` samples from one chroma row, of which one sample to the left and right is read (4:2:2)."""
    for x in range(U0, samples, _RUN):
        _double_run(row + x, out + x * U2)


@inlined
def upsample_down(near: Word, far: Word, bias: Word, out: Word, samples: Word) -> None:
    """One row from the chroma row that covers it and the next nearest (4:4:0); bias 1 if that is above, else 2."""
    for x in range(U0, samples, _RUN):
        _blend_run(near + x, far + x, bias, out + x)
