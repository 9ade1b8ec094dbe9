"""Images as three planes of bytes, in vectors: apart and together again, through a table, and into a slot.

A canvas is three planes (red, green, blue), each ``plane_bytes`` long: its pixels row after row, and behind them what
is missing to whole blocks of BLOCK pixels, of any value. So every loop over a plane runs in
whole blocks, and none has a tail.

Contract, as in vector.py: an address is an int64 taken from an array that the calling kernel holds for as long as it
runs, and nothing is checked here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, Final

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from fastload import jit
from fastload.engine.cpu.kernels.exact import store_level
from fastload.engine.cpu.kernels.layout import (
    CHANNEL_STEP,
    KIND,
    KIND_BFLOAT16,
    KIND_FLOAT16,
    KIND_FLOAT32,
    KIND_UINT8,
    OUT_WIDTH,
    PIXEL_STEP,
    Constants,
    Slot,
)
from fastload.engine.cpu.kernels.vector import half_by_integers, stored_lanes

BLOCK: Final = 64
# Pixels that are put together, or taken apart, at a time.
RUN: Final = 32

_build: Any = cgutils
_intrinsic: Callable[[Any], Any] = intrinsic
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_RUN8 = ir.VectorType(_I8, RUN)
_BLOCK8 = ir.VectorType(_I8, BLOCK)


def _number(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _load(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    value = builder.load(builder.inttoptr(builder.add(address, _number(offset)), kind.as_pointer()))
    value.align = 1
    return value


def _store(builder: Any, value: Any, address: Any, offset: int = 0) -> None:
    pointer = builder.inttoptr(builder.add(address, _number(offset)), value.type.as_pointer())
    builder.store(value, pointer).align = 1


def _shuffle(builder: Any, first: Any, second: Any, lanes: Any) -> Any:
    lanes = list(lanes)
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _joined(builder: Any, red: Any, green: Any, blue: Any) -> Any:
    """r g b r g b ... of three vectors of RUN lanes."""
    both = range(2 * RUN)
    red_green = _shuffle(builder, red, green, both)
    blue_any = _shuffle(builder, blue, ir.Constant(_RUN8, ir.Undefined), both)
    return _shuffle(builder, red_green, blue_any, [lane for i in range(RUN) for lane in (i, RUN + i, 2 * RUN + i)])


@_intrinsic
def split_run(_typing: Any, pixels: Any, planes: Any, stride: Any) -> Any:
    """RUN pixels of three bytes to three planes, ``stride`` bytes apart: 96 bytes read, RUN written to each."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        parts = [_load(builder, args[0], _RUN8, RUN * part) for part in range(3)]
        first = _shuffle(builder, parts[0], parts[1], range(2 * RUN))
        last = _shuffle(builder, parts[2], ir.Constant(_RUN8, ir.Undefined), range(2 * RUN))
        for channel in range(3):
            lanes = range(channel, 3 * RUN, 3)
            plane = builder.add(args[1], builder.mul(args[2], _number(channel)))
            _store(builder, _shuffle(builder, first, last, lanes), plane)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


def _make_store(kind: int, planar: bool) -> Any:
    @_intrinsic
    def store(_typing: Any, planes: Any, stride: Any, target: Any, channel_bytes: Any, scale: Any, bias: Any) -> Any:
        """Stores RUN pixels of three planes, ``stride`` bytes apart, scaled and biased, as a slot's type.

        Reads RUN bytes of each plane, and 48 float32 at ``scale`` and ``bias`` (see Constants); writes 3 * RUN values:
        side by side, or those of each channel ``channel_bytes`` further on.
        """

        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            planes, stride, target, channel_bytes, scale, bias = args
            floats = ir.VectorType(_F32, 16)
            levels = [
                _load(builder, builder.add(planes, builder.mul(stride, _number(channel))), _RUN8)
                for channel in range(3)
            ]
            if not planar:
                every = _joined(builder, *levels)
                if kind == KIND_UINT8:
                    _store(builder, every, target)
                    return context.get_dummy_value()
                levels = [_shuffle(builder, every, every, range(RUN * i, RUN * i + RUN)) for i in range(3)]
            size = {KIND_UINT8: 1, KIND_FLOAT16: 2, KIND_BFLOAT16: 2, KIND_FLOAT32: 4}[kind]
            for part, both in enumerate(levels):
                for half in (0, 1):
                    group = part if planar else (2 * part + half) % 3
                    factors = [_load(builder, numbers, floats, 64 * group) for numbers in (scale, bias)]
                    sixteen = _shuffle(builder, both, both, range(16 * half, 16 * half + 16))
                    value = stored_lanes(builder, kind, sixteen, *factors)
                    if planar:
                        place = builder.add(target, builder.mul(channel_bytes, _number(part)))
                        _store(builder, value, place, size * 16 * half)
                    else:
                        _store(builder, value, target, size * 16 * (2 * part + half))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    return store


_KINDS = (KIND_UINT8, KIND_FLOAT16, KIND_BFLOAT16, KIND_FLOAT32)
_store_uint8, _store_float16, _store_bfloat16, _store_float32 = (_make_store(kind, False) for kind in _KINDS)
_plane_uint8, _plane_float16, _plane_bfloat16, _plane_float32 = (_make_store(kind, True) for kind in _KINDS)


def _table_instruction() -> bool:
    """Whether the processor that numba compiles for looks up bytes in a table of 256 by itself (AVX-512 VBMI)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    config: Any = numba.config
    if config.CPU_FEATURES is not None:
        return "+avx512vbmi" in config.CPU_FEATURES.split(",")
    features = llvmlite.binding.get_host_cpu_features()
    return bool(config.ENABLE_AVX) and bool(features.get("avx512vbmi", False))


TABLE_INSTRUCTION: Final = _table_instruction()


@_intrinsic
def look_up_block(_typing: Any, table: Any, plane: Any) -> Any:
    """BLOCK bytes at ``plane``, each replaced by what a table of 256 bytes says; only with TABLE_INSTRUCTION."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_BLOCK8, [_BLOCK8] * 3)
        look_up = _build.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpermi2var.qi.512")
        quarters = [_load(builder, args[0], _BLOCK8, BLOCK * i) for i in range(4)]
        index = _load(builder, args[1], _BLOCK8)
        lower, upper = (builder.call(look_up, [quarters[i], index, quarters[i + 1]]) for i in (0, 2))
        high = builder.icmp_signed("<", index, ir.Constant(_BLOCK8, [0] * BLOCK))
        _store(builder, builder.select(high, upper, lower), args[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@jit.inlined
def plane_bytes(pixels: int) -> int:
    """Bytes of each plane of a canvas of so many pixels."""
    return (pixels + BLOCK - 1) // BLOCK * BLOCK


@jit.inlined
def copy(source: NDArray[np.uint8], target: NDArray[np.uint8], count: int) -> None:
    """``count`` bytes (numba's assignment of slices takes ten times as long)."""
    for i in range(count):
        target[i] = source[i]


@jit.inlined
def split(pixels: NDArray[np.uint8], count: int, canvas: NDArray[np.uint8]) -> None:
    """``count`` pixels r g b r g b ... to the planes of a canvas. Reads up to 3 * (BLOCK - 1) bytes behind them."""
    stride = plane_bytes(count)
    source, target = np.int64(pixels.ctypes.data), np.int64(canvas.ctypes.data)
    for first in range(0, stride, RUN):
        split_run(source + 3 * first, target + first, stride)


@jit.inlined
def join(canvas: NDArray[np.uint8], count: int, pixels: NDArray[np.uint8]) -> None:
    """The opposite of ``split``. Writes up to 3 * (BLOCK - 1) bytes behind the pixels."""
    stride = plane_bytes(count)
    source, target = np.int64(canvas.ctypes.data), np.int64(pixels.ctypes.data)
    for first in range(0, stride, RUN):
        _store_uint8(source + first, stride, target + 3 * first, 0, 0, 0)


@jit.inlined
def look_up(table: NDArray[np.uint8], canvas: NDArray[np.uint8], stride: int) -> None:
    """Replaces every level of a canvas by what the table of its channel says: uint8 (768,)."""
    if TABLE_INSTRUCTION:
        tables, planes = np.int64(table.ctypes.data), np.int64(canvas.ctypes.data)
        for channel in range(3):
            for first in range(0, stride, BLOCK):
                look_up_block(tables + 256 * channel, planes + channel * stride + first)
    else:
        for channel in range(3):
            one, plane = table[256 * channel : 256 * channel + 256], canvas[channel * stride : (channel + 1) * stride]
            for i in range(plane.size):
                plane[i] = one[plane[i]]


@jit.inlined
def store_canvas(canvas: NDArray[np.uint8], pixels: int, constants: Constants, slot: Slot, start: int) -> None:
    """The ``pixels`` of a canvas to the slot, from value ``start`` on, scaled, biased, and laid out as it asks."""
    numbers = constants.numbers
    kind, stride = numbers[KIND], plane_bytes(pixels)
    if pixels < RUN:
        width = numbers[OUT_WIDTH]
        for i in range(pixels):
            for channel in range(3):
                level = np.int64(canvas[channel * stride + i])
                store_level(slot, constants, start, i // width, i % width, channel, level)
        return
    source = np.int64(canvas.ctypes.data)
    scale, bias = np.int64(constants.scale.ctypes.data), np.int64(constants.bias.ctypes.data)
    planar, step = numbers[PIXEL_STEP] == 1, numbers[PIXEL_STEP]
    size = 1 if kind == KIND_UINT8 else (4 if kind == KIND_FLOAT32 else 2)
    if kind == KIND_UINT8:
        target = np.int64(slot.bytes1.ctypes.data) + start
    elif kind == KIND_FLOAT32:
        target = np.int64(slot.bytes4.ctypes.data) + 4 * start
    else:
        target = np.int64(slot.bytes2.ctypes.data) + 2 * start
    apart = size * numbers[CHANNEL_STEP]
    for block in range((pixels + RUN - 1) // RUN):
        # The last run begins earlier, and stores some pixels a second time: nothing is written behind the image.
        first = min(block * RUN, pixels - RUN)
        at = target + size * step * first
        if kind == KIND_UINT8:
            if planar:
                _plane_uint8(source + first, stride, at, apart, scale, bias)
            else:
                _store_uint8(source + first, stride, at, apart, scale, bias)
        elif kind == KIND_FLOAT16:
            if planar:
                _plane_float16(source + first, stride, at, apart, scale, bias)
            else:
                _store_float16(source + first, stride, at, apart, scale, bias)
        elif kind == KIND_BFLOAT16:
            if planar:
                _plane_bfloat16(source + first, stride, at, apart, scale, bias)
            else:
                _store_bfloat16(source + first, stride, at, apart, scale, bias)
        elif planar:
            _plane_float32(source + first, stride, at, apart, scale, bias)
        else:
            _store_float32(source + first, stride, at, apart, scale, bias)


@_intrinsic
def half_bits(_typing: Any, value: Any) -> Any:
    """uint16 <- the bits of a float32 as float16, to nearest even."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        one = ir.VectorType(_F32, 1)
        lane = builder.insert_element(ir.Constant(one, ir.Undefined), args[0], ir.Constant(_I32, 0))
        return builder.extract_element(half_by_integers(builder, lane), ir.Constant(_I32, 0))

    return types.uint16(types.float32), emit


@_intrinsic
def bfloat_bits(_typing: Any, value: Any) -> Any:
    """uint16 <- the bits of a float32 as bfloat16, to nearest even."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _I32)
        odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(_I32, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(_I32, 16)), _I16)

    return types.uint16(types.float32), emit


@_intrinsic
def fma(_typing: Any, first: Any, second: Any, third: Any) -> Any:
    """float32 <- first * second + third, rounded once: what torch's vectorised ``add(..., alpha=)`` computes."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_F32, [_F32] * 3)
        return builder.call(_build.get_or_insert_function(builder.module, kind, "llvm.fma.f32"), args)

    return types.float32(types.float32, types.float32, types.float32), emit


@_intrinsic
def level_of(_typing: Any, value: Any) -> Any:
    """uint8 <- a float32 from 0 to 255, cut off to a whole number. (numba's own cast goes through 64 bits.)"""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.trunc(builder.fptosi(args[0], _I32), _I8)

    return types.uint8(types.float32), emit


@_intrinsic
def sum_of_nine(_t: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any) -> Any:
    """float32 <- the sum of nine levels and four times the fifth, in 16 bits."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        levels = [builder.zext(level, _I16) for level in args]
        total = builder.shl(levels[4], ir.Constant(_I16, 2))
        for level in levels:
            total = builder.add(total, level)
        return builder.uitofp(total, _F32)

    return types.float32(*[types.uint8] * 9), emit
