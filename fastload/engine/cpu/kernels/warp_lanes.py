"""Eight pixels of a warp at a time: the instructions that numba cannot express, and raw addresses.

Contract, as in vector.py: an address is an int64 of an array that the calling kernel holds. A position is clamped here
to 0 <= x <= greatest_x (and y likewise), whatever number comes, NaN and infinity too; the caller guarantees (warp.py
does so from the sizes of its arrays) that at every such position the bytes named below may be read, and 24 written.

Positions are in 32768ths of a pixel, from the middle of the first one for bilinear and from its edge for nearest. For
bilinear both steps keep 8 bits more than a level has: it is off by less than 1/30 before it is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types

from fastload.jpeg.intrinsics import I8, I16, I32, I64, intrinsic, load_lanes, store_lanes

# Pixels that one call works on.
LANES: Final = 8
# Bits of a position behind the point.
FRACTION: Final = 15
# Bits behind the point of the positions that an affine call begins with.
FINE: Final = 32

_F64 = ir.DoubleType()
_WORDS = ir.VectorType(I32, LANES)
_DOUBLES = ir.VectorType(_F64, LANES)
# Four pixels, each of two neighbours' three channels and two lanes that nobody looks at.
_HALF16 = ir.VectorType(I16, 32)
_HALF8 = ir.VectorType(I8, 32)


def _all(kind: Any, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _spread(builder: Any, value: Any, count: int = LANES) -> Any:
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return _shuffle(builder, one, one, [0] * count)


def _shuffle(builder: Any, first: Any, second: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def _multiply_high(builder: Any, first: Any, second: Any) -> Any:
    """The upper 16 bits of the product of unsigned 16-bit lanes: pmulhuw."""
    wide = ir.VectorType(I32, first.type.count)
    product = builder.mul(builder.zext(first, wide), builder.zext(second, wide))
    return builder.trunc(builder.lshr(product, _all(wide, 16)), first.type)


def _offsets(builder: Any, x: Any, y: Any, stride: Any) -> list[Any]:
    """Where the pixel of each position begins, in bytes from the source's first."""
    shift = _all(_WORDS, FRACTION)
    rows = builder.mul(builder.lshr(y, shift), _spread(builder, builder.trunc(stride, I32)))
    offsets = builder.add(rows, builder.mul(builder.lshr(x, shift), _all(_WORDS, 3)))
    # Two at a time: what comes out of a vector takes the units that shuffle, of which there are few.
    pairs = builder.bitcast(offsets, ir.VectorType(I64, LANES // 2))
    result = []
    for lane in range(LANES // 2):
        pair = builder.extract_element(pairs, ir.Constant(I32, lane))
        result += [builder.and_(pair, ir.Constant(I64, 0xFFFFFFFF)), builder.lshr(pair, ir.Constant(I64, 32))]
    return result


def _neighbours(builder: Any, source: Any, offsets: Sequence[Any]) -> tuple[Any, Any]:
    """Eight bytes of each of eight pixels, times 256: the pixel, the one to its right, and two that nobody looks at.

    Pixels 0, 2, 4 and 6, and the others: so that bytes are widened within 16 of them.
    """
    words = ir.Constant(ir.VectorType(I64, LANES), ir.Undefined)
    for lane, offset in enumerate(offsets):
        word = load_lanes(builder, builder.add(source, offset), 0, I64)
        words = builder.insert_element(words, word, ir.Constant(I32, lane))
    levels = builder.bitcast(words, ir.VectorType(I8, 64))
    zero = _all(levels.type, 0)
    halves = []
    for half in (0, 8):
        lanes = [part for lane in range(32) for part in (64, 16 * (lane // 8) + half + lane % 8)]
        halves.append(builder.bitcast(_shuffle(builder, levels, zero, lanes), _HALF16))
    return halves[0], halves[1]


def _store(builder: Any, levels: Any, target: Any) -> None:
    """The first 24 of 32 bytes."""
    store_lanes(builder, target, 0, _shuffle(builder, levels, levels, range(16)))
    store_lanes(builder, target, 16, _shuffle(builder, levels, levels, range(16, 24)))


def _mix_bilinear(builder: Any, source: Any, stride: Any, x: Any, y: Any, target: Any) -> None:
    offsets = _offsets(builder, x, y, stride)
    narrow = ir.VectorType(I16, LANES)
    weights_x, weights_y = (builder.shl(builder.trunc(place, narrow), _all(narrow, 1)) for place in (x, y))
    upper = _neighbours(builder, source, offsets)
    lower = _neighbours(builder, builder.add(source, stride), offsets)
    halves = []
    for half in (0, 1):
        pixels = [2 * (lane // 8) + half for lane in range(32)]
        weight = _shuffle(builder, weights_y, weights_y, pixels)
        mixed = builder.add(
            _multiply_high(builder, upper[half], builder.not_(weight)), _multiply_high(builder, lower[half], weight)
        )
        right = _shuffle(builder, mixed, mixed, [8 * (lane // 8) + (lane % 8 + 3) % 8 for lane in range(32)])
        weight = _shuffle(builder, weights_x, weights_x, pixels)
        level = builder.add(
            _multiply_high(builder, mixed, builder.not_(weight)), _multiply_high(builder, right, weight)
        )
        # Half a level, and what the products lose on average.
        halves.append(builder.bitcast(builder.add(level, _all(_HALF16, 128 + 3)), ir.VectorType(I8, 64)))
    lanes = [64 * (pixel % 2) + 16 * (pixel // 2) + 2 * channel + 1 for pixel in range(LANES) for channel in range(3)]
    _store(builder, _shuffle(builder, halves[0], halves[1], lanes + [0] * 8), target)


def _take_nearest(builder: Any, source: Any, stride: Any, x: Any, y: Any, target: Any) -> None:
    words = ir.Constant(_WORDS, ir.Undefined)
    for lane, offset in enumerate(_offsets(builder, x, y, stride)):
        word = load_lanes(builder, builder.add(source, offset), 0, I32)
        words = builder.insert_element(words, word, ir.Constant(I32, lane))
    pixels = builder.bitcast(words, _HALF8)
    lanes = [4 * (place // 3) + place % 3 for place in range(24)]
    _store(builder, _shuffle(builder, pixels, pixels, lanes + [0] * 8), target)


def _stepped(builder: Any, start: Any, step: Any, greatest: Any) -> Any:
    """Positions start + i * step, from 2**-FINE to 2**-FRACTION pixels, clamped. Off by one unit at most."""
    wide = ir.VectorType(I64, LANES)
    numbers = ir.Constant(wide, list(range(LANES)))
    shift = ir.Constant(I64, FINE - FRACTION)
    # Does not change from call to call of a row, so that LLVM takes it out of the loop.
    away = builder.ashr(builder.mul(_spread(builder, step), numbers), _spread(builder, shift))
    place = builder.add(builder.trunc(away, _WORDS), _spread(builder, builder.trunc(builder.ashr(start, shift), I32)))
    zero, most = _all(_WORDS, 0), _spread(builder, builder.trunc(greatest, I32))
    place = builder.select(builder.icmp_signed(">", place, zero), place, zero)
    return builder.select(builder.icmp_signed("<", place, most), place, most)


def _divided(builder: Any, numerator: Any, inverse: Any, greatest: Any) -> Any:
    """Positions from doubles in pixels to 2**-FRACTION, clamped; NaN becomes 0."""
    place = builder.fmul(builder.fmul(numerator, inverse), _all(_DOUBLES, float(1 << FRACTION)))
    zero, most = _all(_DOUBLES, 0.0), _spread(builder, builder.sitofp(greatest, _F64))
    place = builder.select(builder.fcmp_ordered(">", place, zero), place, zero)
    place = builder.select(builder.fcmp_ordered("<", place, most), place, most)
    return builder.fptosi(place, _WORDS)


_Sampler = Callable[[Any, Any, Any, Any, Any, Any], None]


def _make_affine(sample: _Sampler) -> Any:
    @intrinsic
    def take(
        _typing: Any, source: Any, stride: Any, x: Any, y: Any, step_x: Any, step_y: Any, most_x: Any, most_y: Any,
        target: Any,
    ) -> Any:  # fmt: skip
        """Eight pixels of an affine map.

        Args: address of the source, bytes of its rows, the first pixel's position and the steps from pixel to pixel
        in 2**-FINE pixels, the greatest positions in 2**-FRACTION pixels, address of the 24 bytes to be written.
        """

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            source, stride, x, y, step_x, step_y, most_x, most_y, target = args
            across = _stepped(builder, x, step_x, most_x)
            down = _stepped(builder, y, step_y, most_y)
            sample(builder, source, stride, across, down, target)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), emit

    return take


def _make_perspective(sample: _Sampler) -> Any:
    @intrinsic
    def take(
        _typing: Any, source: Any, stride: Any, x: Any, y: Any, w: Any, step_x: Any, step_y: Any, step_w: Any,
        most_x: Any, most_y: Any, target: Any,
    ) -> Any:  # fmt: skip
        """Eight pixels of a perspective map; as for an affine one, but that positions are doubles, in pixels: x / w."""

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            source, stride, x, y, w, step_x, step_y, step_w, most_x, most_y, target = args
            numbers = ir.Constant(_DOUBLES, [float(i) for i in range(LANES)])
            x, y, w = (
                builder.fadd(_spread(builder, start), builder.fmul(_spread(builder, step), numbers))
                for start, step in ((x, step_x), (y, step_y), (w, step_w))
            )
            inverse = builder.fdiv(_all(_DOUBLES, 1.0), w)
            across, down = _divided(builder, x, inverse, most_x), _divided(builder, y, inverse, most_y)
            sample(builder, source, stride, across, down, target)
            return context.get_dummy_value()

        word, double = types.int64, types.float64
        return types.void(word, word, *[double] * 6, word, word, word), emit

    return take


# Reads eight bytes at the pixel of each position, and eight of the row below.
affine_bilinear = _make_affine(_mix_bilinear)
perspective_bilinear = _make_perspective(_mix_bilinear)
# Reads four bytes at the pixel of each position.
affine_nearest = _make_affine(_take_nearest)
perspective_nearest = _make_perspective(_take_nearest)


@intrinsic
def paint_eight(_typing: Any, target: Any, colour: Any) -> Any:
    """Writes 24 bytes: red, green and blue, the lowest three bytes of ``colour``, eight times."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        level = builder.bitcast(args[1], ir.VectorType(I8, 8))
        _store(builder, _shuffle(builder, level, level, [place % 3 for place in range(32)]), args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def paint_one(_typing: Any, target: Any, colour: Any) -> Any:
    """Writes three bytes, the lowest of ``colour``."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        store_lanes(builder, args[0], 0, builder.trunc(args[1], I16))
        store_lanes(builder, args[0], 2, builder.trunc(builder.lshr(args[1], ir.Constant(I64, 16)), I8))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def level_at(_typing: Any, address: Any) -> Any:
    """The byte at an address, 0 to 255."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.zext(load_lanes(builder, args[0], 0, I8), I64)

    return types.int64(types.int64), emit
