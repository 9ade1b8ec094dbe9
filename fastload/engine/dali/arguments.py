"""Drawn parameters as the per-sample arguments of DALI's operators; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws, Output

# A box that was drawn in float64 may end an ulp or so behind a pixel's border.
_ULPS = 1e-9


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What DALI does with n decoded images. Row i belongs to sample ``draws.ids[i]``.

    Attributes:
        cut: int32 (n, 4), top, left, height and width of the pixels that the box touches: cut out first, so that the
            filter does not reach beyond them.
        roi: float32 (n, 4), top, left, bottom and right, within the cut, of the part that is resampled.
        size: float32 (n, 2), height and width that it is resampled to: the part of the window that lies on the grid.
        place: float32 (n, 2), where that part lies in the output, top and left: 0 flush with its beginning, 1 with its
            end. What of the output it does not cover is black.
        mirror: int32 (n,), 1 where the output is mirrored.
        empty: bool (n,), whether nothing of the window lies on the grid: the whole output is black.
    """

    cut: NDArray[np.int32]
    roi: NDArray[np.float32]
    size: NDArray[np.float32]
    place: NDArray[np.float32]
    mirror: NDArray[np.int32]
    empty: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int64]) -> Arguments:
        """The arguments of some of the samples."""
        return Arguments(
            cut=self.cut[rows],
            roi=self.roi[rows],
            size=self.size[rows],
            place=self.place[rows],
            mirror=self.mirror[rows],
            empty=self.empty[rows],
        )

    def moved(self, places: Sequence[tuple[int, int]]) -> Arguments:
        """The same for files that hold a part of each image, which begins at (top, left) = ``places[i]``."""
        shift = np.zeros_like(self.cut)
        shift[:, :2] = np.array(places, np.int32).reshape(-1, 2)
        return replace(self, cut=self.cut - shift)


def make_arguments(draws: Draws, output: Output) -> Arguments:
    """The arguments for ``draws``; boxes that lie outside their image give some that must not be used."""
    axes = [_axis(draws, axis, size) for axis, size in enumerate((output.height, output.width))]
    (top, height, *vertical), (left, width, *horizontal) = axes
    roi = np.stack([vertical[0], horizontal[0], vertical[1], horizontal[1]], 1)
    return Arguments(
        cut=np.stack([top, left, height, width], 1).astype(np.int32),
        roi=roi.astype(np.float32),
        size=np.stack([vertical[2], horizontal[2]], 1).astype(np.float32),
        place=np.stack([vertical[3], horizontal[3]], 1).astype(np.float32),
        mirror=draws.flip.astype(np.int32),
        empty=(vertical[4] + horizontal[4]) > 0,
    )


def _axis(draws: Draws, axis: int, size: int) -> tuple[NDArray[np.float64], ...]:
    """Start and length of the cut, start and end of the part of it, its size, its place, whether there is none."""
    box = np.nan_to_num(draws.box[:, [axis, axis + 2]], nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1e6)
    start, length = box[:, 0], box[:, 1]
    grid = draws.grid[:, axis].astype(np.float64)
    window = draws.window[:, axis].astype(np.float64)
    first_pixel = np.floor(start)
    pixels = np.maximum(np.ceil(start + length - _ULPS) - first_pixel, 1.0)
    first = np.clip(window, 0.0, grid)
    last = np.clip(window + size, 0.0, grid)
    empty = last <= first
    first, last = np.where(empty, 0.0, first), np.where(empty, 1.0, last)
    scale = length / grid
    begin = start - first_pixel + first * scale
    end = start - first_pixel + last * scale
    missing = size - (last - first)
    place = np.clip(np.where(missing > 0, (first - window) / np.maximum(missing, 1.0), 0.0), 0.0, 1.0)
    return first_pixel, pixels, begin, np.maximum(end, begin + 1e-3), last - first, place, empty.astype(np.float64)
