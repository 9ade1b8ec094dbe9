"""Which pixels of a source image its output depends on: all that need be decoded."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Interpolation, Output
from fastload.engine.cpu.kernels.layout import (
    BOX_HEIGHT,
    BOX_LEFT,
    BOX_TOP,
    BOX_WIDTH,
    GRID_HEIGHT,
    GRID_WIDTH,
    WINDOW_LEFT,
    WINDOW_TOP,
)
from fastload.engine.limits import MAX_SIDE

# Pixels beyond the filter's reach on each side: rounding may move a tap by one.
_MARGIN = 2
# A box that was drawn in float64 may end an ulp or so behind a pixel's border.
_ULPS = 1e-9
# Half of a filter's width: so many pixels of the grid, and so many of the source.
_REACH: Final[dict[Interpolation, tuple[float, float]]] = {
    "nearest": (0.0, 1.0),
    "bilinear": (1.0, 0.0),
    "bicubic": (2.0, 0.0),
    "box": (0.5, 0.0),
    "area": (0.5, 0.5),
}


def find_regions(
    parameters: NDArray[np.float64], output: Output, windows: NDArray[np.int32] | None = None
) -> NDArray[np.int64]:
    """Top, left, height and width in source pixels of the region that each row of parameters needs: int64 (n, 4).

    Never less than the resampling kernels read (they check, and answer REGION_TOO_SMALL), and never more than the
    pixels that the box touches. It depends on the drawn parameters alone, not on the image. A mirrored window covers
    the same pixels.

    Args:
        parameters: float64 (n, PARAMETERS).
        output: How images are sampled.
        windows: int32 (n, 2), height and width of each window; the output's where there are none.
    """
    heights, widths = (output.height, output.width) if windows is None else (windows[:, 0], windows[:, 1])
    top, bottom = _needed(
        parameters[:, BOX_TOP],
        parameters[:, BOX_HEIGHT],
        parameters[:, GRID_HEIGHT],
        parameters[:, WINDOW_TOP],
        heights,
        output,
    )
    left, right = _needed(
        parameters[:, BOX_LEFT],
        parameters[:, BOX_WIDTH],
        parameters[:, GRID_WIDTH],
        parameters[:, WINDOW_LEFT],
        widths,
        output,
    )
    return np.stack([top, left, bottom - top, right - left], axis=1)


def share_regions(regions: NDArray[np.int64], views: int, always: NDArray[np.bool_]) -> None:
    """Gives all views of an image one region, in place, where that has no more pixels than theirs have together.

    Args:
        regions: int64 (n * views, 4), the views of an image one after the other.
        views: Views of each image.
        always: bool (n,), images whose views share a region in any case.
    """
    each = regions.reshape(-1, views, 4)
    corner = each[..., :2].min(axis=1)
    extent = (each[..., :2] + each[..., 2:]).max(axis=1) - corner
    shared = always | (extent.prod(axis=1) <= each[..., 2:].prod(axis=2).sum(axis=1))
    each[shared] = np.concatenate((corner, extent), axis=1)[shared, None]


def _needed(
    start: NDArray[np.float64],
    length: NDArray[np.float64],
    grid: NDArray[np.float64],
    window: NDArray[np.float64],
    size: int | NDArray[np.int32],
    output: Output,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixel and end of the pixels that one axis needs."""
    start, length = (np.nan_to_num(values, nan=0.0, posinf=MAX_SIDE, neginf=0.0) for values in (start, length))
    lower = np.floor(start)
    upper = np.maximum(np.ceil(start + length - _ULPS), lower + 1)
    scale = length / grid
    stretch = np.maximum(scale, 1.0) if output.antialias else np.ones_like(scale)
    # Half of the filter's width in pixels, and the taps that the fast kernel reads wherever it stands.
    reach = stretch * _REACH[output.interpolation][0] + _REACH[output.interpolation][1]
    taps = np.ceil(2.0 * reach) + 1
    first = np.clip(window, 0, grid - 1)
    last = np.clip(window + size - 1, 0, grid - 1)
    begin = np.floor(start + (first + 0.5) * scale - reach) - _MARGIN
    end = np.ceil(start + (last + 0.5) * scale + reach) + _MARGIN
    # Near a border the taps are moved inwards instead of being left out.
    begin = np.maximum(np.minimum(begin, upper - taps), lower)
    end = np.minimum(np.maximum(end, lower + taps), upper)
    # Boxes that lie outside (or are no numbers) are refused later, by name: here they only have to be whole numbers.
    first_pixel = begin.clip(0, MAX_SIDE).astype(np.int64)
    return first_pixel, np.maximum(end.clip(0, MAX_SIDE + 1).astype(np.int64), first_pixel + 1)
