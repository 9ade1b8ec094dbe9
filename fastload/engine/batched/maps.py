"""Rotations, affine and perspective maps of many images, each composed to one sampling (see augment.parameters.Warp).

Positions are float64 and counted from an image's upper left corner, as in the CPU engine; bilinear is float32, as
torchvision's, where the CPU engine has 16 bits: the two are within one level of each other, and equal in 99.7 % of the
values of photographs. Nearest is equal but where a position lies within 1/16,000 of a pixel of the border between two;
the edges of images between are, but where the middle of a pixel lies on one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment.parameters import Warp
from fastload.engine.batched.arithmetic import send
from fastload.engine.batched.schedule import in_parts


def warp_levels(levels: torch.Tensor, warp: Warp, sizes: NDArray[np.integer], height: int, width: int) -> torch.Tensor:
    """Images of one size from windows of several, each through its maps.

    Args:
        levels: uint8 (n, H, W, 3): window i is ``levels[i, :h, :w]``.
        warp: The maps; a sample without any keeps the upper left height x width pixels.
        sizes: Whole numbers (n, 2), h and w of each window.
        height, width: Size of the result.

    Returns:
        uint8 (n, height, width, 3), on the device of ``levels``.
    """
    result = levels.new_empty((len(levels), height, width, 3))
    resting = np.flatnonzero(~warp.active)
    if resting.size:
        still = send(resting, levels.device)
        result.index_copy_(0, still, levels[:, :height, :width].index_select(0, still))
    for bilinear in (False, True):
        chosen = np.flatnonzero(warp.active & (warp.bilinear == bilinear))
        for part in in_parts(len(chosen), 3 * height * width):
            rows = chosen[part]
            made = _sample(levels, rows, warp, sizes[rows], (height, width), bilinear)
            result.index_copy_(0, send(rows, levels.device), made)
    return result


class _Window(NamedTuple):
    """Where pixels of k windows lie in a batch.

    Attributes:
        pixels: uint8 (p, 3), those of the whole batch.
        first: int32 (int64 where they are many) (k, 1, 1), where each window begins among them.
        stride: Pixels from row to row.
        height, width: float64 (k, 1, 1), sizes.
    """

    pixels: torch.Tensor
    first: torch.Tensor
    stride: int
    height: torch.Tensor
    width: torch.Tensor

    def find(self, row: torch.Tensor, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels at whole float64 places, uint8 (k, h, w, 3), any where there is none; and where there are, bool."""
        inside = (row >= 0.0) & (column >= 0.0) & (row < self.height) & (column < self.width)
        places = (row * self.stride + column).masked_fill(~inside, 0.0).to(self.first.dtype) + self.first
        return self.pixels.index_select(0, places.view(-1)).view(*row.shape, 3), inside


def _find_windows(levels: torch.Tensor, rows: NDArray[np.int64], sizes: NDArray[np.integer]) -> _Window:
    """Those of the samples ``rows`` of a batch, with their sizes, (k, 2)."""
    stack, stride = levels.shape[1:3]
    heights, widths = send(sizes.T.astype(np.float64), levels.device).view(2, -1, 1, 1)
    pixels = levels.reshape(-1, 3)
    kind = np.int32 if len(pixels) < 2**31 else np.int64
    first = send((rows * (stack * stride)).astype(kind), levels.device).view(-1, 1, 1)
    return _Window(pixels, first, stride, heights, widths)


def take_at(
    levels: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    fill: NDArray[np.float64],
    bilinear: NDArray[np.bool_],
) -> torch.Tensor:
    """Each pixel of k images from a place of its own, as grid_sample finds it and torchvision fills what is outside.

    Args:
        levels: uint8 (k, h, w, 3), C-contiguous.
        x, y: float32 (k, h, w), counted from the middle of the first pixel.
        fill: float64 (k, 3), levels.
        bilinear: bool (k,).
    """
    result = torch.empty_like(levels)
    sizes = np.tile(np.array(levels.shape[1:3]), (len(levels), 1))
    for smooth in (False, True):
        rows = np.flatnonzero(bilinear == smooth)
        if rows.size:
            chosen, window = send(rows, levels.device), _find_windows(levels, rows, sizes[rows])
            places = [place.index_select(0, chosen) for place in (x, y)]
            # Nearest is the even one of two, as in torch.
            across, down = (place.double() + 0.5 if smooth else place.round().double() + 0.5 for place in places)
            if smooth:
                made = _mix(window, across, down, fill[rows], np.zeros(len(rows), np.bool_))
            else:
                made = _take_nearest(window, across, down, fill[rows])
            result.index_copy_(0, chosen, made)
    return result


def _sample(
    levels: torch.Tensor,
    rows: NDArray[np.int64],
    warp: Warp,
    sizes: NDArray[np.integer],
    size: tuple[int, int],
    bilinear: bool,
) -> torch.Tensor:
    """The samples ``rows`` of a warp, all with the same interpolation."""
    matrix, fill = warp.matrix[rows], warp.fill[rows]
    window = _find_windows(levels, rows, sizes)
    x, y = _positions(matrix[:, 0], size, levels.device)
    # Beyond these all is fill; where edges repeat the middles of the outermost pixels are the limits.
    repeats = fill[:, 0, 0] < 0.0
    margin = send(np.where(repeats, -0.5, 1.0), levels.device).view(-1, 1, 1)
    x, y = _limited(x, -margin, window.width + margin), _limited(y, -margin, window.height + margin)
    made = _mix(window, x, y, fill[:, 0], repeats) if bilinear else _take_nearest(window, x, y, fill[:, 0])
    for image in range(1, matrix.shape[1]):
        made = _paint_outside(made, matrix[:, image], warp.size[rows, image], fill[:, image])
    return made


def _positions(matrix: NDArray[np.float64], size: tuple[int, int], device: torch.device) -> list[torch.Tensor]:
    """x and y of the middle of each pixel in images, float64 (k, height, width); matrix: (k, 3, 3)."""
    numbers = send(matrix.reshape(-1, 9), device).unsqueeze(2).unsqueeze(3)
    middles = torch.arange(size[0], dtype=torch.float64, device=device).view(-1, 1) + 0.5
    columns = torch.arange(size[1], dtype=torch.float64, device=device)
    flat = bool((matrix[:, 2] == (0.0, 0.0, 1.0)).all())
    made = []
    for row in range(2 if flat else 3):
        along, down, shift = numbers[:, 3 * row], numbers[:, 3 * row + 1], numbers[:, 3 * row + 2]
        made.append((0.5 * along + (down * middles + shift)) + columns * along)
    return made if flat else [made[0] / made[2], made[1] / made[2]]


def _limited(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Values from low to high; what is no number becomes low."""
    return torch.minimum(torch.where(values > low, values, low), high)


def _take_nearest(window: _Window, x: torch.Tensor, y: torch.Tensor, fill: NDArray[np.float64]) -> torch.Tensor:
    pixels, inside = window.find(y.floor(), x.floor())
    return torch.where(inside.unsqueeze(3), pixels, _colour(fill, x.device))


def _mix(
    window: _Window, x: torch.Tensor, y: torch.Tensor, fill: NDArray[np.float64], repeats: NDArray[np.bool_]
) -> torch.Tensor:
    """Bilinear; at the edges ``mask * (mixed - fill) + fill``, or what is mixed by itself."""
    x, y = x - 0.5, y - 0.5
    left, top = x.floor(), y.floor()
    right, below = (x - left).float(), (y - top).float()
    total = mask = torch.zeros((), dtype=torch.float32, device=x.device)
    for down in (0, 1):
        for across in (0, 1):
            pixels, inside = window.find(top + down, left + across)
            weight = (right if across else 1.0 - right) * (below if down else 1.0 - below) * inside
            total = total + pixels * weight.unsqueeze(3)
            mask = mask + weight
    # (0, -1, -1) is black that is mixed once.
    alone = repeats | (fill[:, 1] < 0.0)
    if not alone.all():
        once = send(alone, x.device).view(-1, 1, 1)
        beside = send(np.where(alone[:, None], 0.0, fill).astype(np.float32), x.device).view(-1, 1, 1, 3)
        total = (total - beside) * mask.masked_fill(once, 1.0).unsqueeze(3) + beside
    return total.round_().clamp_(0.0, 255.0).to(torch.uint8)


def _paint_outside(
    made: torch.Tensor, matrix: NDArray[np.float64], sizes: NDArray[np.integer], fill: NDArray[np.float64]
) -> torch.Tensor:
    """Where the middle of a pixel lies outside of a further image it becomes that one's fill."""
    size = (made.shape[1], made.shape[2])
    if (matrix == np.eye(3)).all() and (sizes == size).all():
        return made
    x, y = _positions(matrix, size, made.device)
    heights, widths = send(sizes.T.astype(np.float64), made.device).view(2, -1, 1, 1)
    inside = (x >= 0.0) & (y >= 0.0) & (x <= widths) & (y <= heights)
    return torch.where(inside.unsqueeze(3), made, _colour(fill, made.device))


def _colour(fill: NDArray[np.float64], device: torch.device) -> torch.Tensor:
    return send(np.clip(np.rint(fill), 0.0, 255.0).astype(np.uint8), device).view(-1, 1, 1, 3)
