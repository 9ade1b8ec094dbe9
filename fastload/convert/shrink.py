"""Reduces an image to a longest side by exact area averaging."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fitted_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Height and width after the longer side is reduced to ``max_side``; as FFCV's max_resolution rounds them."""
    longest = max(height, width)
    if longest <= max_side:
        return height, width
    ratio = max_side / longest
    return max(1, int(ratio * height)), max(1, int(ratio * width))


def shrink(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Averages an image (height, width, channels) over the area of each new pixel, as OpenCV's INTER_AREA does.

    Sums are exact and added in a fixed order, so every machine writes the same bytes; a matrix product would be
    faster and depend on the BLAS.
    """
    rows = _average(image.astype(np.float64), height)
    columns = _average(np.ascontiguousarray(rows.transpose(1, 0, 2)), width)
    rounded: NDArray[np.uint8] = np.floor(columns.transpose(1, 0, 2) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(rounded)


def _average(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Averages along the first axis: the integral at each edge is a running sum and a share of the next row."""
    length = len(values)
    if count == length:
        return values
    edges = np.arange(count + 1) * length / count
    whole = np.minimum(edges.astype(np.int64), length)
    share = (edges - whole)[:, None, None]
    running = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    integral = running[whole] + share * values[np.minimum(whole, length - 1)]
    return np.diff(integral, axis=0) * (count / length)
