"""An image through JPEG and back, without a file: what libjpeg-turbo's encoder loses, and its decoder makes of that.

The steps that lose something, in libjpeg's own integers: colours to YCbCr (jccolor.c), chroma halved in both directions
(jcsample.c), the "islow" DCT (jfdctint.c), quantisation by the standard's tables at a quality (jcparam.c, jcdctmgr.c),
and then the decoder's of this package. Huffman coding loses nothing and is left out, so that the pixels are those of
encoding and decoding at 4:2:0, byte by byte. Works strip by strip (16 rows), in the caches.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from fastload.jit import inlined, kernel
from fastload.jpeg.color import READ_SLACK, RUN, convert_row, upsample_both
from fastload.jpeg.entropy import GROUP_BYTES
from fastload.jpeg.idct import LANES, SCRATCH_BYTES, ZIGZAG, transform_group
from fastload.jpeg.intrinsics import (
    I8,
    I16,
    I32,
    I64,
    U64,
    Word,
    address_of,
    copy_64_bytes,
    global_constant,
    intrinsic,
    load_lanes,
    load_u8,
    move,
    store_i16,
    store_lanes,
    store_u8,
)

_WORDS = ir.VectorType(I32, LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_ROW_BYTES: Final = 2 * LANES
_EXTENTS: Final = 65 * _ROW_BYTES
_LAST_EXTENT = np.int64(4 * 63)
# Where the coefficients of a block end after the first pass: 64 vectors of int32.
# Factors of the decoder (64 uint16) and divisors of the encoder (64 float32 and 64 int32).
_TABLE_BYTES: Final = 128 + 512
_PASS_BYTES: Final = 64 * 4 * LANES

_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *[99] * 32,
)  # fmt: skip
_TABLES = np.array([_LUMINANCE, _CHROMINANCE], np.int64)


def _constant(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * LANES)


def _descaled(builder: Any, value: Any, bits: int) -> Any:
    return builder.ashr(builder.add(value, _constant(1 << (bits - 1))), _constant(bits))


def _transform(builder: Any, d: list[Any], first: bool) -> list[Any]:
    """One pass of jfdctint.c over eight vectors of int32."""
    add, sub = builder.add, builder.sub

    def times(value: Any, factor: int) -> Any:
        return builder.mul(value, _constant(factor))

    t0, t1, t2, t3 = (add(d[i], d[7 - i]) for i in range(4))
    t7, t6, t5, t4 = (sub(d[i], d[7 - i]) for i in range(4))
    t10, t13, t11, t12 = add(t0, t3), sub(t0, t3), add(t1, t2), sub(t1, t2)
    out: list[Any] = [None] * 8
    for place, value in ((0, add(t10, t11)), (4, sub(t10, t11))):
        out[place] = builder.shl(value, _constant(2)) if first else _descaled(builder, value, 2)
    bits = 11 if first else 15
    z1 = times(add(t12, t13), 4433)
    out[2] = _descaled(builder, add(z1, times(t13, 6270)), bits)
    out[6] = _descaled(builder, sub(z1, times(t12, 15137)), bits)
    z5 = times(add(add(t4, t6), add(t5, t7)), 9633)
    z1, z2 = times(add(t4, t7), -7373), times(add(t5, t6), -20995)
    z3, z4 = add(times(add(t4, t6), -16069), z5), add(times(add(t5, t7), -3196), z5)
    for place, value in (
        (7, add(add(times(t4, 2446), z1), z3)),
        (5, add(add(times(t5, 16819), z2), z4)),
        (3, add(add(times(t6, 25172), z2), z3)),
        (1, add(add(times(t7, 12299), z1), z4)),
    ):
        out[place] = _descaled(builder, value, bits)
    return out


@intrinsic
def _forward_row(_typing: Any, samples: Any, scratch: Any) -> Any:
    """One row of sixteen blocks, 128 samples, to eight vectors."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = ir.VectorType(I64, LANES)
        blocks = load_lanes(builder, args[0], 0, wide)
        columns = []
        for c in range(8):
            sample = builder.trunc(builder.lshr(blocks, ir.Constant(wide, [8 * c] * LANES)), _WORDS)
            columns.append(builder.sub(builder.and_(sample, _constant(255)), _constant(128)))
        for c, value in enumerate(_transform(builder, columns, True)):
            store_lanes(builder, args[1], 4 * LANES * c, value)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), emit


@intrinsic
def _forward_column(_typing: Any, scratch: Any, column: Any, divisors: Any, group: Any) -> Any:
    """Column 0 to 7 of sixteen blocks: its coefficients, quantised, into a group as idct.py takes it.

    divisors: address of the column's eight quotients 1 / (8 q), float32, and 4 q behind them, int32.
    """

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        offsets = [ZIGZAG[8 * r + c] * _ROW_BYTES for c in range(8) for r in range(8)]
        table = global_constant(builder, "zigzag_offsets_forward", ir.Constant(ir.ArrayType(I64, 64), offsets))
        start = builder.add(args[0], builder.mul(args[1], ir.Constant(I64, 4 * LANES)))
        rows = [load_lanes(builder, start, 8 * 4 * LANES * r, _WORDS) for r in range(8)]
        for r, value in enumerate(_transform(builder, rows, False)):
            inverse, half = (
                load_lanes(builder, args[2], 32 * part + 4 * r, kind) for part, kind in ((0, ir.FloatType()), (1, I32))
            )
            factors, halves = _spread(builder, inverse, _FLOATS), _spread(builder, half, _WORDS)
            negative = builder.icmp_signed("<", value, _constant(0))
            size = builder.select(negative, builder.neg(value), value)
            # Half a unit more: no product of a whole quotient lies below it, and those of others are further away.
            amount = builder.fadd(
                builder.sitofp(builder.add(size, halves), _FLOATS), ir.Constant(_FLOATS, [0.5] * LANES)
            )
            level = builder.fptosi(builder.fmul(amount, factors), _WORDS)
            level = builder.trunc(builder.select(negative, builder.neg(level), level), ir.VectorType(I16, LANES))
            at = builder.add(builder.shl(args[1], ir.Constant(I64, 3)), ir.Constant(I64, r))
            offset = builder.load(builder.gep(table, [ir.Constant(I64, 0), at]))
            store_lanes(builder, builder.add(args[3], offset), 0, level)
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, types.uint64, types.uint64), emit


def _spread(builder: Any, scalar: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def _weighted(red: int, green: int, blue: int, offset: int) -> Any:
    """Makes the intrinsic for one of Y, Cb and Cr."""

    @intrinsic
    def sample(_typing: Any, r: Any, g: Any, b: Any) -> Any:
        """uint8 <- three levels, as jccolor.c weighs them."""

        def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            total = ir.Constant(I32, offset)
            for level, weight in zip(args, (red, green, blue), strict=True):
                total = builder.add(total, builder.mul(builder.zext(level, I32), ir.Constant(I32, weight)))
            return builder.trunc(builder.lshr(total, ir.Constant(I32, 16)), I8)

        return types.uint8(types.uint8, types.uint8, types.uint8), emit

    return sample


_luma = _weighted(19595, 38470, 7471, 32768)
_blueness = _weighted(-11059, -21709, 32768, (128 << 16) + 32767)
_redness = _weighted(32768, -27439, -5329, (128 << 16) + 32767)


@intrinsic
def _halved_run(_typing: Any, above: Any, below: Any, out: Any) -> Any:
    """64 samples of two rows to 32: means of four, rounded down and up in turn (jcsample.c)."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pairs = ir.VectorType(I16, RUN)
        total = ir.Constant(pairs, [1, 2] * (RUN // 2))
        for address in args[:2]:
            both = load_lanes(builder, address, 0, pairs)
            total = builder.add(total, builder.and_(both, ir.Constant(pairs, [255] * RUN)))
            total = builder.add(total, builder.lshr(both, ir.Constant(pairs, [8] * RUN)))
        mean = builder.lshr(total, ir.Constant(pairs, [2] * RUN))
        store_lanes(builder, args[2], 0, builder.trunc(mean, ir.VectorType(I8, RUN)))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), emit


@inlined
def _copy(source: Word, target: Word, count: Word) -> None:
    """``count`` bytes, a multiple of 64."""
    for i in range(0, count, 64):
        copy_64_bytes(move(source, i), move(target, i))


@inlined
def _fill_divisors(quality: int, component: int, factors: NDArray[np.uint16], divisors: NDArray[np.float32]) -> None:
    """The table of a component (0 luma, 1 chroma) at a quality: for the decoder, and for ``_forward_column``."""
    quality = min(max(quality, 1), 100)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    halves = divisors.view(np.int32)
    for column in range(8):
        for row in range(8):
            step = min(max((_TABLES[component, 8 * row + column] * scale + 50) // 100, 1), 255)
            factors[8 * column + row] = np.uint16(step)
            divisors[16 * column + row] = np.float32(1.0) / np.float32(8 * step)
            halves[16 * column + 8 + row] = np.int32(4 * step)


@inlined
def _through(source: Word, stride: Word, blocks: Word, out: Word, out_stride: Word, table: Word, work: Word) -> None:
    """One row of blocks (of 8 rows of samples), quantised and back.

    table: address of 64 factors and, 128 bytes further on, the divisors; work: of a group, which is zero, and scratch.
    """
    scratch = move(work, GROUP_BYTES)
    for block in range(0, blocks, LANES):
        for row in range(8):
            _forward_row(move(source, row * stride + 8 * block), move(scratch, row * 8 * 4 * LANES))
        for column in range(8):
            _forward_column(scratch, column, move(table, 128 + 64 * column), work)
        store_i16(work, _EXTENTS, _LAST_EXTENT)
        transform_group(work, table, scratch, move(out, 8 * block), out_stride, np.int64(LANES))


@inlined
def _convert(
    red: NDArray[np.uint8],
    green: NDArray[np.uint8],
    blue: NDArray[np.uint8],
    luma: NDArray[np.uint8],
    blues: NDArray[np.uint8],
    reds: NDArray[np.uint8],
    width: int,
) -> None:
    """A row of pixels to Y, Cb and Cr."""
    for x in range(width):
        luma[x] = _luma(red[x], green[x], blue[x])
        blues[x] = _blueness(red[x], green[x], blue[x])
        reds[x] = _redness(red[x], green[x], blue[x])


@inlined
def _extend(row: Word, width: Word, length: Word) -> None:
    last = load_u8(row, width - 1)
    for x in range(width, length):
        store_u8(row, x, last)


class _Places(NamedTuple):
    """Where the parts of the scratch begin, and what a row of them has.

    Attributes:
        chroma, length, margin: Bytes of a row of chroma in whole groups of blocks, of luma above it, and of chroma with
            what upsampling reads beside it.
        work: A group of coefficients and memory of the transforms, behind the tables.
        luma, full, halved: 16 rows of luma, two of each chroma at full size, and 8 halved ones of each.
        light, hues: What comes back: two strips of luma, three of each chroma, and what is read behind them.
        rows: Memory of the upsampling.
        end: Behind it all.
    """

    chroma: int
    length: int
    margin: int
    work: int
    luma: int
    full: int
    halved: int
    light: int
    hues: int
    rows: int
    end: int


@inlined
def _find_places(width: int) -> _Places:
    chroma = (width + 1) // 2 // 128 * 128 + 128
    length, margin = 2 * chroma, chroma + 128 + READ_SLACK
    work = 2 * _TABLE_BYTES
    luma = work + GROUP_BYTES + max(_PASS_BYTES, SCRATCH_BYTES)
    full = luma + 16 * length
    halved = full + 4 * length
    light = halved + 16 * chroma
    hues = light + 32 * length
    rows = hues + 48 * margin
    return _Places(chroma, length, margin, work, luma, full, halved, light, hues, rows, rows + 128 + 6 * margin)


@inlined
def _upsample(near: Word, far: Word, sums: Word, out: Word, samples: int) -> None:
    """A row of chroma at full size. Where it has one or two samples only, libjpeg repeats them instead."""
    if samples > 2:
        upsample_both(near, far, sums, out, U64(samples))
        return
    for x in range(2 * samples):
        store_u8(out, x, load_u8(near, x // 2))


@kernel
def find_scratch_bytes(width: int) -> int:
    """Bytes that ``recompress`` needs for images of this width."""
    return _find_places(width).end


@kernel
def recompress(
    canvas: NDArray[np.uint8],
    stride: int,
    height: int,
    width: int,
    quality: int,
    scratch: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
) -> bool:
    """An image after JPEG at a quality, as encoding it at 4:2:0 and decoding it gives it; False without room.

    Args:
        canvas: uint8, red, green and blue planes, ``stride`` bytes apart.
        stride: See there.
        height, width: Size.
        quality: 1 to 100.
        scratch: uint8, ``find_scratch_bytes`` of them.
        pixels: uint8, takes height x width x 3.
    """
    count = height * width
    if height < 1 or width < 1 or stride < count or canvas.size < 2 * stride + count or pixels.size < 3 * count:
        return False
    places = _find_places(width)
    if scratch.size < places.end:
        return False
    chroma, length, margin, work_at, luma_at, full_at, halved_at, light_at, hues_at, rows_at, _ = places
    for component in range(2):
        tables = scratch[_TABLE_BYTES * component : _TABLE_BYTES * (component + 1)]
        _fill_divisors(quality, component, tables[:128].view(np.uint16), tables[128:].view(np.float32))
    scratch[work_at : work_at + GROUP_BYTES] = 0
    base = address_of(scratch)
    work, origin = move(base, work_at), address_of(pixels)
    table, table_2 = base, move(base, _TABLE_BYTES)
    short_row = move(base, rows_at)
    blue, red = move(base, rows_at + 128), move(base, rows_at + 128 + 2 * margin)
    sums = move(base, rows_at + 128 + 4 * margin)
    samples, chroma_rows = (width + 1) // 2, (height + 1) // 2
    strips = (height + 15) // 16
    for strip in range(strips):
        for pair in range(8):
            y = 16 * strip + 2 * pair
            if y >= height:
                # Behind the image libjpeg repeats the last rows that it has, of each component as it stands.
                for row in range(2 * pair, 2 * pair + 2):
                    _copy(move(base, luma_at + (row - 1) * length), move(base, luma_at + row * length), length)
                for part in range(2):
                    row = 8 * part + pair
                    target = halved_at + row * chroma
                    _copy(move(base, target - chroma), move(base, target), chroma)
                continue
            for odd in range(2):
                first = min(y + odd, height - 1) * width
                light = scratch[luma_at + (2 * pair + odd) * length :]
                blues, reds = scratch[full_at + odd * length :], scratch[full_at + (2 + odd) * length :]
                _convert(
                    canvas[first:], canvas[stride + first :], canvas[2 * stride + first :], light, blues, reds, width
                )
                for converted in (light, blues, reds):
                    _extend(address_of(converted), width, length)
            for part in range(2):
                above = move(base, full_at + 2 * part * length)
                target = move(base, halved_at + (8 * part + pair) * chroma)
                for x in range(0, chroma, RUN):
                    _halved_run(move(above, 2 * x), move(above, length + 2 * x), move(target, x))
        for half in range(2):
            _through(
                move(base, luma_at + 8 * half * length), length, (width + 7) // 8,
                move(base, light_at + (16 * (strip & 1) + 8 * half) * length), length, table, work,
            )  # fmt: skip
        for part in range(2):
            hues = move(base, hues_at + (24 * part + 8 * (strip % 3)) * margin + 64)
            _through(move(base, halved_at + 8 * part * chroma), chroma, (samples + 7) // 8, hues, margin, table_2, work)
            for row in range(8):
                sample = move(hues, row * margin)
                store_u8(sample, -1, load_u8(sample, 0))
                store_u8(sample, samples, load_u8(sample, samples - 1))
        # The last row of a strip waits for the chroma of the next.
        for y in range(max(16 * strip - 1, 0), height if strip == strips - 1 else 16 * strip + 15):
            near = y // 2
            far = min(max(near + 2 * (y & 1) - 1, 0), chroma_rows - 1)
            for part in range(2):
                ring = hues_at + 24 * part * margin + 64
                near_row, far_row = ring + near % 24 * margin, ring + far % 24 * margin
                target = red if part else blue
                _upsample(move(base, near_row), move(base, far_row), sums, target, samples)
            convert_row(
                move(base, light_at + (y % 32) * length), blue, red, move(origin, 3 * y * width), U64(width), short_row
            )
    return True
