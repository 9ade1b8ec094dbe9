"""Operations that change each pixel by itself, over the planes of a canvas, and what is asked of a whole image.

Plain loops over planes, which LLVM's vectoriser takes as they stand: float32 without a branch, and one cast from and to
bytes (planes.level_of). Results equal torchvision v2's on uint8 tensors, bit for bit where its sums are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastload.engine.cpu.kernels.planes import fma, level_of
from fastload.engine.cpu.kernels.tables import FROM_SHARE, TO_SHARE, clamped
from fastload.jit import inlined
from fastload.jpeg.intrinsics import Word

_Plane = NDArray[np.uint8]
_ZERO, _ONE, _TWO, _THREE, _FOUR, _FIVE, _SIX = (np.float32(number) for number in range(7))
_SIXTH = np.float32(1.0 / 6.0)
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)


@inlined
def _grey(red: np.uint8, green: np.uint8, blue: np.uint8) -> Word:
    """The grey of a pixel, not yet cut off."""
    return fma(np.float32(blue), _BLUE, fma(np.float32(green), _GREEN, np.float32(red) * _RED))


@inlined
def grayscale(red: _Plane, green: _Plane, blue: _Plane) -> None:
    for i in range(red.size):
        level = level_of(_grey(red[i], green[i], blue[i]))
        red[i] = level
        green[i] = level
        blue[i] = level


@inlined
def mean_grey(red: _Plane, green: _Plane, blue: _Plane, count: int) -> Word:
    """Mean of the first ``count`` pixels' greys, each cut off. The sum is exact (torch's is below 2**24, 256 x 256)."""
    total = np.int64(0)
    for i in range(count):
        total += np.int64(level_of(_grey(red[i], green[i], blue[i])))
    return np.float32(total) / np.float32(count)


@inlined
def saturation(red: _Plane, green: _Plane, blue: _Plane, factor: float) -> None:
    ratio, rest = np.float32(factor), np.float32(1.0 - factor)
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        part = np.floor(_grey(r, g, b))
        red[i] = clamped(fma(part, rest, np.float32(r) * ratio))
        green[i] = clamped(fma(part, rest, np.float32(g) * ratio))
        blue[i] = clamped(fma(part, rest, np.float32(b) * ratio))


@inlined
def color_matrix(red: _Plane, green: _Plane, blue: _Plane, m: NDArray[np.float64]) -> None:
    a, b, c, d = np.float32(m[0]), np.float32(m[1]), np.float32(m[2]), np.float32(m[3])
    e, f, g, h = np.float32(m[4]), np.float32(m[5]), np.float32(m[6]), np.float32(m[7])
    j, k, l, n = np.float32(m[8]), np.float32(m[9]), np.float32(m[10]), np.float32(m[11])  # noqa: E741
    for i in range(red.size):
        x, y, z = np.float32(red[i]), np.float32(green[i]), np.float32(blue[i])
        red[i] = clamped(fma(c, z, fma(b, y, fma(a, x, d))))
        green[i] = clamped(fma(g, z, fma(f, y, fma(e, x, h))))
        blue[i] = clamped(fma(l, z, fma(k, y, fma(j, x, n))))


@inlined
def hue(red: _Plane, green: _Plane, blue: _Plane, shift: float) -> None:
    """RGB to HSV, the hue moved by a share of the circle, and back; torchvision's floats, selects for its masks."""
    moved = np.float32(shift)
    for i in range(red.size):
        r, g, b = np.float32(red[i]) * TO_SHARE, np.float32(green[i]) * TO_SHARE, np.float32(blue[i]) * TO_SHARE
        value, least = max(max(r, g), b), min(min(r, g), b)
        extent = value - least
        is_grey, is_red, is_green = value == least, value == r, value == g
        amount = extent / (_ONE if is_grey else value)
        divisor = _ONE if is_grey else extent
        # Of torchvision's three quotients only two are ever used.
        first = (value - b) if is_red else ((value - r) if is_green else (value - g))
        second = (value - g) if is_red else ((value - b) if is_green else (value - r))
        turn = (first / divisor + (_ZERO if is_red else (_TWO if is_green else _FOUR))) - second / divisor
        turn = turn * _SIXTH + _ONE
        turn = (turn - np.floor(turn)) + moved
        turn = turn - np.trunc(turn)
        turn = (turn + _ONE if turn < _ZERO else turn) * _SIX
        sector = np.floor(turn)
        part = amount * (turn - sector)
        sector = _ZERO if sector >= _SIX else sector
        rest = _ONE - amount
        falling = min(max((_ONE - part) * value, _ZERO), _ONE)
        rising = min(max((part + rest) * value, _ZERO), _ONE)
        floor = min(max(rest * value, _ZERO), _ONE)
        in_0, in_01, in_012 = sector < _ONE, sector < _TWO, sector < _THREE
        in_0123, in_01234 = sector < _FOUR, sector < _FIVE
        r = value if in_0 else (falling if in_01 else (floor if in_0123 else (rising if in_01234 else value)))
        g = rising if in_0 else (value if in_012 else (falling if in_0123 else floor))
        b = floor if in_01 else (rising if in_012 else (value if in_01234 else falling))
        red[i] = level_of(r * FROM_SHARE)
        green[i] = level_of(g * FROM_SHARE)
        blue[i] = level_of(b * FROM_SHARE)


@inlined
def find_extremes(plane: _Plane, count: int) -> tuple[int, int]:
    """Least and greatest of the first ``count`` levels."""
    least, greatest = np.uint8(255), np.uint8(0)
    for i in range(count):
        level = plane[i]
        least = level if level < least else least
        greatest = level if level > greatest else greatest
    return np.int64(least), np.int64(greatest)


@inlined
def count_levels(plane: _Plane, count: int, counts: NDArray[np.int64]) -> None:
    """How often each level occurs among the first ``count``: counts[:256]. The other 768 places are memory.

    Four counts side by side: where a level comes again at once, one count would wait for the store before.
    """
    counts[:1024] = 0
    whole = count // 4 * 4
    for i in range(0, whole, 4):
        counts[np.int64(plane[i])] += 1
        counts[256 + np.int64(plane[i + 1])] += 1
        counts[512 + np.int64(plane[i + 2])] += 1
        counts[768 + np.int64(plane[i + 3])] += 1
    for i in range(whole, count):
        counts[np.int64(plane[i])] += 1
    for level in range(256):
        counts[level] += counts[256 + level] + counts[512 + level] + counts[768 + level]


@inlined
def add_weighted(canvas: _Plane, weight: float, sums: NDArray[np.float32], begin: bool) -> None:
    """Adds a weighted canvas to sums (AugMix), each product rounded before; ``begin`` puts it in their place."""
    factor = np.float32(weight)
    if begin:
        for i in range(canvas.size):
            sums[i] = np.float32(canvas[i]) * factor
    else:
        for i in range(canvas.size):
            sums[i] += np.float32(canvas[i]) * factor


@inlined
def take_sums(sums: NDArray[np.float32], canvas: _Plane) -> None:
    for i in range(canvas.size):
        canvas[i] = clamped(sums[i])
