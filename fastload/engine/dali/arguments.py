"""Drawn parameters as the per-sample arguments of DALI's operators; pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws

# A box that was drawn in float64 may end an ulp or so behind a pixel's border.
_ULPS = 1e-9


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What DALI does with n decoded images. Row i belongs to sample ``draws.ids[i]``.

    Attributes:
        cut: int32 (n, 4), top, left, height and width of the pixels that the box touches: cut out first, so that the
            filter does not reach beyond them.
        roi: float32 (n, 4), top, left, bottom and right, within the cut, of the part that is resampled; bottom before
            top where it is turned upside down.
        size: float32 (n, 2), height and width that it is resampled to: the part of the window that lies on the grid.
        canvas: float32 (n, 2), height and width of what is put out: the greatest window of all. Each window lies in its
            upper left corner; what of it lies beside the grid is black, and the rest of the canvas nobody's.
        place: float32 (n, 2), where the part lies in the canvas (before it is mirrored), top and left: 0 flush with its
            beginning, 1 with its end.
        mirror: int32 (n,), 1 where the canvas is mirrored.
        seen: int32 (n, 4), top, left, bottom and right of the part in the canvas as it is put out; all 0 where nothing
            of the window lies on the grid.
        pad: float64 (n, 3), levels of the window beside it.
        painted: bool (n,), whether that is to be painted, because it is not black or because there is nothing else.
    """

    cut: NDArray[np.int32]
    roi: NDArray[np.float32]
    size: NDArray[np.float32]
    canvas: NDArray[np.float32]
    place: NDArray[np.float32]
    mirror: NDArray[np.int32]
    seen: NDArray[np.int32]
    pad: NDArray[np.float64]
    painted: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int64]) -> Arguments:
        """The arguments of some of the samples."""
        return Arguments(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})


def make_arguments(draws: Draws) -> Arguments:
    """The arguments for ``draws``; boxes that lie outside their image give some that must not be used."""
    upside_down = np.zeros_like(draws.flip) if draws.flip_vertical is None else draws.flip_vertical
    down, across = _axis(draws, 0, upside_down), _axis(draws, 1, draws.flip)
    roi = np.stack([down.begin, across.begin, down.end, across.end], 1)
    # DALI resamples from the end to the beginning where they are the wrong way round, and mirrors only left to right.
    roi[upside_down] = roi[upside_down][:, [2, 1, 0, 3]]
    seen = np.stack([down.first, across.first, down.last, across.last], 1)
    size, wanted = seen[:, 2:] - seen[:, :2], draws.window[:, 2:]
    empty: NDArray[np.bool_] = np.any(size < 1, axis=1)
    canvas = np.broadcast_to(wanted.max(0, initial=1), wanted.shape)
    # What is mirrored with all of the canvas lies in its right corner before.
    offset = np.stack([down.first, np.where(draws.flip, canvas[:, 1] - across.last, across.first)], 1)
    missing = canvas - np.where(empty[:, None], 1, size)
    pad = np.zeros((len(size), 3)) if draws.pad is None else draws.pad
    return Arguments(
        cut=np.stack([down.cut, across.cut, down.pixels, across.pixels], 1).astype(np.int32),
        roi=roi.astype(np.float32),
        size=np.maximum(size, 1).astype(np.float32),
        canvas=canvas.astype(np.float32),
        place=np.clip(offset / np.maximum(missing, 1), 0.0, 1.0).astype(np.float32),
        mirror=draws.flip.astype(np.int32),
        seen=np.where(empty[:, None], 0, seen).astype(np.int32),
        pad=pad,
        painted=empty | (np.any(size < wanted, axis=1) & np.any(pad != 0.0, axis=1)),
    )


@dataclass(frozen=True)
class _Axis:
    """One axis of n images: begin and length of the cut in source pixels, begin and end in the cut of what is
    resampled, and where that comes to lie in the window, first pixel and end (of which there may be none)."""

    cut: NDArray[np.float64]
    pixels: NDArray[np.float64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


def _axis(draws: Draws, axis: int, turned: NDArray[np.bool_]) -> _Axis:
    box = np.nan_to_num(draws.box[:, [axis, axis + 2]], nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1e6)
    start, length = box[:, 0], box[:, 1]
    grid, window, size = (part.astype(np.int64) for part in (draws.grid, draws.window[:, :2], draws.window[:, 2:]))
    grid, window, size = grid[:, axis], window[:, axis], size[:, axis]
    cut = np.floor(start)
    first, last = np.clip(window, 0, grid), np.clip(window + size, 0, grid)
    scale = length / grid
    begin = start - cut + np.minimum(first, grid - 1) * scale
    end = start - cut + np.maximum(last, np.minimum(first, grid - 1) + 1) * scale
    return _Axis(
        cut=cut,
        pixels=np.maximum(np.ceil(start + length - _ULPS) - cut, 1.0),
        begin=begin,
        end=np.maximum(end, begin + 1e-3),
        first=np.where(turned, window + size - last, first - window),
        last=np.where(turned, window + size - first, last - window),
    )
