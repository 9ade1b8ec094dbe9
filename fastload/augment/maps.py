"""Maps that are not parallel to the axes, composed step by step to one sampling of the window (see parameters.Warp)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Warp

# In place of a level: beyond its edges image 0 is its edge pixels again.
REPEATS: Final = -1.0
# Fill of a map without one: black, which torchvision mixes once at the edges, where it mixes a fill twice.
ONCE: Final = (0.0, -1.0, -1.0)
# A window is cut down to what is seen of it if that leaves out a fifth or more.
_WORTH_IT: Final = 0.8
# Pixels around what is seen of the window: bilinear looks at one, and rounding may move by one.
_MARGIN: Final = 2.0

Matrices = NDArray[np.float64]


def shifted(x: NDArray[np.float64] | float, y: NDArray[np.float64] | float, count: int) -> Matrices:
    """Maps that take (0, 0) to (x, y), float64 (n, 3, 3)."""
    matrix = np.tile(np.eye(3), (count, 1, 1))
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


def scaled(x: NDArray[np.float64] | float, y: NDArray[np.float64] | float, count: int) -> Matrices:
    """Maps that multiply by x and y, float64 (n, 3, 3)."""
    matrix = np.zeros((count, 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = x, y, 1.0
    return matrix


def mirrored(length: NDArray[np.int64], axis: int) -> Matrices:
    """Maps that mirror images of a length, along y (axis 0) or x (axis 1)."""
    matrix = np.tile(np.eye(3), (len(length), 1, 1))
    place = 1 - axis
    matrix[:, place, place], matrix[:, place, 2] = -1.0, length
    return matrix


def product(first: Matrices, second: Matrices) -> Matrices:
    """first @ second, by additions and multiplications in one order on every machine."""
    result = first[..., :, :1] * second[..., :1, :]
    for place in (1, 2):
        result = result + first[..., :, place : place + 1] * second[..., place : place + 1, :]
    return np.asarray(result)


def applied(
    matrix: Matrices, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """x, y and the third coordinate, by which both are yet to be divided, of k points of n samples, (n, k)."""
    rows = (matrix[:, row, 0, None] * x + matrix[:, row, 1, None] * y + matrix[:, row, 2, None] for row in range(3))
    across, down, depth = rows
    return across, down, depth


def _to_part(
    window: NDArray[np.int64], part: NDArray[np.int64], ratio: NDArray[np.float64], flips: NDArray[np.bool_]
) -> Matrices:
    """From windows of grids, (n, 4), to parts of grids that are ``ratio`` as large, both seen through the flips."""
    old, new = window.astype(np.float64), part.astype(np.float64)
    matrix = np.tile(np.eye(3), (len(window), 1, 1))
    for axis in (0, 1):
        place = 1 - axis
        # Unflipped it is (corner + x) * ratio - new corner.
        slope, shift = ratio[:, axis], old[:, axis] * ratio[:, axis] - new[:, axis]
        turned = new[:, axis + 2] - (slope * old[:, axis + 2] + shift)
        matrix[:, place, place] = slope
        matrix[:, place, 2] = np.where(flips[axis], turned, shift)
    return matrix


class Maps:
    """The maps of n samples so far.

    Attributes:
        active: bool (n,), samples that have any.
        matrix: float64 (n, k, 3, 3), from the image as it stands to image j.
        size, fill: int64 (n, k, 2) and float64 (n, k, 3), as of :class:`Warp`.
        count: int64 (n,), images of each sample; what stands in further places says nothing.
        bilinear, nearest: bool (n,), whether a map mixes pixels, whether one takes the nearest.
        shrink: float64 (n, 2), how many rows and columns of image 0 antialiased resizes since have made one.
    """

    def __init__(self, count: int) -> None:
        self.active = np.zeros(count, np.bool_)
        self.matrix = np.tile(np.eye(3), (count, 1, 1, 1))
        self.size = np.ones((count, 1, 2), np.int64)
        self.fill = np.zeros((count, 1, 3))
        self.count = np.zeros(count, np.int64)
        self.bilinear, self.nearest = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self.shrink = np.ones((count, 2))

    def begin(self, where: NDArray[np.bool_], sizes: NDArray[np.int64]) -> None:
        """The images of samples without any map, which are their windows, become image 0."""
        self.active |= where
        self.size[where, 0] = sizes[where]
        self.fill[where, 0] = REPEATS
        self.count[where] = 1

    def cut(
        self, where: NDArray[np.bool_], begun: NDArray[np.bool_], sizes: NDArray[np.int64], fill: NDArray[np.float64]
    ) -> None:
        """All outside of the images as they stand is ``fill`` from now on; of those just ``begun`` this is image 0."""
        self.fill[where & begun, 0] = fill
        rows = np.flatnonzero(where & ~begun)
        if not rows.size:
            return
        places = self.count[rows]
        if places.max() >= self.matrix.shape[1]:
            self._widen()
        self.matrix[rows, places] = np.eye(3)
        self.size[rows, places], self.fill[rows, places] = sizes[rows], fill
        self.count[rows] += 1

    def _widen(self) -> None:
        count = len(self.active)
        self.matrix = np.concatenate((self.matrix, np.tile(np.eye(3), (count, 1, 1, 1))), axis=1)
        self.size = np.concatenate((self.size, np.ones((count, 1, 2), np.int64)), axis=1)
        self.fill = np.concatenate((self.fill, np.zeros((count, 1, 3))), axis=1)

    def move(self, where: NDArray[np.bool_], matrix: Matrices) -> None:
        """The images become others; ``matrix`` leads from the new ones to those as they stand, (n, 3, 3)."""
        if where.all():
            self.matrix = product(self.matrix, matrix[:, None])
        elif where.any():
            self.matrix[where] = product(self.matrix[where], matrix[where, None])

    def resize(
        self, where: NDArray[np.bool_], before: NDArray[np.int64], after: NDArray[np.int64], widens: bool
    ) -> None:
        """The images are resized from one height and width, (n, 2), to another; ``widens``: with antialiasing."""
        factor = before / after
        if widens:
            rows = self._slopes(before)
            # Rows of the Jacobian, before and after: how far a step of a pixel leads along each axis of image 0.
            grown = rows * factor[:, None, ::-1]
            ratio = np.sqrt((grown * grown).sum(-1)) / np.maximum(np.sqrt((rows * rows).sum(-1)), 1e-12)
            self.shrink = np.where(where[:, None], self.shrink * ratio[:, ::-1], self.shrink)
        self.move(where, scaled(factor[:, 1], factor[:, 0], len(factor)))

    def _slopes(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """The Jacobian of the map to image 0 at the middle of the images as they stand, (n, x and y, x and y)."""
        matrix = self.matrix[:, 0]
        place = np.concatenate(applied(matrix, sizes[:, 1:] / 2.0, sizes[:, :1] / 2.0), axis=1)
        depth = np.where(np.abs(place[:, 2]) > 1e-6, place[:, 2], 1.0)[:, None, None]
        return np.asarray((matrix[:, :2, :2] - place[:, :2, None] / depth * matrix[:, 2:, :2]) / depth)

    def places(self, rows: NDArray[np.int64], points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points of the windows, x and y (m, 2), lie in the images as they stand; ``rows``: whose they are."""
        matrix = self.matrix[rows, 0]
        # The inverse but for its determinant, which cancels.
        first, second = matrix[:, [1, 2, 0]], matrix[:, [2, 0, 1]]
        inverse = (
            first[..., [1, 2, 0]] * second[..., [2, 0, 1]] - first[..., [2, 0, 1]] * second[..., [1, 2, 0]]
        ).transpose(0, 2, 1)
        x, y, depth = applied(inverse, points[:, :1], points[:, 1:])
        mapped = np.concatenate((x, y), axis=1) / np.where(depth != 0.0, depth, 1.0)
        return np.where(self.active[rows, None], mapped, points)

    def finish(
        self,
        grid: NDArray[np.int64],
        window: NDArray[np.int64],
        flips: NDArray[np.bool_],
        sizes: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Warp]:
        """Grids and windows as small as the maps need, and the maps to them.

        Where resizes since have made the image smaller the whole grid is made so much smaller: the separable pass then
        does the antialiasing. Its edges are no whole pixels any more: they repeat, and an image between cuts where they
        are. Of the window only that part is kept which is seen, if that is much less.

        Args:
            grid: int64 (n, 2).
            window: int64 (n, 4).
            flips: bool (2, n), whether it is seen upside down, and mirrored.
            sizes: int64 (n, 2), height and width of the output.
        """
        shrink = np.where(self.shrink > 1.0 + 1e-6, self.shrink, 1.0)
        smaller = np.maximum(np.rint(grid / shrink), 1.0).astype(np.int64)
        ratio = smaller / grid
        low, high, hidden = self._seen(window, sizes)
        extent = window[:, 2:]
        low, high = np.where(flips.T, extent - high, low), np.where(flips.T, extent - low, high)
        # From the window to the smaller grid.
        edges = np.stack((window[:, :2], window[:, :2] + extent), axis=-1) * ratio[..., None]
        begin = np.floor(np.maximum(edges[..., 0], edges[..., 0] + low * ratio - _MARGIN)).astype(np.int64)
        end = np.ceil(np.minimum(edges[..., 1], edges[..., 0] + high * ratio + _MARGIN)).astype(np.int64)
        end = np.maximum(end, begin + 1)
        whole = (np.ceil(edges[..., 1]) - np.floor(edges[..., 0])).prod(axis=1)
        shrunk = self.active & (smaller != grid).any(axis=1)
        changed = shrunk | (self.active & ((end - begin).prod(axis=1) < _WORTH_IT * whole))
        cut = shrunk & hidden & (self.fill[:, 0, 0] >= 0.0)
        if cut.any():
            self._insert(cut)
        parts = np.concatenate((begin, end - begin), axis=1)
        rows = np.flatnonzero(changed)
        if rows.size:
            moved = _to_part(window[rows], parts[rows], ratio[rows], flips[:, rows])
            self.matrix[rows, 0] = product(moved, self.matrix[rows, 0])
            self.fill[shrunk, 0] = REPEATS
            window, grid = np.where(changed[:, None], parts, window), np.where(changed[:, None], smaller, grid)
        self.size[:, 0] = window[:, 2:]
        return grid, window, self._warp(sizes, changed if rows.size else None)

    def _warp(self, sizes: NDArray[np.int64], part: NDArray[np.bool_] | None) -> Warp:
        """All in the form that engines take; what says nothing becomes the identity."""
        unused = (np.arange(self.matrix.shape[1]) >= self.count[:, None]) | ~self.active[:, None]
        self.matrix[unused], self.fill[unused] = np.eye(3), 0.0
        return Warp(
            matrix=self.matrix,
            size=np.where(unused[..., None], sizes[:, None], self.size).astype(np.int32),
            fill=self.fill,
            active=self.active,
            # A border that is resized has none of its own.
            bilinear=self.bilinear | ~self.nearest,
            part=part,
        )

    def _seen(
        self, window: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Least and greatest row and column of the window that the output shows, and whether it shows more than it."""
        height, width = sizes.T[..., None].astype(np.float64)
        x, y, depth = applied(self.matrix[:, 0], width * [0.0, 1.0, 1.0, 0.0], height * [0.0, 0.0, 1.0, 1.0])
        places = np.stack((y, x), axis=-1) / np.where(depth > 1e-6, depth, 1.0)[..., None]
        # A map that turns itself inside out may look anywhere.
        sound = np.asarray((depth > 1e-6).all(axis=1) & np.isfinite(places).all(axis=(1, 2)))
        extent = window[:, 2:].astype(np.float64)
        low = np.where(sound[:, None], places.min(axis=1), 0.0)
        high = np.where(sound[:, None], places.max(axis=1), extent)
        hidden = np.asarray(~sound | (low < 0.0).any(axis=1) | (high > extent).any(axis=1))
        return np.clip(low, 0.0, extent), np.clip(high, 0.0, extent), hidden

    def _insert(self, where: NDArray[np.bool_]) -> None:
        """Image 0 becomes image 1 as well, and all others the next."""
        if self.count[where].max() >= self.matrix.shape[1]:
            self._widen()
        for part in (self.matrix, self.size, self.fill):
            part[where, 1:] = part[where, :-1]
        self.count[where] += 1
