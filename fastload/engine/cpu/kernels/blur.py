"""The gaussian blur of levels in 16-bit vector arithmetic: down columns, then along rows, mirrored at the edges.

Why it is within one level of torchvision's floats. 128ths of a level pass from the first direction to the second. Every
pair of taps loses half of a 128th at most (what multiply-high cuts off, centred), 0.26 levels for FIXED_RADIUS on both,
and the rounding of its weight 510 / 131072, which for all that is below 0.5 together; the weights add up to 1 exactly.
Two roundings of numbers that differ by less than 1 differ by one level at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from fastload.engine.cpu.kernels.planes import plane_bytes
from fastload.jit import inlined

# Pixels that reach to either side here, at most.
FIXED_RADIUS: Final = 32
# Columns that are worked on at a time, down and along.
_DOWN, _ALONG = 128, 64
_LANES: Final = 32

_build: Any = cgutils
_intrinsic: Callable[[Any], Any] = intrinsic
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _SHORTS, _WORDS = (ir.VectorType(kind, _LANES) for kind in (_I8, _I16, _I32))


def _load(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    value = builder.load(builder.inttoptr(builder.add(address, ir.Constant(_I64, offset)), kind.as_pointer()))
    value.align = 1
    return value


def _store(builder: Any, value: Any, address: Any, offset: int) -> None:
    pointer = builder.inttoptr(builder.add(address, ir.Constant(_I64, offset)), value.type.as_pointer())
    builder.store(value, pointer).align = 1


def _all(value: int) -> ir.Constant:
    return ir.Constant(_SHORTS, [value] * _LANES)


def _times(builder: Any, value: Any, weight: Any) -> Any:
    """The upper 16 bits of products: vpmulhuw."""
    product = builder.mul(builder.zext(value, _WORDS), builder.zext(weight, _WORDS))
    return builder.trunc(builder.lshr(product, ir.Constant(_WORDS, [16] * _LANES)), _SHORTS)


def _weight(builder: Any, weights: Any, tap: Any) -> Any:
    one = _load(builder, builder.add(weights, builder.shl(tap, ir.Constant(_I64, 1))), _I16)
    undefined = ir.Constant(_SHORTS, ir.Undefined)
    first = builder.insert_element(undefined, one, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES))


def _sums(builder: Any, radius: Any, weights: Any, centre: list[Any], pairs: Callable[[Any], list[Any]]) -> list[Any]:
    """Weighted sums of vectors: ``centre`` by the first weight, and what ``pairs`` gives for each tap by its own."""
    weight = _weight(builder, weights, ir.Constant(_I64, 0))
    # Half of what is cut off with each product.
    lost = builder.trunc(builder.lshr(builder.add(radius, ir.Constant(_I64, 1)), ir.Constant(_I64, 1)), _I16)
    first = builder.insert_element(ir.Constant(_SHORTS, ir.Undefined), lost, ir.Constant(_I32, 0))
    start = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES))
    totals = [_build.alloca_once(builder, _SHORTS) for _ in centre]
    for total, value in zip(totals, centre, strict=True):
        builder.store(builder.add(start, _times(builder, value, weight)), total)
    with _build.for_range(builder, radius) as loop:
        tap = builder.add(loop.index, ir.Constant(_I64, 1))
        weight = _weight(builder, weights, tap)
        for total, value in zip(totals, pairs(tap), strict=True):
            builder.store(builder.add(builder.load(total), _times(builder, value, weight)), total)
    return [builder.load(total) for total in totals]


@_intrinsic
def _blur_down(_typing: Any, source: Any, offsets: Any, weights: Any, radius: Any, line: Any) -> Any:
    """_DOWN columns of one row, as 128ths of a level.

    offsets: address of int64, where the rows lie from ``source`` on: the middle one, and then the two of each tap.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        source, offsets, weights, radius, line = args

        def row(number: Any) -> list[Any]:
            offset = _load(builder, builder.add(offsets, builder.shl(number, ir.Constant(_I64, 3))), _I64)
            start = builder.add(source, offset)
            return [builder.zext(_load(builder, start, _BYTES, at), _SHORTS) for at in range(0, _DOWN, _LANES)]

        def pairs(tap: Any) -> list[Any]:
            second = builder.shl(tap, ir.Constant(_I64, 1))
            both = zip(row(builder.sub(second, ir.Constant(_I64, 1))), row(second), strict=True)
            return [builder.shl(builder.add(above, below), _all(7)) for above, below in both]

        centre = [builder.shl(value, _all(7)) for value in row(ir.Constant(_I64, 0))]
        for place, total in enumerate(_sums(builder, radius, weights, centre, pairs)):
            _store(builder, total, line, 2 * _LANES * place)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@_intrinsic
def _blur_along(_typing: Any, line: Any, weights: Any, radius: Any, target: Any) -> Any:
    """_ALONG levels of one row, from 128ths of levels at ``line`` and to both sides of it."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        line, weights, radius, target = args

        def values(address: Any) -> list[Any]:
            return [_load(builder, address, _SHORTS, 2 * at) for at in range(0, _ALONG, _LANES)]

        def pairs(tap: Any) -> list[Any]:
            step = builder.shl(tap, ir.Constant(_I64, 1))
            both = zip(values(builder.sub(line, step)), values(builder.add(line, step)), strict=True)
            return [builder.add(before, behind) for before, behind in both]

        for place, total in enumerate(_sums(builder, radius, weights, values(line), pairs)):
            level = builder.lshr(builder.add(total, _all(64)), _all(7))
            _store(builder, builder.trunc(level, _BYTES), target, _LANES * place)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@inlined
def mirrored(i: int, count: int) -> int:
    """Position i of a line that goes back and forth between its ends, which it does not repeat."""
    if count == 1:
        return 0
    i = abs(i) % (2 * count - 2)
    return i if i < count else 2 * count - 2 - i


@inlined
def _fix(weights: NDArray[np.float32], fixed: NDArray[np.uint16]) -> None:
    """Weights in 65536ths, which add up to one: what rounding leaves is the middle one's."""
    rest = np.int64(65536)
    for tap in range(1, weights.size):
        weight = np.int64(np.rint(np.float64(weights[tap]) * 65536.0))
        fixed[tap] = np.uint16(weight)
        rest -= 2 * weight
    fixed[0] = np.uint16(min(max(rest, 0), 65535))


@inlined
def blur_fixed(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    height: int,
    width: int,
    across: NDArray[np.float32],
    along: NDArray[np.float32],
    memory: NDArray[np.uint16],
    offsets: NDArray[np.int64],
) -> None:
    """Blurs the planes of a canvas into another one; up to 127 bytes behind each are read, and 63 written.

    Args:
        source, target: uint8, three planes with SLACK bytes behind the last.
        height, width: Size.
        across, along: Weights along a row and down a column, the middle one first; at most FIXED_RADIUS + 1.
        memory: uint16, width + 2 * FIXED_RADIUS + 512.
        offsets: int64, 2 * FIXED_RADIUS + 1.
    """
    stride, radius_x, radius_y = plane_bytes(height * width), across.size - 1, along.size - 1
    _fix(across, memory[:128])
    _fix(along, memory[128:256])
    weights_x = np.int64(memory.ctypes.data)
    line = memory[256:]
    start = np.int64(line.ctypes.data) + 2 * radius_x
    for channel in range(3):
        origin, out = np.int64(source.ctypes.data) + channel * stride, np.int64(target.ctypes.data) + channel * stride
        for y in range(height):
            offsets[0] = y * width
            for tap in range(1, radius_y + 1):
                offsets[2 * tap - 1] = mirrored(y - tap, height) * width
                offsets[2 * tap] = mirrored(y + tap, height) * width
            for x in range(0, width, _DOWN):
                _blur_down(origin + x, np.int64(offsets.ctypes.data), weights_x + 256, radius_y, start + 2 * x)
            for tap in range(1, radius_x + 1):
                line[radius_x - tap] = line[radius_x + mirrored(-tap, width)]
                line[radius_x + width - 1 + tap] = line[radius_x + mirrored(width - 1 + tap, width)]
            # What goes beyond the end of a row is overwritten with the next.
            for x in range(0, width, _ALONG):
                _blur_along(start + 2 * x, weights_x, radius_x, out + y * width + x)
