"""Masks follow the pixels: each pixel of the output takes the value of one pixel of the mask, whatever its type.

That is the one in which the middle of the output pixel lies ("nearest-exact", Pillow's NEAREST), first on the grid and
then, where there is a map, in the image that the map is of: as torchvision's transforms do it one after the other.
torchvision's plain "nearest", which its Resize and RandomResizedCrop use for masks unless told otherwise, takes the
pixel under the upper left corner of the output pixel: what it shows lies up to half a pixel beside the image.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastload.augment.elastic import displacements
from fastload.augment.parameters import Draws
from fastload.augment.program import Code, Program

MaskSampling = Literal["nearest-exact", "nearest"]


def sample_mask(
    values: NDArray[Any],
    row: int,
    draws: Draws,
    size: tuple[int, int],
    fill: int = 0,
    sampling: MaskSampling = "nearest-exact",
) -> NDArray[Any]:
    """What a mask is in the output: its type, (height, width).

    Args:
        values: The mask of the source, of any type, (height, width).
        row: Which sample of ``draws`` it belongs to.
        draws: What was drawn.
        size: Height and width of the output.
        fill: Value of what lies outside of the image.
        sampling: Which pixel is the nearest, where the image is resized.
    """
    if draws.before is not None:
        values = _worked_on(values, draws.before, row, fill)
    box, grid, window = draws.box[row], draws.grid[row], draws.window[row]
    middle = 0.5 if sampling == "nearest-exact" else 0.0
    ys, in_rows = _nearest(box[0], box[2], int(grid[0]), int(window[0]), int(window[2]), values.shape[0], middle)
    xs, in_columns = _nearest(box[1], box[3], int(grid[1]), int(window[1]), int(window[3]), values.shape[1], middle)
    if draws.flip[row]:
        xs, in_columns = xs[::-1], in_columns[::-1]
    if draws.flip_vertical is not None and draws.flip_vertical[row]:
        ys, in_rows = ys[::-1], in_rows[::-1]
    image = values[ys[:, None], xs]
    if not in_rows.all():
        image[~in_rows] = fill
    if not in_columns.all():
        image[:, ~in_columns] = fill
    warp = draws.warp
    if warp is not None and warp.active[row]:
        repeats = bool(warp.fill[row, 0, 0] < 0.0)
        image = _warped(image, warp.matrix[row], warp.size[row], size, fill, repeats)
    return image if draws.after is None else _worked_on(image, draws.after, row, fill)


def _worked_on(image: NDArray[Any], program: Program, row: int, fill: int) -> NDArray[Any]:
    """A mask after those operations on its image that move pixels."""
    size = image.shape[0], image.shape[1]
    for place in range(int(program.start[row]), int(program.start[row + 1])):
        numbers = program.values[place]
        if program.code[place] == Code.WARP:
            image = _warped(image, numbers[4:13].reshape(1, 3, 3), np.array([size]), size, fill)
        elif program.code[place] == Code.ELASTIC:
            image = _bent(image, numbers, fill)
        elif program.code[place] == Code.FRAME:
            image = _framed(image, *numbers[:5].astype(np.int64).tolist())
    return image


def _nearest(
    start: float, length: float, grid: int, first: int, count: int, limit: int, middle: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Source pixel of each pixel of one side of the window, and whether there is one."""
    places = np.arange(first, first + count)
    # In float32 as torch: where a pixel's edge is met exactly, one more bit would choose another neighbour.
    offsets = (places + middle).astype(np.float32) * (np.float32(length) / np.float32(grid))
    sources = np.floor(start + offsets.astype(np.float64)).astype(np.int64)
    # The box may end within a pixel, of which rounding may find the neighbour.
    low, high = int(np.floor(start)), int(np.ceil(start + length)) - 1
    return sources.clip(max(low, 0), max(min(high, limit - 1), 0)), (places >= 0) & (places < grid)


def _warped(
    image: NDArray[Any],
    matrices: NDArray[np.float64],
    sizes: NDArray[Any],
    size: tuple[int, int],
    fill: int,
    repeats: bool = False,
) -> NDArray[Any]:
    """The output of a map whose image 0 is ``image``; what is outside of any of its images is ``fill``.

    Where the outermost pixels of image 0 repeat there is nothing outside of it.
    """
    y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1]) + 0.5
    inside = np.ones(size, np.bool_)
    for j in range(len(matrices) - 1, -1, -1):
        matrix = matrices[j]
        below = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = np.floor((matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / below)
            rows = np.floor((matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / below)
        if j == 0 and repeats:
            columns, rows = (np.nan_to_num(a).clip(0, b - 1) for a, b in ((columns, sizes[0][1]), (rows, sizes[0][0])))
        inside &= (columns >= 0) & (columns < sizes[j][1]) & (rows >= 0) & (rows < sizes[j][0])
    columns[~inside] = rows[~inside] = 0
    return np.where(inside, image[rows.astype(np.int64), columns.astype(np.int64)], np.asarray(fill, image.dtype))


def _bent(image: NDArray[Any], numbers: NDArray[np.float64], fill: int) -> NDArray[Any]:
    """Each pixel from a little beside its place."""
    height, width = image.shape
    moved = displacements(numbers, height, width)
    columns = np.rint(np.arange(width, dtype=np.float32) + moved[..., 0])
    rows = np.rint(np.arange(height, dtype=np.float32)[:, None] + moved[..., 1])
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns[~inside] = rows[~inside] = 0
    return np.where(inside, image[rows.astype(np.int64), columns.astype(np.int64)], np.asarray(fill, image.dtype))


def _framed(image: NDArray[Any], top: int, left: int, height: int, width: int, mode: int) -> NDArray[Any]:
    """All outside of a part mirrors it: mode 1 repeats its edge, 2 reflects about the edge pixels, 3 about the edge."""
    rows, columns = (
        _mirrored(np.arange(side) - first, length, mode)
        for side, first, length in zip(image.shape, (top, left), (height, width), strict=True)
    )
    return image[(rows + top)[:, None], columns + left]


def _mirrored(places: NDArray[np.int64], length: int, mode: int) -> NDArray[np.int64]:
    if mode == 1 or length == 1:
        return places.clip(0, length - 1)
    period = 2 * length - 2 if mode == 2 else 2 * length
    folded = places % period
    return np.where(folded < length, folded, period - folded - (mode == 3))
