"""One geometry per sample, composed step by step: source box, resampled grid, window of the grid, flips, and maps."""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastload.augment.maps import Maps, Matrices, mirrored, shifted
from fastload.augment.parameters import Draws, Marks
from fastload.augment.program import Program

_INT32_MAX: Final = 2**31 - 1

Mask = NDArray[np.bool_]
_Number = TypeVar("_Number", bound=np.generic)


class Canvas:
    """The image as it stands after the steps so far, for n samples at once.

    What a step sees is the window, seen through the flips; its coordinates count from there. The fields are those of
    :class:`fastload.augment.parameters.Draws`, in int64 for the arithmetic in between. As long as steps are parallel to
    the axes they move the box, the grid and the window. Samples for which that does not do have maps, from the first
    such step on, and their window then stays as it is.

    Args:
        sizes: Height and width of each source, (n, 2); (0, 0), an unreadable header, counts as one pixel.

    Attributes:
        known: bool (n,), whether the source has a size.
    """

    def __init__(self, sizes: NDArray[np.int32]) -> None:
        source = np.maximum(sizes, 1).astype(np.int64)
        self.known: Mask = np.asarray((sizes > 0).all(axis=1))
        self._source = source.astype(np.float64)
        self._box = np.hstack((np.zeros_like(self._source), self._source))
        self._grid = source
        self._window = np.hstack((np.zeros_like(source), source))
        self._sizes = source
        self._flips = np.zeros((2, len(source)), dtype=np.bool_)  # top to bottom, left to right
        self._pad: NDArray[np.float64] | None = None
        self._maps: Maps | None = None
        self._nudge: NDArray[np.float64] | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of each image as it stands, int64 (n, 2)."""
        return self._sizes

    @property
    def flips(self) -> NDArray[np.bool_]:
        """Whether each window is seen upside down, and whether mirrored, bool (2, n)."""
        return self._flips

    @property
    def heights(self) -> NDArray[np.int64]:
        """Height of each image as it stands, int64 (n,)."""
        return self._sizes[:, 0]

    @property
    def widths(self) -> NDArray[np.int64]:
        """Width of each image as it stands, int64 (n,)."""
        return self._sizes[:, 1]

    def flip(self, where: Mask, axis: int = 1) -> None:
        """Mirrors the images where ``where`` is set: left to right, or with axis 0 top to bottom."""
        if self._nudge is None:
            self._nudge = np.zeros((len(where), 2))
        self._nudge[:, axis] = np.where(where, -1.0 - self._nudge[:, axis], self._nudge[:, axis])
        if self._maps is not None:
            self._maps.move(where & self._maps.active, mirrored(self._sizes[:, axis], axis))
            where = where & ~self._maps.active
        self._flips[axis] ^= where

    def resize(self, sizes: NDArray[np.int64], where: Mask, widens: bool = True) -> None:
        """Resamples whole images to a height and width, (n, 2) or (1, 2); ``widens``: with antialiasing.

        The window becomes the box: what a crop left out can no longer be seen, nor sampled.
        """
        sizes = np.broadcast_to(np.minimum(sizes, _INT32_MAX), self._grid.shape)
        if self._nudge is not None:
            self._nudge = _chosen(where, self._nudge * (sizes / self._sizes), self._nudge)
        plain = where
        if self._pad is not None:  # a border does not resize to whole pixels: a map does it
            self._begin(where & (self._overhangs().any(axis=(0, 2))))
        if self._maps is not None:
            self._maps.resize(where & self._maps.active, self._sizes, sizes, widens)
            plain = where & ~self._maps.active
        # An exact 1 where nothing was resampled so far: crops of the source stay whole pixels.
        pitch = self._box[:, 2:] / self._grid
        corner = self._box[:, :2] + self._window[:, :2] * pitch
        extent = self._window[:, 2:] * pitch
        corner = np.minimum(np.maximum(corner, 0.0), self._source)
        # Rounding must not carry the box out of the image by a unit in the last place.
        extent = np.minimum(extent, self._source - corner)
        self._box = _chosen(plain, np.hstack((corner, extent)), self._box)
        self._grid = _chosen(plain, sizes, self._grid)
        self._window = _chosen(plain, np.hstack((np.zeros_like(sizes), sizes)), self._window)
        self._sizes = _chosen(where, sizes, self._sizes)

    def crop(self, boxes: NDArray[np.int64], where: Mask, fill: tuple[float, float, float] | None = None) -> None:
        """The images become ``boxes``, (n, 4) top, left, height, width in the images as they stand.

        Args:
            boxes: The crops.
            where: bool (n,), which samples are cropped.
            fill: Levels of what lies outside of the images; None where nothing does.
        """
        plain = where
        windows = self._windows(boxes)
        if fill is not None:
            self._make_border(boxes, windows, where, fill)
        if self._maps is not None:
            top, left = boxes.T[:2].astype(np.float64)
            self._maps.move(where & self._maps.active, shifted(left, top, len(boxes)))
            plain = where & ~self._maps.active
        self._window = _chosen(plain, windows, self._window)
        self._sizes = _chosen(where, boxes[:, 2:], self._sizes)

    def center_crop(self, height: int, width: int, where: Mask) -> None:
        """The middle of each image, at torchvision's offsets; where the image is smaller it gets a black border."""
        boxes = np.empty_like(self._window)
        boxes[:, 0] = _center(self.heights, height)
        boxes[:, 1] = _center(self.widths, width)
        boxes[:, 2:] = height, width
        self.crop(boxes, where, (0.0, 0.0, 0.0))

    def map(
        self,
        matrix: Matrices,
        where: Mask,
        fill: tuple[float, float, float],
        bilinear: bool,
        sizes: NDArray[np.int64] | None = None,
    ) -> None:
        """Other images, of which a point shows what lies at ``matrix`` @ it in those as they stand.

        Args:
            matrix: float64 (n, 3, 3).
            where: bool (n,), which samples it is about.
            fill: Levels of what lies outside of the images.
            bilinear: Whether pixels are mixed, else the nearest is taken: of several maps one is enough.
            sizes: int64 (n, 2), new heights and widths; None where they stay.
        """
        if not where.any():
            return
        self._cut(where, fill)
        assert self._maps is not None
        if self._nudge is not None:
            (a, b), (c, d) = matrix[:, 0, :2].T, matrix[:, 1, :2].T
            area = a * d - b * c
            down, across = self._nudge.T
            turned = np.stack((a * down - c * across, d * across - b * down))
            self._nudge = _chosen(where, (turned / np.where(area != 0.0, area, np.inf)).T, self._nudge)
        self._maps.move(where, matrix)
        self._maps.bilinear |= where & bilinear
        self._maps.nearest |= where & (not bilinear)
        if sizes is not None:
            self._sizes = _chosen(where, sizes, self._sizes)

    def places(self, rows: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points of the sources lie in the images as they stand, float64 (m, 2): x and y."""
        pitch = (self._box[:, 2:] / self._grid)[rows]
        down = (y - self._box[rows, 0]) / pitch[:, 0] - self._window[rows, 0]
        across = (x - self._box[rows, 1]) / pitch[:, 1] - self._window[rows, 1]
        down = np.where(self._flips[0, rows], self._window[rows, 2] - down, down)
        across = np.where(self._flips[1, rows], self._window[rows, 3] - across, across)
        points = np.stack((across, down), axis=-1)
        if self._maps is not None and self._maps.active[rows].any():
            points = self._maps.places(rows, points)
        return points

    def draws(
        self, ids: NDArray[np.int64], *, before: Program | None, after: Program | None, removed: Marks | None
    ) -> Draws:
        """The geometry in the form that engines take, with the operations on pixels around it."""
        grid, window, warp = self._grid, self._window, None
        if self._maps is not None and self._maps.active.any():
            grid, window, warp = self._maps.finish(grid, window, self._flips, self._sizes)
        return Draws(
            ids=ids,
            box=self._box,
            grid=grid.astype(np.int32),
            window=window.astype(np.int32),
            flip=self._flips[1],
            nudge=self._nudge,
            flip_vertical=self._flips[0] if self._flips[0].any() else None,
            pad=self._pad if self._pad is not None and self._pad.any() else None,
            warp=warp,
            before=before,
            after=after,
            removed=removed,
        )

    def _windows(self, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Boxes of the images as they stand as windows of the grid."""
        top, left, height, width = boxes.T
        # The grid lies unflipped: seen from its other side, the left edge is as far away as the right one was.
        top = np.where(self._flips[0], self._window[:, 2] - height - top, top)
        left = np.where(self._flips[1], self._window[:, 3] - width - left, left)
        return np.stack((self._window[:, 0] + top, self._window[:, 1] + left, height, width), axis=1)

    def _overhangs(self) -> NDArray[np.bool_]:
        """Whether a window reaches beyond its grid: at its begin and its end, (2, n, rows and columns)."""
        window = self._window
        return np.stack((window[:, :2] < 0, window[:, :2] + window[:, 2:] > self._grid))

    def _make_border(
        self, boxes: NDArray[np.int64], windows: NDArray[np.int64], where: Mask, fill: tuple[float, float, float]
    ) -> None:
        """Sees to it that what of ``boxes`` lies outside of the images will be ``fill``."""
        beyond = where & ((boxes[:, :2] < 0) | (boxes[:, :2] + boxes[:, 2:] > self._sizes)).any(axis=1)
        if not beyond.any():
            return
        if self._pad is None:
            self._pad = np.zeros((len(boxes), 3))
        # A window that grows must not show again what an earlier crop has left out, nor paint an older border anew.
        old, new = (np.stack((part[:, :2], part[:, :2] + part[:, 2:])) for part in (self._window, windows))
        hidden = (new[0] < old[0]) & (old[0] > 0) | (new[1] > old[1]) & (old[1] < self._grid)
        repainted = self._overhangs().any(axis=(0, 2)) & (self._pad != fill).any(axis=1)
        clash = beyond & (hidden.any(axis=1) | repainted)
        if self._maps is not None:
            clash |= beyond & self._maps.active
        self._pad[beyond & ~clash] = fill
        if clash.any():
            self._cut(clash, fill)

    def _begin(self, where: Mask) -> Mask:
        """Gives samples maps; answers which of them had none."""
        if self._maps is None:
            self._maps = Maps(len(where))
        begun = where & ~self._maps.active
        self._maps.begin(begun, self._sizes)
        return begun

    def _cut(self, where: Mask, fill: tuple[float, float, float]) -> None:
        """All outside of the images as they stand is ``fill`` from now on; where there were no maps they begin here."""
        begun = self._begin(where)
        assert self._maps is not None
        self._maps.cut(where, begun, self._sizes, np.array(fill))


def _chosen(where: Mask, new: NDArray[_Number], old: NDArray[_Number]) -> NDArray[_Number]:
    return new if where.all() else np.where(where[:, None], new, old)


def _center(length: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Offset of the middle: halves round to even, as Python's round; padding puts its odd pixel at the end."""
    return np.where(length >= wanted, np.rint((length - wanted) / 2.0).astype(np.int64), -((wanted - length) // 2))


def resized_sizes(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    size: int | tuple[int, int] | NDArray[np.int64] | None,
    max_size: int | None,
) -> NDArray[np.int64]:
    """Height and width after torchvision's ``Resize(size, max_size=max_size)``, int64 (n, 2) or (1, 2), at least 1.

    ``size`` may be one for each image, int64 (n,).
    """
    if isinstance(size, tuple):
        return np.array([size], dtype=np.int64)
    short, long = np.minimum(heights, widths), np.maximum(heights, widths)
    # torchvision divides floats and truncates; for sides below 2**26 whole division gives the same.
    if size is None:
        assert max_size is not None
        new_short, new_long = max_size * short // long, np.full_like(long, max_size)
    else:
        new_short, new_long = np.broadcast_to(size, short.shape), size * long // short
        if max_size is not None:
            over = new_long > max_size
            new_short = np.where(over, max_size * new_short // new_long, new_short)
            new_long = np.where(over, max_size, new_long)
    new_short = np.maximum(new_short, 1)  # torchvision fails where an elongated image would lose its short side
    upright = widths <= heights
    return np.stack((np.where(upright, new_long, new_short), np.where(upright, new_short, new_long)), axis=1)
