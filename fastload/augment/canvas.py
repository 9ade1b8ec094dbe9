"""One geometry per sample, composed step by step: source box, resampled grid, window of the grid, flip."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws
from fastload.augment.program import Program

_INT32_MAX: Final = 2**31 - 1


class Canvas:
    """The image as it stands after the steps so far, for n samples at once.

    What a step sees is the window, seen through the flip; its coordinates count from there. The fields are those of
    :class:`fastload.augment.parameters.Draws`, in int64 for the arithmetic in between.

    Args:
        sizes: Height and width of each source, (n, 2); (0, 0), an unreadable header, counts as one pixel.
    """

    def __init__(self, sizes: NDArray[np.int32]) -> None:
        source = np.maximum(sizes, 1).astype(np.int64)
        self._source = source.astype(np.float64)
        self._box = np.hstack((np.zeros_like(self._source), self._source))
        self._grid = source
        self._window = np.hstack((np.zeros_like(source), source))
        self._flip = np.zeros(len(source), dtype=np.bool_)

    @property
    def heights(self) -> NDArray[np.int64]:
        """Height of each image as it stands, int64 (n,)."""
        return self._window[:, 2]

    @property
    def widths(self) -> NDArray[np.int64]:
        """Width of each image as it stands, int64 (n,)."""
        return self._window[:, 3]

    def flip(self, mask: NDArray[np.bool_]) -> None:
        """Mirrors the images where ``mask`` is set."""
        self._flip ^= mask

    def resize(self, sizes: NDArray[np.int64]) -> None:
        """Resamples each whole image to a height and width, (n, 2) or (1, 2).

        The window becomes the box: what a crop left out can no longer be seen, nor sampled.
        """
        # An exact 1 where nothing was resampled so far: crops of the source stay whole pixels.
        pitch = self._box[:, 2:] / self._grid
        corner = self._box[:, :2] + self._window[:, :2] * pitch
        extent = self._window[:, 2:] * pitch
        corner = np.minimum(np.maximum(corner, 0.0), self._source)
        # Rounding must not carry the box out of the image by a unit in the last place.
        extent = np.minimum(extent, self._source - corner)
        self._box = np.hstack((corner, extent))
        self._grid = np.broadcast_to(np.minimum(sizes, _INT32_MAX), self._grid.shape)
        self._window = np.hstack((np.zeros_like(self._grid), self._grid))

    def crop(self, boxes: NDArray[np.int64]) -> None:
        """Moves the window to ``boxes``, (n, 4) top, left, height, width in the image as it stands."""
        top, left, height, width = boxes.T
        # The grid lies unflipped: seen from its other side, the left edge is as far away as the right one was.
        left = np.where(self._flip, self.widths - width - left, left)
        self._window = np.stack((self._window[:, 0] + top, self._window[:, 1] + left, height, width), axis=1)

    def center_crop(self, height: int, width: int) -> None:
        """The middle of each image, at torchvision's offsets; where the image is smaller the window reaches beyond."""
        boxes = np.empty_like(self._window)
        boxes[:, 0] = _center(self.heights, height)
        boxes[:, 1] = _center(self.widths, width)
        boxes[:, 2:] = height, width
        self.crop(boxes)

    def draws(self, ids: NDArray[np.int64], *, before: Program | None, after: Program | None) -> Draws:
        """The geometry in the form that engines take, with the operations on pixels around it."""
        return Draws(
            ids=ids,
            box=self._box,
            grid=self._grid.astype(np.int32),
            window=self._window.astype(np.int32),
            flip=self._flip,
            before=before,
            after=after,
        )


def _center(length: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Offset of the middle: halves round to even, as Python's round; padding puts its odd pixel at the end."""
    return np.where(length >= wanted, np.rint((length - wanted) / 2.0).astype(np.int64), -((wanted - length) // 2))


def resized_sizes(
    heights: NDArray[np.int64], widths: NDArray[np.int64], size: int | tuple[int, int] | None, max_size: int | None
) -> NDArray[np.int64]:
    """Height and width after torchvision's ``Resize(size, max_size=max_size)``, int64 (n, 2) or (1, 2), at least 1."""
    if isinstance(size, tuple):
        return np.array([size], dtype=np.int64)
    short, long = np.minimum(heights, widths), np.maximum(heights, widths)
    # torchvision divides floats and truncates; for sides below 2**26 whole division gives the same.
    if size is None:
        assert max_size is not None
        new_short, new_long = max_size * short // long, np.full_like(long, max_size)
    else:
        new_short, new_long = np.full_like(short, size), size * long // short
        if max_size is not None:
            over = new_long > max_size
            new_short = np.where(over, max_size * new_short // new_long, new_short)
            new_long = np.where(over, max_size, new_long)
    new_short = np.maximum(new_short, 1)  # torchvision fails where an elongated image would lose its short side
    upright = widths <= heights
    return np.stack((np.where(upright, new_long, new_short), np.where(upright, new_short, new_long)), axis=1)
