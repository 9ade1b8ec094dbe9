"""Operations that mix a pixel with those around it, or take it from elsewhere: sharpness, blur, elastic, frames."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.engine.cpu.kernels.blur import FIXED_RADIUS, blur_fixed, mirrored
from fastload.engine.cpu.kernels.noise import share
from fastload.engine.cpu.kernels.planes import copy, fma, level_of, plane_bytes, sum_of_nine
from fastload.engine.cpu.kernels.tables import clamped
from fastload.jit import inlined

# Pixels that a blur reaches to either side, at most.
MAX_RADIUS: Final = 512
EDGE, REFLECT, SYMMETRIC = 1, 2, 3

_Plane = NDArray[np.uint8]
_Floats = NDArray[np.float32]
_ZERO, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_THIRTEENTH = np.float32(1.0 / 13.0)


@inlined
def sharpen(source: _Plane, target: _Plane, height: int, width: int, factor: float) -> None:
    """One plane, away from (or towards, below 1) its 3 x 3 blur; the outermost pixels stay.

    The blur's sums are whole numbers and 13 is odd: no rounding can go another way than torchvision's.
    """
    if height <= 2 or width <= 2:
        copy(source, target, source.size)
        return
    rest = np.float32(1.0 - factor)
    count = height * width - 2 * width - 2
    above, middle, below = source[0 : count + 2], source[width : width + count + 2], source[2 * width :]
    out = target[width + 1 : width + 1 + count]
    # Over the borders between rows as well, which are put right below: one long loop.
    for i in range(count):
        total = sum_of_nine(
            above[i], above[i + 1], above[i + 2],
            middle[i], middle[i + 1], middle[i + 2],
            below[i], below[i + 1], below[i + 2],
        )  # fmt: skip
        level = np.float32(middle[i + 1])
        out[i] = clamped(fma(np.rint(total * _THIRTEENTH) - level, rest, level))
    for x in range(width):
        target[x] = source[x]
        target[(height - 1) * width + x] = source[(height - 1) * width + x]
    for y in range(height):
        target[y * width] = source[y * width]
        target[y * width + width - 1] = source[y * width + width - 1]


@inlined
def fill_weights(taps: int, sigma: float, weights: _Floats) -> int:
    """A gaussian of an odd number of taps, as torchvision samples it: weights[0] the middle; returns the radius."""
    radius = min(max(taps // 2, 0), MAX_RADIUS)
    total = 0.0
    for i in range(radius + 1):
        value = math.exp(-0.5 * (i / sigma) * (i / sigma))
        total += value if i == 0 else 2.0 * value
    for i in range(radius + 1):
        weights[i] = np.float32(math.exp(-0.5 * (i / sigma) * (i / sigma)) / total)
    return radius


@inlined
def blur_plane(
    source: _Floats, target: _Floats, height: int, width: int, across: _Floats, along: _Floats, line: _Floats
) -> None:
    """A separable symmetrical filter over a plane of floats, mirrored at its edges: down the columns, then the rows.

    Args:
        source, target: float32 (height * width,), two different ones.
        height, width: Size.
        across: Weights along a row, the middle one first.
        along: Weights down a column.
        line: Memory of width + 2 * MAX_RADIUS.
    """
    radius_x, radius_y = across.size - 1, along.size - 1
    row = line[radius_x : radius_x + width]
    for y in range(height):
        middle, weight = source[y * width : (y + 1) * width], along[0]
        for x in range(width):
            row[x] = middle[x] * weight
        for j in range(1, radius_y + 1):
            up, down = mirrored(y - j, height) * width, mirrored(y + j, height) * width
            above, below, weight = source[up : up + width], source[down : down + width], along[j]
            for x in range(width):
                row[x] = fma(above[x] + below[x], weight, row[x])
        for j in range(1, radius_x + 1):
            line[radius_x - j] = row[mirrored(-j, width)]
            line[radius_x + width - 1 + j] = row[mirrored(width - 1 + j, width)]
        out, weight = target[y * width : (y + 1) * width], across[0]
        for x in range(width):
            out[x] = row[x] * weight
        for j in range(1, radius_x + 1):
            before, behind, weight = line[radius_x - j :], line[radius_x + j :], across[j]
            for x in range(width):
                out[x] = fma(before[x] + behind[x], weight, out[x])


@inlined
def blur(
    source: _Plane,
    target: _Plane,
    height: int,
    width: int,
    values: NDArray[np.float64],
    floats: _Floats,
    counts: NDArray[np.int64],
) -> None:
    """The three planes of a canvas. ``floats``: two planes, two lots of weights, one line; ``counts``: row offsets."""
    pixels, stride = height * width, plane_bytes(height * width)
    weights, line = floats[2 * stride :], floats[2 * stride + 2 * MAX_RADIUS + 2 :]
    across = weights[: fill_weights(int(values[0]), values[2], weights) + 1]
    weights = weights[MAX_RADIUS + 1 :]
    along = weights[: fill_weights(int(values[1]), values[3], weights) + 1]
    if across.size <= FIXED_RADIUS + 1 and along.size <= FIXED_RADIUS + 1:
        blur_fixed(source, target, height, width, across, along, line.view(np.uint16), counts)
        return
    before, behind = floats[:pixels], floats[stride : stride + pixels]
    for channel in range(3):
        levels, out = source[channel * stride : channel * stride + pixels], target[channel * stride :]
        for i in range(pixels):
            before[i] = np.float32(levels[i])
        blur_plane(before, behind, height, width, across, along, line)
        for i in range(pixels):
            out[i] = clamped(np.rint(behind[i]))


@inlined
def elastic(
    source: _Plane, target: _Plane, height: int, width: int, values: NDArray[np.float64], floats: _Floats
) -> None:
    """Every pixel from a little beside its place: uniform noise, blurred, times alpha, as torchvision displaces.

    The noise is ours (see noise.py: counters 0 ... of the seed for x, those behind for y); filter, sampling and fill
    are torchvision's. ``floats``: four planes, weights and a line.
    """
    pixels, stride = height * width, plane_bytes(height * width)
    key, key_2 = np.int64(values[8]), np.int64(values[9])
    noise = floats[3 * stride : 3 * stride + pixels]
    weights, line = floats[4 * stride :], floats[4 * stride + 2 * MAX_RADIUS + 2 :]
    for axis in range(2):
        moved = floats[axis * stride : axis * stride + pixels]
        for i in range(pixels):
            noise[i] = share(i + axis * pixels, key, key_2) * _TWO - _ONE
        sigma = values[6 + axis]
        if sigma > 0.0:
            taps = int(8.0 * sigma + 1.0) | 1
            across = weights[: fill_weights(taps, max(values[6], 1e-3), weights) + 1]
            behind = weights[MAX_RADIUS + 1 :]
            along = behind[: fill_weights(taps, max(values[7], 1e-3), behind) + 1]
            blur_plane(noise, moved, height, width, across, along, line)
        else:
            for i in range(pixels):
                moved[i] = noise[i]
        alpha, size = np.float32(values[4 + axis]), np.float32(height if axis else width)
        for i in range(pixels):
            moved[i] = moved[i] * alpha / size
    _sample(source, target, height, width, values, floats[:stride], floats[stride : 2 * stride])


@inlined
def _sample(
    source: _Plane,
    target: _Plane,
    height: int,
    width: int,
    values: NDArray[np.float64],
    moved_x: _Floats,
    moved_y: _Floats,
) -> None:
    """grid_sample of an identity grid plus displacements, zeros outside, and torchvision's way to fill those."""
    stride, smooth = plane_bytes(height * width), values[0] != 0.0
    half_x, half_y = np.float32(0.5 * width), np.float32(0.5 * height)
    for y in range(height):
        base_y = np.float32((2 * y + 1 - height) / height)
        for x in range(width):
            i = y * width + x
            base_x = np.float32((2 * x + 1 - width) / width)
            at_x = (base_x + moved_x[i] + _ONE) * half_x - _HALF
            at_y = (base_y + moved_y[i] + _ONE) * half_y - _HALF
            # Beyond these all is fill: and whole numbers stay small.
            at_x = min(max(at_x, np.float32(-4.0)), np.float32(width + 4))
            at_y = min(max(at_y, np.float32(-4.0)), np.float32(height + 4))
            if not smooth:
                near_x, near_y = np.int64(np.rint(at_x)), np.int64(np.rint(at_y))
                inside = 0 <= near_x < width and 0 <= near_y < height
                for channel in range(3):
                    if inside:
                        target[channel * stride + i] = source[channel * stride + near_y * width + near_x]
                    else:
                        target[channel * stride + i] = level_of(np.float32(values[1 + channel]))
                continue
            left, top = np.int64(np.floor(at_x)), np.int64(np.floor(at_y))
            part_x, part_y = at_x - np.float32(left), at_y - np.float32(top)
            if 0 <= left < width - 1 and 0 <= top < height - 1:
                # All four are pixels, as nearly everywhere: the same without a test for each of them.
                weight_0, weight_1 = (_ONE - part_x) * (_ONE - part_y), part_x * (_ONE - part_y)
                weight_2, weight_3 = (_ONE - part_x) * part_y, part_x * part_y
                known = weight_0 + weight_1 + weight_2 + weight_3
                first = top * width + left
                for channel in range(3):
                    at = channel * stride + first
                    total = np.float32(source[at]) * weight_0 + np.float32(source[at + 1]) * weight_1
                    total += np.float32(source[at + width]) * weight_2
                    total += np.float32(source[at + width + 1]) * weight_3
                    fill = np.float32(values[1 + channel])
                    target[channel * stride + i] = clamped(np.rint((total - fill) * known + fill))
                continue
            for channel in range(3):
                total, known = _ZERO, _ZERO
                for corner in range(4):
                    column, row = left + (corner & 1), top + (corner >> 1)
                    if 0 <= column < width and 0 <= row < height:
                        weight = part_x if corner & 1 else _ONE - part_x
                        weight *= part_y if corner >> 1 else _ONE - part_y
                        total += weight * np.float32(source[channel * stride + row * width + column])
                        known += weight
                fill = np.float32(values[1 + channel])
                target[channel * stride + i] = clamped(np.rint((total - fill) * known + fill))


@inlined
def frame(canvas: _Plane, height: int, width: int, values: NDArray[np.float64], columns: NDArray[np.int64]) -> None:
    """All outside of a part of the canvas becomes its image in a mirror (or its edge). ``columns``: (width,) memory."""
    stride = plane_bytes(height * width)
    top, left = min(max(int(values[0]), 0), height), min(max(int(values[1]), 0), width)
    rows = min(int(values[0] + values[2]), height) - top
    count = min(int(values[1] + values[3]), width) - left
    mode = int(values[4])
    if rows < 1 or count < 1:
        return
    for x in range(width):
        columns[x] = left + _outside(x - left, count, mode)
    for channel in range(3):
        plane = canvas[channel * stride : channel * stride + height * width]
        for y in range(top, top + rows):
            for x in range(left):
                plane[y * width + x] = plane[y * width + columns[x]]
            for x in range(left + count, width):
                plane[y * width + x] = plane[y * width + columns[x]]
        for y in range(height):
            if y < top or y >= top + rows:
                from_row = (top + _outside(y - top, rows, mode)) * width
                copy(plane[from_row:], plane[y * width :], width)


@inlined
def _outside(i: int, count: int, mode: int) -> int:
    if mode == EDGE:
        return min(max(i, 0), count - 1)
    if mode == REFLECT:
        return mirrored(i, count)
    i = i % (2 * count)
    return i if i < count else 2 * count - 1 - i


@inlined
def erase(canvas: _Plane, height: int, width: int, values: NDArray[np.float64]) -> None:
    """A rectangle of the canvas in one colour."""
    stride = plane_bytes(height * width)
    top, left = min(max(int(values[0]), 0), height), min(max(int(values[1]), 0), width)
    bottom, right = min(int(values[0] + values[2]), height), min(int(values[1] + values[3]), width)
    for channel in range(3):
        level = clamped(np.float32(values[4 + channel]))
        for y in range(top, bottom):
            for x in range(left, right):
                canvas[channel * stride + y * width + x] = level
