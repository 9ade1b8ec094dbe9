"""Makes the seek index of one image: decodes its whole scan once, noting where each tile begins."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from fastload.jit import kernel
from fastload.jpeg import workspace as ws
from fastload.jpeg.bits import stuffed_address
from fastload.jpeg.entropy import COMMON_DAMAGE, TILE_END, TILE_PREDICTORS
from fastload.jpeg.header import SCAN
from fastload.jpeg.index import PADDING
from fastload.jpeg.intrinsics import U0, Word, address_of, load_i64, load_u64, move, signed, unsigned
from fastload.jpeg.rectangle import open_image, place_rectangle
from fastload.jpeg.sequence import decode_run, open_scan, open_segment
from fastload.jpeg.status import BAD_CALL, BAD_DATA, NO_ROOM, OK

ENTRY_FIELDS = 4  # of a noted tile: bit position, three DC predictors


@kernel
def note_tiles(data: Word, length: Word, step: Word, entries: Word, work: Word) -> Word:
    """Fills ``entries`` (int64, a row for each tile and one for the end of the scan); returns a status."""
    result = open_image(data, length, work)
    if result != OK:
        return result
    zero = np.int64(0)
    result = place_rectangle(work, zero, zero, work[ws.IMAGE_HEIGHT], work[ws.IMAGE_WIDTH])
    if result != OK:
        return result
    columns = work[ws.MCU_COLUMNS]
    rows = work[ws.MCU_ROWS]
    if step < 1 or step > 255 or work[ws.RESTART] != 0 or entries.shape[1] != ENTRY_FIELDS:
        return BAD_CALL
    if entries.shape[0] != rows * ((columns - 1) // step + 1) + 1:
        return BAD_CALL
    if length >= 1 << 29:  # bit positions have 32 bits
        return NO_ROOM
    source = address_of(data)
    end = move(source, length)
    open_scan(work, source)
    if not open_segment(work, end):
        return BAD_DATA
    memory = address_of(work)
    tile = move(memory, work[ws.TILES])
    kept = signed(move(memory, work[ws.BITS] + ws.HEAD_GUARD))
    position = move(source, work[SCAN])
    column = columns
    for number in range(entries.shape[0]):
        bit = load_i64(tile, TILE_END)
        position = stuffed_address(position, unsigned((bit >> 3) - kept))
        kept = bit >> 3
        entries[number, 0] = signed(position - source) << 3 | (bit & 7)
        for i in range(3):
            entries[number, 1 + i] = load_i64(tile, TILE_PREDICTORS + 8 * i)
        if number + 1 < entries.shape[0]:
            column = column if column < columns else zero
            mcus = min(step, columns - column)
            if not decode_run(work, end, mcus, -mcus, zero):
                return BAD_DATA
            column += mcus
    return OK if load_u64(memory, ws.COMMON + COMMON_DAMAGE) == U0 else BAD_DATA


def pack_index(entries: NDArray[np.int64], step: int, components: int, columns: int, rows: int) -> bytes:
    """The index of noted tiles as index.py describes it; empty if a number in it is too large for its field."""
    tiles = (columns - 1) // step + 1
    end = int(entries[-1, 0])
    entries = entries[:-1, : 1 + components].reshape(rows, tiles, 1 + components)
    relative = (entries[:, 1:] - entries[:, :1]).reshape(-1, 1 + components)
    # The bits that the largest magnitude needs; a predictor needs one more, for its sign.
    widths = [0] * 4
    if tiles > 1:
        reach = np.maximum(relative, ~relative).max(axis=0)
        widths[: 1 + components] = [int(value).bit_length() + (i > 0) for i, value in enumerate(reach)]
    if end >= 1 << 32 or max(widths[1:]) > 16 or np.abs(entries[:, :, 1:]).max() > 32767:
        return b""
    rows_of_entries = np.zeros(rows, np.dtype([("position", "<u4"), ("predictors", "<i2", (components,))]))
    rows_of_entries["position"] = entries[:, 0, 0]
    rows_of_entries["predictors"] = entries[:, 0, 1:]
    bits = [(relative[:, i, None] >> np.arange(widths[i])) & 1 for i in range(1 + components)]
    packed = np.packbits(np.concatenate(bits, axis=1).astype(np.uint8), bitorder="little")
    header = struct.pack("<BB3BBHHI", step, *widths, components, columns, rows, end)
    return header + rows_of_entries.tobytes() + packed.tobytes() + bytes(PADDING)
