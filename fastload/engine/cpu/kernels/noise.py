"""Random numbers for each pixel, from a counter and the two words that were drawn for an operation.

Number ``c`` of a stream is a hash of c and the two words: integer arithmetic and correctly rounded float32 alone, so
that it is the same on every machine and in every thread. The hash is C. Wellons' 32-bit finaliser ("lowbias32"), twice,
a word added before each. Normal numbers come from two of them by Box and Muller (at most 5.8 sigma); logarithm, sine
and cosine are Cephes' polynomials for float32, because a library's functions differ from machine to machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fastload.engine.cpu.kernels.planes import fma, level_of, plane_bytes
from fastload.jit import fused, inlined
from fastload.jpeg.intrinsics import Word

_intrinsic: Callable[[Any], Any] = intrinsic
_I32, _F32 = ir.IntType(32), ir.FloatType()

_Plane = NDArray[np.uint8]
_ZERO, _HALF, _ONE, _TWO, _THREE, _FOUR = (np.float32(number) for number in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0))
_LOG_2_HIGH, _LOG_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_QUARTER_TURN = np.float32(1.5707963267948966)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.float32(number)
    for number in (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )
)  # fmt: skip
_S0, _S1, _S2 = np.float32(-1.9515295891e-4), np.float32(8.3321608736e-3), np.float32(-1.6666654611e-1)
_C0, _C1, _C2 = np.float32(2.443315711809948e-5), np.float32(-1.388731625493765e-3), np.float32(4.166664568298827e-2)


@_intrinsic
def share(_typing: Any, counter: Any, key: Any, key_2: Any) -> Any:
    """float32 <- number ``counter`` of a stream, a multiple of 2**-24 above 0 and up to 1. Counters are mod 2**32."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def word(value: int) -> Any:
            return ir.Constant(_I32, value)

        number, *keys = (builder.trunc(value, _I32) for value in args)
        for one in keys:
            number = builder.add(number, one)
            for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
                number = builder.mul(builder.xor(number, builder.lshr(number, word(shift))), word(factor))
            number = builder.xor(number, builder.lshr(number, word(16)))
        steps = builder.add(builder.lshr(number, word(8)), word(1))
        return builder.fmul(builder.sitofp(steps, _F32), ir.Constant(_F32, 2.0**-24))

    return types.float32(types.int64, types.int64, types.int64), emit


@_intrinsic
def _exponent(_typing: Any, value: Any) -> Any:
    """float32 <- e, where a positive value is 2**e times a number from sqrt(1/2) to sqrt(2)."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.sub(builder.bitcast(args[0], _I32), ir.Constant(_I32, 0x3F3504F3))
        return builder.sitofp(builder.ashr(bits, ir.Constant(_I32, 23)), _F32)

    return types.float32(types.float32), emit


@_intrinsic
def _mantissa(_typing: Any, value: Any) -> Any:
    """float32 <- that number."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _I32)
        exponent = builder.ashr(builder.sub(bits, ir.Constant(_I32, 0x3F3504F3)), ir.Constant(_I32, 23))
        return builder.bitcast(builder.sub(bits, builder.shl(exponent, ir.Constant(_I32, 23))), _F32)

    return types.float32(types.float32), emit


@fused
def _log(value: np.float32) -> Word:
    e, f = _exponent(value), _mantissa(value) - _ONE
    p = fma(fma(fma(fma(fma(fma(fma(fma(_L0, f, _L1), f, _L2), f, _L3), f, _L4), f, _L5), f, _L6), f, _L7), f, _L8)
    square = f * f
    rest = fma(-_HALF, square, fma(e, _LOG_2_LOW, p * f * square))
    return fma(e, _LOG_2_HIGH, f + rest)


@fused
def normal_pair(counter: int, key: int, key_2: int) -> tuple[np.float32, np.float32]:
    """Two independent normal numbers, from numbers 2 * counter and 2 * counter + 1 of a stream."""
    radius = np.sqrt(-_TWO * _log(share(2 * counter, key, key_2)))
    turn = share(2 * counter + 1, key, key_2) * _FOUR
    quadrant = np.rint(turn)
    x = (turn - quadrant) * _QUARTER_TURN
    z = x * x
    sine = fma(fma(fma(_S0, z, _S1), z, _S2) * z, x, x)
    cosine = fma(fma(fma(_C0, z, _C1), z, _C2) * z, z, fma(-_HALF, z, _ONE))
    # Without and/or, which would be branches.
    is_odd = (quadrant == _ONE) | (quadrant == _THREE)
    first, second = (sine if is_odd else cosine), (cosine if is_odd else sine)
    first = -first if (quadrant == _ONE) | (quadrant == _TWO) else first
    second = -second if (quadrant == _TWO) | (quadrant == _THREE) else second
    return radius * first, radius * second


@fused
def _with_noise(level: np.uint8, noise: np.float32, clip: bool) -> Word:
    total = np.float32(level) + np.trunc(noise)
    if clip:
        return level_of(min(max(total, _ZERO), np.float32(255.0)))
    # As uint8 wraps: whole numbers below 2**24 are exact.
    return level_of(total - np.floor(total * np.float32(1.0 / 256.0)) * np.float32(256.0))


@inlined
def add_noise(canvas: _Plane, pixels: int, mean: float, sigma: float, clip: bool, key: int, key_2: int) -> None:
    """Adds normal noise to a canvas, cut off to whole levels before, as torchvision does it.

    The pixels of a plane are numbered over the blocks of it; the second number of a pair is for the pixel half a plane
    further on.
    """
    stride = plane_bytes(pixels)
    half = stride // 2
    shift, scale = np.float32(mean * 255.0), np.float32(sigma * 255.0)
    greatest = np.float32(32767.0)
    for channel in range(3):
        first = canvas[channel * stride : channel * stride + half]
        second = canvas[channel * stride + half : (channel + 1) * stride]
        for i in range(half):
            one, two = normal_pair(channel * half + i, key, key_2)
            one = min(max(fma(one, scale, shift), -greatest), greatest)
            two = min(max(fma(two, scale, shift), -greatest), greatest)
            first[i] = _with_noise(first[i], one, clip)
            second[i] = _with_noise(second[i], two, clip)
