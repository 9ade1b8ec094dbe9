"""Filter weights of one output position, with Pillow's rules, in 22-bit fixed point."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload import jit
from fastload.engine.cpu.kernels.layout import AREA, BICUBIC_PLAIN, BILINEAR, BOX, FLIP, NEAREST

# Pillow's: 32 bits less 8 for the grey level, 1 for the sign and 1 for the overshoot of bicubic.
PRECISION: Final = 22
_ONE: Final = 1 << PRECISION


@jit.inlined
def mirrors(parameters: NDArray[np.float64]) -> tuple[bool, bool]:
    """Whether a window is mirrored top to bottom, and left to right (any other number than FLIP's: not)."""
    flip = parameters[FLIP]
    return flip == 2.0 or flip == 3.0, flip == 1.0 or flip == 3.0


@jit.inlined
def find_reach(code: int, stretch: float) -> float:
    """Half of the filter's width in source pixels, where a pixel of the grid is ``stretch`` of them wide."""
    if code == BILINEAR:
        return stretch
    if code == BOX:
        return 0.5 * stretch
    # A pixel counts for as much of it as lies under the grid's: also half a pixel off the edge.
    return 0.5 * stretch + 0.5 if code == AREA else 2.0 * stretch


@jit.inlined
def cubic(x: float, a: float) -> float:
    """Keys' cubic at a distance of x: a = -0.5 in Pillow; -0.75 in torch's plain bicubic."""
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return near if x < 1.0 else far if x < 2.0 else 0.0


@jit.inlined
def _filter(code: int, x: float) -> float:
    if code == BOX:
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    x = abs(x)
    if code == BILINEAR:
        return max(1.0 - x, 0.0)
    return cubic(x, -0.75 if code == BICUBIC_PLAIN else -0.5)


@jit.inlined
def find_taps(
    code: int,
    antialias: bool,
    start: float,
    length: float,
    grid: int,
    size: int,
    position: int,
    real: NDArray[np.float64],
    weights: NDArray[np.int32],
) -> tuple[int, int]:
    """Writes the weights of one output position to the start of ``weights``; returns first source pixel and count.

    Taps stay inside the pixels that the box [start, start + length) touches, as after cropping to them. Outside taps
    are left out and the others normalised, except for plain bicubic, which repeats the border as torch does.
    """
    lower = math.floor(start)
    upper = max(min(math.ceil(start + length), size), lower + 1)
    scale = length / grid
    # Pixels count from the first one that the box touches, as after Pillow's crop; so do its roundings.
    pixels = upper - lower
    centre = start - lower + (position + 0.5) * scale
    if code == NEAREST:
        weights[0] = _ONE
        return lower + min(max(int(centre), 0), pixels - 1), 1
    stretch = max(scale, 1.0) if antialias else 1.0
    support = find_reach(code, stretch)
    inverse = 1.0 / stretch
    total = 0.0
    if code == BICUBIC_PLAIN:
        base = math.floor(centre - 0.5) - 1
        first = min(max(base, 0), pixels - 1)
        count = min(max(base + 3, 0), pixels - 1) - first + 1
        for k in range(count):
            real[k] = 0.0
        for k in range(4):
            real[min(max(base + k, 0), pixels - 1) - first] += _filter(code, base + k + 0.5 - centre)
        total = 1.0
    else:
        first = max(math.floor(centre - support + 0.5), 0)
        count = min(math.floor(centre + support + 0.5), pixels) - first
        for k in range(count):
            offset = first + k - centre + 0.5
            if code == AREA:
                real[k] = min(max(support - abs(offset), 0.0), 1.0)
            else:
                real[k] = _filter(code, offset * inverse)
            total += real[k]
    for k in range(count):
        weights[k] = np.int32(math.floor(real[k] / total * _ONE + 0.5))
    return lower + first, count
