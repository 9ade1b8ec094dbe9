"""Makes an image smaller by exact area averaging."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastload.jit import kernel


def shrink(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Averages an image (height, width, channels) over the area of each new pixel, as OpenCV's INTER_AREA does.

    A loop adds in one order everywhere, so every machine writes the same bytes, which a matrix product would not.
    375 x 500 to 192 x 256 takes 1.0 ms; the same with numpy's running sums took 12.
    """
    out = np.empty((height, width, image.shape[2]), np.uint8)
    row = np.empty(image.shape[1] * image.shape[2], np.float64)
    _average_areas(np.ascontiguousarray(image).reshape(len(image), -1), row, out)
    return out


@kernel
def _average_areas(image: Any, row: Any, out: Any) -> None:
    """image: uint8 (rows, columns * channels); row: float64, one row of it; out: uint8, not larger than the image."""
    height, width, channels = out.shape
    rows = image.shape[0]
    columns = image.shape[1] // channels
    for y in range(height):
        top = y * rows / height
        bottom = (y + 1) * rows / height
        row[:] = 0.0
        for source in range(int(top), rows):
            if source >= bottom:
                break
            share = (min(source + 1.0, bottom) - max(float(source), top)) * height / rows
            for i in range(row.shape[0]):
                row[i] += share * image[source, i]
        for x in range(width):
            left = x * columns / width
            right = (x + 1) * columns / width
            for channel in range(channels):
                total = 0.0
                for source in range(int(left), columns):
                    if source >= right:
                        break
                    total += (min(source + 1.0, right) - max(float(source), left)) * row[source * channels + channel]
                out[y, x, channel] = int(total * width / columns + 0.5)
