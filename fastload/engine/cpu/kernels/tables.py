"""Operations that change each level by itself: composed to one table of 256 entries per channel, and looked up once.

All arithmetic is float32, in the order of torchvision v2's functions for uint8 tensors and with their roundings, level
by level: a chain of such operations is the same as one pass over the image for each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastload.augment.program import Code
from fastload.engine.cpu.kernels.planes import fma, level_of
from fastload.jit import inlined
from fastload.jpeg.intrinsics import Word

BRIGHTNESS, INVERT, POSTERIZE, SOLARIZE, GAMMA = (
    int(code) for code in (Code.BRIGHTNESS, Code.INVERT, Code.POSTERIZE, Code.SOLARIZE, Code.GAMMA)
)

_ZERO, _ONE, _MOST = np.float32(0.0), np.float32(1.0), np.float32(255.0)
# From levels to shares of 1, and back as torchvision's to_dtype does it: cut off, after multiplying with 256 - 0.001.
TO_SHARE, FROM_SHARE = np.float32(1.0 / 255.0), np.float32(255.999)


@inlined
def clamped(value: np.float32) -> Word:
    """A float32 as a level, cut off to a whole number."""
    return level_of(min(max(value, _ZERO), _MOST))


@inlined
def _apply(code: int, values: NDArray[np.float64], level: np.uint8) -> Word:
    if code == BRIGHTNESS:
        return clamped(np.float32(level) * np.float32(values[0]))
    if code == POSTERIZE:
        bits = int(values[0])
        return np.uint8(level & (((1 << bits) - 1) << (8 - bits)))
    if code == SOLARIZE:
        return np.uint8(255 - level) if np.float32(level) >= np.float32(values[0]) else level
    if code == GAMMA:
        # In float64, whose errors no library's power function carries through the rounding to float32.
        share = np.float32(np.float64(np.float32(level) * TO_SHARE) ** values[0])
        if values[1] != 1.0:
            share = min(max(share * np.float32(values[1]), _ZERO), _ONE)
        return level_of(share * FROM_SHARE)
    return np.uint8(255 - level)  # INVERT


@inlined
def is_of_levels(code: int) -> bool:
    """Whether an operation changes each level by itself, whatever the image."""
    return code == BRIGHTNESS or code == INVERT or code == POSTERIZE or code == SOLARIZE or code == GAMMA


@inlined
def reset(table: NDArray[np.uint8]) -> None:
    for i in range(768):
        table[i] = np.uint8(i & 255)


@inlined
def compose(table: NDArray[np.uint8], code: int, values: NDArray[np.float64], one: NDArray[np.uint8]) -> None:
    """``table``, then the operation. ``one`` is memory of 256 bytes."""
    for level in range(256):
        one[level] = _apply(code, values, np.uint8(level))
    for i in range(768):
        table[i] = one[table[i]]


@inlined
def contrast(table: NDArray[np.uint8], factor: float, mean: np.float32) -> None:
    """The table of a blend with the mean grey of an image."""
    ratio, rest = np.float32(factor), np.float32(1.0 - factor)
    for i in range(768):
        table[i] = clamped(fma(mean, rest, np.float32(i & 255) * ratio))


@inlined
def autocontrast(table: NDArray[np.uint8], channel: int, least: int, greatest: int) -> None:
    """The table of a channel that stretches its levels to 0 ... 255; as it is where there is one level only."""
    low, scale = np.float32(least), np.float32(greatest - least) * TO_SHARE
    if greatest <= least:
        low, scale = _ZERO, _ONE
    for level in range(256):
        table[256 * channel + level] = clamped((np.float32(level) - low) / scale)


@inlined
def equalize(table: NDArray[np.uint8], channel: int, counts: NDArray[np.int64]) -> None:
    """The table of a channel that makes its levels equally frequent, with Pillow's integers."""
    total, last = np.int64(0), np.int64(0)
    for level in range(256):
        total += counts[level]
        if counts[level] > 0:
            last = counts[level]
    step = (total - last) // 255
    if step == 0:
        for level in range(256):
            table[256 * channel + level] = np.uint8(level)
        return
    before = step // 2
    for level in range(256):
        table[256 * channel + level] = np.uint8(min(before // step, 255))
        before += counts[level]
