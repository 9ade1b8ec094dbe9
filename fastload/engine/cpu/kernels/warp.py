"""Rotations, affine and perspective maps of an image of levels, composed to one sampling (see augment.parameters.Warp).

Pixels are torchvision v2's on uint8 tensors: positions count from an image's upper left corner, nearest takes the pixel
that a position lies in, bilinear weighs four neighbours, those beyond the edge being ``fill``; there torchvision weighs
what it has mixed a second time (``mask * (mixed - fill) + fill``, both of which fade already), and so does this.

What part of a row lies inside an image is computed once per row, so that the loop over the rest has no tests in it:
eight pixels at a time (warp_lanes.py), whose positions are clamped to the image whatever the numbers are.

What works on a row takes addresses, not arrays: numba counts references to an array for every call that takes one,
which was 50 ns a row and 30 for each pixel at an edge.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastload import jit
from fastload.engine.cpu.kernels.warp_lanes import (
    FINE,
    FRACTION,
    LANES,
    affine_bilinear,
    affine_nearest,
    level_at,
    paint_eight,
    paint_one,
    perspective_bilinear,
    perspective_nearest,
)

# Greater numbers in a matrix are no map of any image: nothing of the source is seen then.
_MOST = 1e12
# Sides up to which a position fits into 32 bits, and bytes up to which an offset does.
_MAX_SIDE = 65535
_MAX_BYTES = 2**31 - 1


@jit.inlined
def _tighten(slope: float, offset: float, low: float, high: float) -> tuple[float, float]:
    """The part of low <= x <= high where offset + slope * x >= 0."""
    if slope == 0.0:
        # Nothing of it is empty, and still not beyond ``high``: ``low`` may lie behind it already.
        return low, (high if offset >= 0.0 else min(high, low - 1.0))
    bound = -offset * (1.0 / slope)
    if slope > 0.0:
        return (bound if bound > low else low), high
    return low, (bound if bound < high else high)


@jit.inlined
def _whole(low: float, high: float, begin: int, end: int) -> tuple[int, int]:
    """Whole numbers in low <= x <= high as begin <= x < end, where low is not below begin nor high beyond the end."""
    first = math.ceil(min(low, np.float64(end)))
    return first, max(first, math.floor(max(high, begin - 1.0)) + 1)


@jit.inlined
def _within(
    row: tuple[float, float, float, float, float, float],
    left: float,
    top: float,
    right: float,
    bottom: float,
    begin: int,
    end: int,
) -> tuple[int, int]:
    """The part of begin <= x < end whose positions lie in left..right, top..bottom; w is above 0 on all of it."""
    x, y, w, step_x, step_y, step_w = row
    low, high = np.float64(begin), end - 1.0
    low, high = _tighten(step_x - left * step_w, x - left * w, low, high)
    low, high = _tighten(right * step_w - step_x, right * w - x, low, high)
    low, high = _tighten(step_y - top * step_w, y - top * w, low, high)
    low, high = _tighten(bottom * step_w - step_y, bottom * w - y, low, high)
    return _whole(low, high, begin, end)


@jit.inlined
def _row(m: tuple[float, ...], y: int) -> tuple[float, float, float, float, float, float]:
    """x, y and w of the middle of the row's first pixel in an image, and the steps from pixel to pixel."""
    middle = y + 0.5
    return (
        0.5 * m[0] + (m[1] * middle + m[2]),
        0.5 * m[3] + (m[4] * middle + m[5]),
        0.5 * m[6] + (m[7] * middle + m[8]),
        m[0],
        m[3],
        m[6],
    )


@jit.inlined
def _map(matrices: NDArray[np.float64], image: int) -> tuple[float, ...]:
    """The matrix of an image as numbers, so that what depends on them alone is computed once for all rows."""
    m = matrices[9 * image : 9 * image + 9]
    return m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8]


@jit.inlined
def _pace(m: tuple[float, ...]) -> tuple[float, int, int]:
    """Of an affine map 1 / w, and its steps along x and y in 2**-FINE pixels; of any other nothing but zeros."""
    if m[6] != 0.0 or m[7] != 0.0 or not m[8] > 0.0:
        return 0.0, np.int64(0), np.int64(0)
    inverse, most = 1.0 / m[8], np.float64(_MAX_SIDE)
    across, down = min(max(m[0] * inverse, -most), most), min(max(m[3] * inverse, -most), most)
    return inverse, np.int64(across * (1 << FINE)), np.int64(down * (1 << FINE))


@jit.inlined
def _paint(row_at: int, begin: int, end: int, colour: int) -> None:
    """Pixels begin <= x < end of the row at an address become a colour."""
    if end - begin >= LANES:
        for first in range(begin, end, LANES):
            paint_eight(row_at + 3 * min(first, end - LANES), colour)
    else:
        for x in range(begin, end):
            paint_one(row_at + 3 * x, colour)


@jit.inlined
def _level(value: float) -> int:
    """A number as a level: rounded half to even, cut off at black and white; NaN is black."""
    level: int = np.int64(np.rint(min(value, 255.0))) if value > 0.0 else np.int64(0)
    return level


@jit.inlined
def _colour(fill: tuple[float, float, float]) -> int:
    return _level(fill[0]) | _level(fill[1]) << 8 | _level(fill[2]) << 16


@jit.inlined
def _sample(
    source_at: int,
    size: tuple[int, int],
    x: float,
    y: float,
    fill: tuple[float, float, float],
    bilinear: int,
    target_at: int,
) -> None:
    """One pixel, anywhere: the general case, in double precision."""
    height, width = size
    if fill[0] < 0.0:  # also where a position is none
        x, y = (min(x, width - 0.5) if x > 0.5 else 0.5), (min(y, height - 0.5) if y > 0.5 else 0.5)
    elif not (x > -1.0 and y > -1.0 and x < width + 1.0 and y < height + 1.0):
        paint_one(target_at, _colour(fill))
        return
    shift = 0.5 * bilinear
    column, row = np.int64(math.floor(x - shift)), np.int64(math.floor(y - shift))
    if bilinear == 0:
        if column >= 0 and row >= 0 and column < width and row < height:
            at = source_at + (row * width + column) * 3
            paint_one(target_at, level_at(at) | level_at(at + 1) << 8 | level_at(at + 2) << 16)
        else:
            paint_one(target_at, _colour(fill))
        return
    right, below = x - shift - column, y - shift - row
    red = green = blue = mask = 0.0
    for corner in range(4):
        i, j = row + corner // 2, column + corner % 2
        if i >= 0 and j >= 0 and i < height and j < width:
            weight = (below if i > row else 1.0 - below) * (right if j > column else 1.0 - right)
            at = source_at + (i * width + j) * 3
            red += weight * level_at(at)
            green += weight * level_at(at + 1)
            blue += weight * level_at(at + 2)
            mask += weight
    if fill[1] >= 0.0:
        red = mask * (red - fill[0]) + fill[0]
        green = mask * (green - fill[1]) + fill[1]
        blue = mask * (blue - fill[2]) + fill[2]
    paint_one(target_at, _colour((red, green, blue)))


@jit.inlined
def _fast_part(
    row: tuple[float, float, float, float, float, float],
    begin: int,
    end: int,
    source: tuple[int, int, int, int],
    bilinear: int,
    repeats: bool,
    pace: tuple[float, int, int],
    row_at: int,
) -> tuple[int, int]:
    """Samples that part of begin <= x < end where all neighbours are pixels, eight at a time; answers which it was.

    w is above 0 on all of it. Where edges repeat it is all of it: positions are clamped.
    """
    source_at, height, width, missing = source
    x, y, w, step_x, step_y, step_w = row
    shift = 0.5 if bilinear else 0.0
    columns, rows = width - missing - bilinear, height - bilinear
    if columns < 1 or rows < 1 or width > _MAX_SIDE or height > _MAX_SIDE or 3 * height * width > _MAX_BYTES:
        return begin, begin
    if not repeats:
        begin, end = _within(row, shift, shift, columns + shift, rows + shift, begin, end)
    if end - begin < LANES or (repeats and missing):
        return begin, begin
    most_x, most_y = (columns << FRACTION) - 1, (rows << FRACTION) - 1
    inverse, fixed_step_x, fixed_step_y = pace
    if inverse != 0.0:
        one, far = float(1 << FINE), 16.0 * _MAX_SIDE
        fixed_x = np.int64(min(max((x + begin * step_x) * inverse - shift, -far), far) * one) - begin * fixed_step_x
        fixed_y = np.int64(min(max((y + begin * step_y) * inverse - shift, -far), far) * one) - begin * fixed_step_y
        for first in range(begin, end, LANES):
            # The last eight end with the part, and may so repeat some of those before.
            at = min(first, end - LANES)
            place_x, place_y = fixed_x + at * fixed_step_x, fixed_y + at * fixed_step_y
            if bilinear:
                affine_bilinear(
                    source_at, 3 * width, place_x, place_y, fixed_step_x, fixed_step_y, most_x, most_y,
                    row_at + 3 * at,
                )  # fmt: skip
            else:
                affine_nearest(
                    source_at, 3 * width, place_x, place_y, fixed_step_x, fixed_step_y, most_x, most_y,
                    row_at + 3 * at,
                )  # fmt: skip
        return begin, end
    # Half a pixel less: (x - w / 2) / w.
    x, step_x, y, step_y = x - shift * w, step_x - shift * step_w, y - shift * w, step_y - shift * step_w
    for first in range(begin, end, LANES):
        at = min(first, end - LANES)
        place_x, place_y, place_w = x + at * step_x, y + at * step_y, w + at * step_w
        if bilinear:
            perspective_bilinear(
                source_at, 3 * width, place_x, place_y, place_w, step_x, step_y, step_w, most_x, most_y,
                row_at + 3 * at,
            )  # fmt: skip
        else:
            perspective_nearest(
                source_at, 3 * width, place_x, place_y, place_w, step_x, step_y, step_w, most_x, most_y,
                row_at + 3 * at,
            )  # fmt: skip
    return begin, end


@jit.inlined
def _sample_row(
    row: tuple[float, float, float, float, float, float],
    begin: int,
    end: int,
    source: tuple[int, int, int, int],
    fill: tuple[float, float, float],
    bilinear: int,
    pace: tuple[float, int, int],
    row_at: int,
) -> None:
    """Pixels begin <= x < end of one row, from image 0."""
    source_at, height, width, _ = source
    x, y, w, step_x, step_y, step_w = row
    # Where w is not above 0 a map is no picture of anything, yet torchvision divides by it: pixel by pixel.
    low, high = _tighten(step_w, w - 1e-9, np.float64(begin), end - 1.0)
    front, back = _whole(low, high, begin, end)
    # Half a pixel beyond the edges bilinear still mixes.
    reach, repeats = 0.5 * bilinear, fill[0] < 0.0
    first, last = front, back
    if not repeats:
        first, last = _within(row, -reach, -reach, width + reach, height + reach, front, back)
        _paint(row_at, front, first, _colour(fill))
        _paint(row_at, last, back, _colour(fill))
    inner, outer = _fast_part(row, first, last, source, bilinear, repeats, pace, row_at)
    for part in range(4):
        if part == 0:
            i, stop = begin, front
        elif part == 1:
            i, stop = first, inner
        elif part == 2:
            i, stop = outer, last
        else:
            i, stop = back, end
        while i < stop:
            depth = w + i * step_w
            across, down = (x + i * step_x) / depth, (y + i * step_y) / depth
            _sample(source_at, (height, width), across, down, fill, bilinear, row_at + 3 * i)
            i += 1


@jit.inlined
def _paint_outside(
    row: tuple[float, float, float, float, float, float],
    height: int,
    width: int,
    count: int,
    colour: int,
    row_at: int,
) -> None:
    """A colour for those of ``count`` pixels of a row that lie outside of an image."""
    x, y, w, step_x, step_y, step_w = row
    if w > 0.0 and w + (count - 1) * step_w > 0.0:
        begin, end = _within(row, 0.0, 0.0, width, height, 0, count)
        _paint(row_at, 0, begin, colour)
        _paint(row_at, end, count, colour)
        return
    for i in range(count):
        depth = w + i * step_w
        across, down = (x + i * step_x) / depth, (y + i * step_y) / depth
        if not (across >= 0.0 and down >= 0.0 and across <= width and down <= height):
            paint_one(row_at + 3 * i, colour)


@jit.kernel
def warp_levels(
    source: NDArray[np.uint8],
    source_height: int,
    source_width: int,
    target: NDArray[np.uint8],
    height: int,
    width: int,
    matrices: NDArray[np.float64],
    sizes: NDArray[np.int64],
    fills: NDArray[np.float64],
    count: int,
    bilinear: int,
) -> bool:
    """Samples ``target`` from ``source`` through ``count`` maps; answers False, and does nothing, where that cannot be.

    Whatever the numbers are, nothing outside of the arrays is read or written. False: an array is smaller than its
    sizes say. A matrix with a number that is not finite, or beyond 1e12, shows nothing but its image's fill.

    Args:
        source: uint8, flat, source_height x source_width x 3 levels. Two bytes more behind them (never used, but read)
            save the last column from the slow path.
        target: uint8, flat, height x width x 3, written.
        matrices: float64 (count * 9,), a 3 x 3 map from the target to each image, row by row; image 0 is the source.
        sizes: int64 (count * 2,), height and width of each image; those of image 0 are not looked at.
        fills: float64 (count * 3,), levels outside of each image. A first one below 0: the source has no outside, its
            outermost pixels repeat. A second one below 0: black that is mixed once, as by torchvision without a fill.
        count: Images, at least 1.
        bilinear: 1 for bilinear, 0 for nearest.
    """
    if source_height < 1 or source_width < 1 or height < 1 or width < 1 or count < 1:
        return False
    if source_width > source.size or width > target.size:  # so that no product below overflows
        return False
    if source_height > source.size // (3 * source_width) or height > target.size // (3 * width):
        return False
    if matrices.size < 9 * count or sizes.size < 2 * count or fills.size < 3 * count:
        return False
    hidden = -1
    for image in range(count):
        for place in range(9 * image, 9 * image + 9):
            if not abs(matrices[place]) <= _MOST:
                hidden = image
    bilinear = 1 if bilinear else 0
    # The last pixel's load reads up to two bytes beyond it: where the array ends with it, its column is left out.
    missing = np.int64(source.size < source_height * source_width * 3 + 2)
    origin = (np.int64(source.ctypes.data), source_height, source_width, missing)
    target_at = np.int64(target.ctypes.data)
    fill, first_map = (fills[0], fills[1], fills[2]), _map(matrices, 0)
    pace = _pace(first_map)
    for y in range(height):
        row_at = target_at + 3 * y * width
        if hidden >= 0:
            _paint(row_at, 0, width, _colour((fills[3 * hidden], fills[3 * hidden + 1], fills[3 * hidden + 2])))
        else:
            begin, end = np.int64(0), width
            for image in range(1, count):
                row = _row(_map(matrices, image), y)
                if row[2] > 0.0 and row[2] + (width - 1) * row[5] > 0.0:
                    begin, end = _within(row, 0.0, 0.0, sizes[2 * image + 1], sizes[2 * image], begin, end)
            _sample_row(_row(first_map, y), begin, end, origin, fill, bilinear, pace, row_at)
        for image in range(max(1, hidden + 1), count):
            colour = _colour((fills[3 * image], fills[3 * image + 1], fills[3 * image + 2]))
            _paint_outside(
                _row(_map(matrices, image), y), sizes[2 * image], sizes[2 * image + 1], width, colour, row_at
            )
    return True
