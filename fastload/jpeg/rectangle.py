"""A rectangle of one JPEG file, from bytes to RGB pixels, in one call that needs no interpreter lock."""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from fastload.jit import inlined, kernel
from fastload.jpeg import header, tables
from fastload.jpeg import workspace as ws
from fastload.jpeg.entropy import (
    COMMON_DAMAGE,
    COMMON_DUMMY,
    COMMON_PLAN,
    COMMON_PLAN_END,
    GROUP_BYTES,
    PLAN_AC,
    PLAN_BYTES,
    PLAN_DC,
    PLAN_OFFSET,
    PLAN_PREDICTOR,
    PLAN_STEP,
    PLAN_TARGET,
    TILE_PREDICTORS,
    decode_tiles,
)
from fastload.jpeg.idct import ZIGZAG
from fastload.jpeg.index import check_index, check_tiles, lay_tiles
from fastload.jpeg.intrinsics import (
    U0,
    U4,
    U8,
    Word,
    address_of,
    load_u8,
    load_u64,
    move,
    signed,
    store_i16,
    store_i64,
    store_u64,
    zero_64_bytes,
)
from fastload.jpeg.pixels import color_row, keep_last_rows, rows_to_color, transform_strip
from fastload.jpeg.sequence import decode_run, open_scan, skip_segments
from fastload.jpeg.status import BAD_CALL, BAD_DATA, BAD_INDEX, BAD_TABLE, MALFORMED, NO_ROOM, OK

for _function in (*header.PARSE_FUNCTIONS, ws.plane_stride):
    register_jitable(_function)
# For kernels: header.parse(data, length, fields) and header.supported(fields), 2 us an image.
parse_header = inlined(header.parse)
is_supported = inlined(header.supported)
_ZIGZAG = np.array(ZIGZAG, np.int64)
_ZERO = np.int64(0)
_STRIP_ROWS = np.int64(ws.STRIP_ROWS)


@inlined
def open_image(data: Word, length: Word, work: Word) -> Word:
    """Reads the headers of a file and builds its tables in ``work``; returns a status."""
    if length < 0 or length > data.size:
        return BAD_CALL
    result = parse_header(data, length, work)
    if result != header.PARSED:
        return MALFORMED + result
    result = is_supported(work)
    if result != header.SUPPORTED:
        return result
    if work[ws.COMPONENTS] == 1:  # the blocks of a single component are in rows whatever its sampling factors say
        work[ws.ACROSS] = 1
        work[ws.DOWN] = 1
    across = 8 * work[ws.ACROSS]
    down = 8 * work[ws.DOWN]
    work[ws.MCU_COLUMNS] = (work[ws.IMAGE_WIDTH] + across - 1) // across
    work[ws.MCU_ROWS] = (work[ws.IMAGE_HEIGHT] + down - 1) // down
    if work[ws.MCU_COLUMNS] * across > work[ws.MAX_WIDTH] or length > work[ws.MAX_BYTES]:
        return NO_ROOM
    return _build_tables(address_of(data), address_of(work), work)


@inlined
def _build_tables(data: Word, memory: Word, fields: Word) -> Word:
    """Huffman tables and dequantisation factors of each component; tables that components share are built once."""
    scratch = move(memory, ws.TABLE_SCRATCH)
    for i in range(fields[header.COMPONENTS]):
        if _first_with(fields, header.DC_SLOT, i) == i:
            spec = move(data, fields[header.DC_TABLES + fields[header.DC_SLOT + i]])
            if not tables.build_dc_table(spec, _dc_table(memory, i), scratch):
                return BAD_TABLE
        if _first_with(fields, header.AC_SLOT, i) == i:
            spec = move(data, fields[header.AC_TABLES + fields[header.AC_SLOT + i]])
            if not tables.build_ac_table(spec, _ac_table(memory, i), scratch):
                return BAD_TABLE
        spec = move(data, fields[header.QUANT_TABLES + fields[header.QUANT_SLOT + i]])
        wide = load_u8(spec, 0) >> U4
        factors = move(memory, ws.FACTORS + ws.FACTORS_BYTES * i)
        for k in range(64):
            order = _ZIGZAG[(k & 7) * 8 + (k >> 3)]  # column by column
            factor = load_u8(spec, 1 + order)
            if wide != U0:
                factor = load_u8(spec, 1 + 2 * order) << U8 | load_u8(spec, 2 + 2 * order)
            store_i16(factors, 2 * k, signed(factor))
    return OK


@inlined
def _first_with(fields: Word, slots: Word, component: Word) -> Word:
    """The first component whose table is in the same slot."""
    for i in range(component):
        if fields[slots + i] == fields[slots + component]:
            return i
    return component


@inlined
def _dc_table(memory: Word, component: Word) -> Word:
    return move(memory, ws.DC_TABLES + tables.DC_TABLE_BYTES * component)


@inlined
def _ac_table(memory: Word, component: Word) -> Word:
    return move(memory, ws.AC_TABLES + tables.AC_TABLE_BYTES * component)


@inlined
def place_rectangle(work: Word, top: Word, left: Word, height: Word, width: Word) -> Word:
    """Finds the MCUs that a rectangle of the open image needs and lays out its coefficients; returns a status."""
    if top < 0 or left < 0 or height < 1 or width < 1:
        return BAD_CALL
    if top > work[ws.IMAGE_HEIGHT] - height or left > work[ws.IMAGE_WIDTH] - width:
        return BAD_CALL
    work[ws.TOP] = top
    work[ws.LEFT] = left
    work[ws.HEIGHT] = height
    work[ws.WIDTH] = width
    across = work[ws.ACROSS]
    down = work[ws.DOWN]
    # Interpolated chroma depends on the samples next to the rectangle.
    first = max(0, left - (across - 1)) // (8 * across)
    end = min(work[ws.MCU_COLUMNS], (left + width + across - 2) // (8 * across) + 1)
    work[ws.FIRST_COLUMN] = first
    work[ws.COLUMNS] = end - first
    work[ws.FIRST_ROW] = max(0, top - (down - 1)) // (8 * down)
    work[ws.END_ROW] = min(work[ws.MCU_ROWS], (top + height + down - 2) // (8 * down) + 1)
    work[ws.STRIDE] = ws.plane_stride((end - first) * 8 * across)
    lay_plan(work)
    return OK


@inlined
def lay_plan(work: Word) -> None:
    """Writes the plan of an MCU: where its blocks go and which tables decode them."""
    memory = address_of(work)
    coefficients = move(memory, work[ws.COEFFICIENTS])
    target = np.int64(0)
    block = move(memory, ws.PLAN)
    store_u64(memory, ws.COMMON + COMMON_PLAN, block)
    for i in range(work[ws.COMPONENTS]):
        across = work[header.HORIZONTAL + i]
        for _ in range(work[header.VERTICAL + i]):
            for k in range(across):
                store_u64(block, PLAN_TARGET, move(coefficients, target))
                store_i64(block, PLAN_STEP, across)
                store_i64(block, PLAN_OFFSET, k)
                store_u64(block, PLAN_DC, _dc_table(memory, _first_with(work, header.DC_SLOT, i)))
                store_u64(block, PLAN_AC, _ac_table(memory, _first_with(work, header.AC_SLOT, i)))
                store_i64(block, PLAN_PREDICTOR, TILE_PREDICTORS + 8 * i)
                block = move(block, PLAN_BYTES)
            target += (work[ws.COLUMNS] * across + 15) // 16 * GROUP_BYTES
    work[ws.ROW_BYTES] = target
    store_u64(memory, ws.COMMON + COMMON_PLAN_END, block)
    store_u64(memory, ws.COMMON + COMMON_DUMMY, move(memory, ws.DUMMY_GROUP))
    store_u64(memory, ws.COMMON + COMMON_DAMAGE, U0)


@inlined
def _decode_rows_in_sequence(end: Word, work: Word, row: Word, rows: Word) -> Word:
    """Coefficients of some rows of MCUs without an index; False on damage.

    What lies before the rectangle is decoded too, or skipped from one restart marker to another.
    """
    columns = work[ws.MCU_COLUMNS]
    for i in range(rows):
        wanted = (row + i) * columns + work[ws.FIRST_COLUMN]
        if not skip_segments(work, end, wanted):
            return False
        before = wanted - work[ws.NEXT_MCU]
        if not decode_run(work, end, before, -before, _ZERO):
            return False
        if not decode_run(work, end, work[ws.COLUMNS], _ZERO, i * work[ws.ROW_BYTES]):
            return False
    return True


@inlined
def _clear_coefficients(work: Word) -> None:
    """Zeros where the last call gave up; transform_strip leaves zeros behind."""
    begin = move(address_of(work), work[ws.COEFFICIENTS])
    for offset in range(0, work[ws.DIRTY], 64):
        zero_64_bytes(move(begin, offset))
    work[ws.DIRTY] = 0


@kernel
def decode_rectangle(
    data: Word,
    length: Word,
    index: Word,
    top: Word,
    left: Word,
    height: Word,
    width: Word,
    out: Word,
    stride: Word,
    work: Word,
) -> Word:
    """Decodes one rectangle; see fastload.jpeg for the arguments. Returns a status."""
    result = open_image(data, length, work)
    if result != OK:
        return result
    result = place_rectangle(work, top, left, height, width)
    if result != OK:
        return result
    if stride < 3 * width or out.size < 3 * width or height - 1 > (out.size - 3 * width) // stride:
        return BAD_CALL
    source = address_of(data)
    end = move(source, length)
    pixels = address_of(out)
    common = move(address_of(work), ws.COMMON)
    by_index = index.size > 0 and work[ws.RESTART] == 0
    if not by_index:
        open_scan(work, source)
    elif not check_index(address_of(index), index.size, work):
        return BAD_INDEX
    _clear_coefficients(work)
    row = work[ws.FIRST_ROW]
    while row < work[ws.END_ROW]:
        rows = min(_STRIP_ROWS, work[ws.END_ROW] - row)
        work[ws.DIRTY] = rows * work[ws.ROW_BYTES]
        if by_index:
            tiles = lay_tiles(address_of(index), work, source, length, row, rows)
            if tiles < 0:
                return BAD_INDEX
            decode_tiles(common, move(address_of(work), work[ws.TILES]), tiles)
            good = check_tiles(work, tiles)
        else:
            good = _decode_rows_in_sequence(end, work, row, rows)
        if not good or load_u64(common, COMMON_DAMAGE) != U0:
            return BAD_DATA
        if not transform_strip(work, rows):
            return BAD_DATA
        work[ws.DIRTY] = 0
        first, behind = rows_to_color(work, row, rows)
        for y in range(first, behind):
            color_row(work, y, row, move(pixels, (y - top) * stride))
        keep_last_rows(work, rows)
        row += rows
    return OK
