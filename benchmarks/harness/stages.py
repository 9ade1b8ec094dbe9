"""Kernels that run one stage of the engine at a time: what decode_rectangle and resample do in turns, taken apart.

The transform, the conversion of colours and the store take as long whatever the numbers are, so that each runs on what
the one before it left. Only how far the coefficients of a block reach decides how its transform goes: that is noted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastload.engine.cpu.kernels.fast import store_block
from fastload.engine.cpu.kernels.layout import BLOCK_ROWS, OUT_HEIGHT, OUT_WIDTH, PIXEL_STEP
from fastload.jit import kernel
from fastload.jpeg import workspace as ws
from fastload.jpeg.entropy import COMMON_DAMAGE, GROUP_BYTES, decode_tiles
from fastload.jpeg.index import check_tiles, lay_tiles
from fastload.jpeg.intrinsics import U0, address_of, load_u64, move, store_u64
from fastload.jpeg.pixels import color_row, keep_last_rows, rows_to_color, transform_strip
from fastload.jpeg.rectangle import open_image, place_rectangle
from fastload.jpeg.status import BAD_DATA, OK

TABLES, ENTROPY, TRANSFORM, COLOR = 0, 1, 2, 3
_STRIP_ROWS = np.int64(ws.STRIP_ROWS)
_EXTENTS = 65 * 32  # where a group of coefficients holds them, see fastload.jpeg.entropy


# The words of a workspace before its tables: header, rectangle, plan and factors.
_WORDS = ws.DC_TABLES // 8


def notes_room(height: int, width: int) -> NDArray[np.int64]:
    """Room for the notes of an image of up to this size: four words for each group of 16 blocks, and the header."""
    return np.zeros(_WORDS + 4 * 3 * (width // 128 + 2) * (height // 8 + 4), np.int64)


@kernel
def run_decode_stage(stage: Any, data: Any, index: Any, rectangle: Any, out: Any, work: Any, notes: Any) -> Any:
    """Runs one stage over a rectangle (top, left, height, width) of one file; returns a status.

    TABLES is headers and tables. ENTROPY is that and the Huffman decoding; it takes the ``notes`` of the image that
    TRANSFORM and COLOR begin with. COLOR writes RGB rows to ``out``, which has room for the rectangle.
    """
    top, left, height, width = rectangle
    if stage <= ENTROPY:
        result = open_image(data, data.size, work)
        if result == OK:
            result = place_rectangle(work, top, left, height, width)
        if result != OK or stage == TABLES:
            return result
        notes[:_WORDS] = work[:_WORDS]
    else:
        work[:_WORDS] = notes[:_WORDS]
    memory, kept = address_of(work), move(address_of(notes), 8 * _WORDS)
    common = move(memory, ws.COMMON)
    good = True
    row = work[ws.FIRST_ROW]
    while row < work[ws.END_ROW]:
        rows = min(_STRIP_ROWS, work[ws.END_ROW] - row)
        if stage == ENTROPY:
            work[ws.DIRTY] = rows * work[ws.ROW_BYTES]
            tiles = lay_tiles(address_of(index), work, address_of(data), data.size, row, rows)
            if tiles < 0:
                return BAD_DATA
            decode_tiles(common, move(memory, work[ws.TILES]), tiles)
            good &= check_tiles(work, tiles) and load_u64(common, COMMON_DAMAGE) == U0
        if stage != COLOR:
            group = move(memory, work[ws.COEFFICIENTS] + _EXTENTS)
            for _ in range(0, rows * work[ws.ROW_BYTES], GROUP_BYTES):
                for word in range(0, 32, 8):
                    if stage == ENTROPY:
                        store_u64(kept, word, load_u64(group, word))
                    else:
                        store_u64(group, word, load_u64(kept, word))
                group, kept = move(group, GROUP_BYTES), move(kept, 32)
        if stage == TRANSFORM:
            transform_strip(work, rows)
        if stage == COLOR:
            first, behind = rows_to_color(work, row, rows)
            for y in range(first, behind):
                color_row(work, y, row, move(address_of(out), (y - top) * 3 * width))
            keep_last_rows(work, rows)
        row += rows
    return OK if good else BAD_DATA


@kernel
def store_image(constants: Any, slot: Any, row: Any, scratch: Any) -> None:
    """Stores what ``scratch.resampled`` holds as each block of rows of one image; its height is a multiple of them."""
    height, width = constants.numbers[OUT_HEIGHT], constants.numbers[OUT_WIDTH]
    for block in range(0, height, BLOCK_ROWS):
        first = row * height * width * 3 + block * width * constants.numbers[PIXEL_STEP]
        store_block(width, first, constants, slot, scratch)
