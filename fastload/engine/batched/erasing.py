"""Rectangles that are written over: those of all samples in one step, whatever their sizes."""

from __future__ import annotations

import numpy as np
import torch

from fastload.augment.program import Code
from fastload.engine.batched.arithmetic import send
from fastload.engine.batched.noise import keys_of, normal_pairs
from fastload.engine.batched.schedule import Group


def erase(planes: torch.Tensor, group: Group) -> None:
    """Rectangles of levels, uint8 (n, 3, h, w), in one colour each, in place."""
    places = _find_places(planes, group)
    if places is not None:
        colour = group.numbers[:, 4:7].clamp(0.0, 255.0).to(torch.uint8)
        planes.index_put_(places[:4], colour[places[4]].view(-1, 3, 1, 1))


Places = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _find_places(planes: torch.Tensor, group: Group) -> Places | None:
    """Indices of all values in the rectangles (sample, channel, row, column), and whose operation each is.

    Rectangles smaller than the largest of them name their last row and column more than once.
    """
    size, device = np.array(planes.shape[2:]), planes.device
    corner, extent = group.values[:, :2], group.values[:, 2:4]
    first = np.clip(np.trunc(corner), 0, size).astype(np.int64)
    end = np.minimum(np.trunc(corner + extent), size).astype(np.int64)
    chosen = np.flatnonzero((end > first).all(axis=1))
    if not chosen.size:
        return None
    first, end = first[chosen], end[chosen]
    most = (end - first).max(axis=0)
    rows, columns = (
        np.minimum(first[:, axis, None] + np.arange(most[axis]), end[:, axis, None] - 1) for axis in (0, 1)
    )
    return (
        send(group.rows[chosen], device).view(-1, 1, 1, 1),
        torch.arange(3, device=device).view(1, 3, 1, 1),
        send(rows, device)[:, None, :, None],
        send(columns, device)[:, None, None, :],
        send(chosen, device),
    )


def erase_stored(images: torch.Tensor, group: Group) -> None:
    """Rectangles of stored values, (n, 3, h, w) in any order in memory, in one colour each or in normal noise."""
    places = _find_places(images, group)
    if places is None:
        return
    samples, channels, rows, columns, chosen = places
    numbers = group.numbers[chosen]
    if group.code == Code.ERASE_NOISE:
        counters = (3 * (rows * images.shape[3] + columns) + channels).to(torch.int32)
        key, key_2 = (key.view(-1, 1, 1, 1) for key in keys_of(numbers[:, 4:6]))
        values, _ = normal_pairs(counters, (key, key_2))
    else:
        values = numbers[:, 4:7].float().view(-1, 3, 1, 1)
    if images.dtype == torch.uint8:
        values = values.clamp(0.0, 255.0)
    images.index_put_((samples, channels, rows, columns), values.to(images.dtype))
