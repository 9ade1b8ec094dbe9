"""From the coefficients of a strip of MCU rows to the rows of pixels that it completes."""

from __future__ import annotations

import numpy as np

from fastload.jit import inlined
from fastload.jpeg import workspace as ws
from fastload.jpeg.color import convert_row, spread_row, upsample_across, upsample_both, upsample_down
from fastload.jpeg.entropy import GROUP_BYTES
from fastload.jpeg.header import HORIZONTAL, VERTICAL
from fastload.jpeg.idct import greatest_dc, transform_group
from fastload.jpeg.intrinsics import U1, U64, Word, address_of, copy_64_bytes, load_u8, load_u16, move, signed, store_u8

# In units of 1/8 grey level: eight times what an image can have, and what 16 bits hold after the first pass.
_GREATEST_DC = np.int64(8191)
_ZERO, _ONE, _TWO = np.int64(0), np.int64(1), np.int64(2)


@inlined
def _plane_row(work: Word, component: Word, row: Word) -> Word:
    """Address of the first sample of a row of a plane; row 0 is the one kept from the strip before."""
    rows = work[ws.STRIDE] * (component * ws.PLANE_ROWS + row)
    return move(address_of(work), work[ws.PLANES] + rows + ws.PLANE_LEFT)


@inlined
def transform_strip(work: Word, rows: Word) -> Word:
    """Coefficients of ``rows`` rows of MCUs to samples, from row 1 of the planes on; False on damage.

    A mean that is eight times beyond white can only come from damaged data, and libjpeg-turbo's vector code overflows
    there in ways of its own.
    """
    memory = address_of(work)
    scratch = move(memory, ws.IDCT_SCRATCH)
    stride = work[ws.STRIDE]
    columns = work[ws.COLUMNS]
    group = move(memory, work[ws.COEFFICIENTS])
    good = True
    for row in range(rows):
        for component in range(work[ws.COMPONENTS]):
            factors = move(memory, ws.FACTORS + ws.FACTORS_BYTES * component)
            limit = _GREATEST_DC // signed(load_u16(factors, 0) | U1)
            blocks = columns * work[HORIZONTAL + component]
            down = work[VERTICAL + component]
            for block_row in range(down):
                out = _plane_row(work, component, 1 + 8 * (row * down + block_row))
                for block in range(0, blocks, 16):
                    good &= greatest_dc(group) <= limit
                    transform_group(group, factors, scratch, move(out, 8 * block), stride, blocks - block)
                    group = move(group, GROUP_BYTES)
    return good


@inlined
def _repeat_edges(work: Word, rows: Word) -> None:
    """Puts a copy of the image's first and last chroma sample beside each row: what libjpeg's upsampling sees there."""
    first = work[ws.FIRST_COLUMN] * 8
    last = (work[ws.IMAGE_WIDTH] + 1) // 2 - 1 - first
    for component in range(1, 3):
        for row in range(1, 1 + 8 * rows):
            sample = _plane_row(work, component, row)
            if first == 0:
                store_u8(sample, -1, load_u8(sample, 0))
            if work[ws.FIRST_COLUMN] + work[ws.COLUMNS] == work[ws.MCU_COLUMNS]:
                store_u8(sample, last + 1, load_u8(sample, last))


@inlined
def color_row(work: Word, y: Word, strip: Word, out: Word) -> None:
    """One row of the rectangle, ``y`` in pixels of the image; ``strip`` is the first row of MCUs in the planes."""
    memory = address_of(work)
    across = work[ws.ACROSS]
    down = work[ws.DOWN]
    left = work[ws.LEFT]
    width = U64(work[ws.WIDTH])
    short_row = move(memory, ws.SHORT_ROW)
    luma = move(_plane_row(work, _ZERO, y - strip * 8 * down + 1), left - work[ws.FIRST_COLUMN] * 8 * across)
    if work[ws.COMPONENTS] == 1:
        spread_row(luma, out, width, short_row)
        return
    # Chroma: the sample row that covers y, and the next nearest one, the last of the image standing for those beyond.
    near = y // down
    far = min(max(near + 2 * (y & 1) - 1, 0), (work[ws.IMAGE_HEIGHT] + down - 1) // down - 1)
    first = left // across
    samples = U64((left + work[ws.WIDTH] - 1) // across - first + 1)
    offset = first - work[ws.FIRST_COLUMN] * 8
    blue = move(memory, work[ws.CHROMA_ROWS])
    row_bytes = work[ws.CHROMA_ROW_BYTES]
    for component in range(1, 3):
        near_row = move(_plane_row(work, component, near - strip * 8 + 1), offset)
        target = move(blue, (component - 1) * row_bytes)
        if down == 1:
            if across == 2:
                upsample_across(near_row, target, samples)
        else:
            far_row = move(_plane_row(work, component, far - strip * 8 + 1), offset)
            if across == 2:
                upsample_both(near_row, far_row, move(blue, 2 * row_bytes), target, samples)
            else:
                upsample_down(near_row, far_row, U64(1 + (y & 1)), target, samples)
    if across == 1 and down == 1:
        blue = move(_plane_row(work, _ONE, near - strip * 8 + 1), offset)
        red = move(_plane_row(work, _TWO, near - strip * 8 + 1), offset)
    else:
        blue = move(blue, left - first * across)
        red = move(blue, row_bytes)
    convert_row(luma, blue, red, out, width, short_row)


@inlined
def rows_to_color(work: Word, strip: Word, rows: Word) -> Word:
    """Which rows of the rectangle (in pixels of the image) the rows of MCUs from ``strip`` on complete.

    Call it once for each strip: it also gets chroma ready for color_row.
    """
    down = work[ws.DOWN]
    begin = strip * 8 * down
    end = (strip + rows) * 8 * down
    if work[ws.ACROSS] == 2:
        _repeat_edges(work, rows)
    if down == 2:
        # The last row waits for the chroma below it, which is in the next strip.
        if strip > work[ws.FIRST_ROW]:
            begin -= 1
        if strip + rows < work[ws.END_ROW]:
            end -= 1
    return max(begin, work[ws.TOP]), min(end, work[ws.TOP] + work[ws.HEIGHT])


@inlined
def keep_last_rows(work: Word, rows: Word) -> None:
    """The last row of each plane becomes row 0 of the next strip, where chroma is interpolated between rows."""
    down = work[ws.DOWN]
    if down == 1:
        return
    last = 8 * rows * down
    for component in range(3):
        source = _plane_row(work, component, last)
        target = _plane_row(work, component, _ZERO)
        for i in range(-ws.PLANE_LEFT, work[ws.STRIDE] - ws.PLANE_LEFT, 64):
            copy_64_bytes(move(source, i), move(target, i))
        last = 8 * rows
