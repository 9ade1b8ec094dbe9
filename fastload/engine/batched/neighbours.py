"""Operations that mix a pixel with those around it, or take it from elsewhere in its image, on many images at once.

Sharpness and frames equal the CPU engine's to the level. Blurs are float32 sums as torchvision's, within one level of
the CPU engine's 16 bits (and equal in 99 % of the values, in 96 % where most of many taps weigh nothing).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastload.augment.portable import exp
from fastload.engine.batched.arithmetic import as_levels, fma, per_sample, send
from fastload.engine.batched.maps import take_at
from fastload.engine.batched.noise import keys_of, shares
from fastload.engine.batched.schedule import Group

# Pixels that a blur reaches to either side, at most.
_MAX_RADIUS: Final = 512
_REFLECT, _SYMMETRIC = 2, 3
_THIRTEENTH: Final = float(np.float32(1.0 / 13.0))


def sharpen(planes: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Away from (or towards, below 1) their 3 x 3 blur; the outermost pixels stay. factor: float64 (k,)."""
    if min(planes.shape[2:]) <= 2:
        return planes
    wide = planes.short()
    down = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    total = down[..., :-2] + down[..., 1:-1] + down[..., 2:] + 4 * wide[:, :, 1:-1, 1:-1]
    level = planes[:, :, 1:-1, 1:-1].float()
    away = (total.float() * _THIRTEENTH).round_() - level
    result = planes.clone()
    result[:, :, 1:-1, 1:-1] = as_levels(fma(away, per_sample(1.0 - factor), level))
    return result


def blur(planes: torch.Tensor, group: Group) -> torch.Tensor:
    """Gaussian blurs."""
    radii = np.minimum(group.values[:, :2].astype(np.int64) // 2, _MAX_RADIUS)
    across, along = (_find_weights(radii[:, axis], group.values[:, 2 + axis]) for axis in (0, 1))
    return as_levels(_filtered(planes.float(), across, along).round_())


def elastic(planes: torch.Tensor, group: Group) -> torch.Tensor:
    """Every pixel from a little beside its place: uniform noise, blurred, times alpha, as torchvision displaces.

    Numbers 0 ... of the seed are for x, those behind for y.
    """
    height, width = planes.shape[2:]
    values, device = group.values, planes.device
    key, key_2 = (key.view(-1, 1, 1, 1) for key in keys_of(group.numbers[:, 8:10]))
    places: list[torch.Tensor] = []
    for axis, side in enumerate((width, height)):
        counters = torch.arange(height * width, dtype=torch.int32, device=device) + axis * height * width
        noise = shares(counters.view(1, 1, height, width), (key, key_2)) * 2.0 - 1.0
        sigma = values[:, 6 + axis]
        radii = np.where(sigma > 0.0, np.minimum(((8.0 * sigma + 1.0).astype(np.int64) | 1) // 2, _MAX_RADIUS), 0)
        kernels = (_find_weights(radii, np.maximum(values[:, 6 + other], 1e-3)) for other in (0, 1))
        # Divided by a tensor: by a number torch would multiply with its inverse on a GPU.
        size = torch.full((), side, dtype=torch.float32, device=device)
        moved = _filtered(noise, *kernels)[:, 0] * group.numbers[:, 4 + axis].float().view(-1, 1, 1) / size
        own = np.arange(1 - side, side, 2) / side
        base = send(own.astype(np.float32), device)
        base = base.view(1, 1, -1) if axis == 0 else base.view(1, -1, 1)
        place = (base + moved + 1.0) * (0.5 * side) - 0.5
        places.append(place.clamp_(-4.0, side + 4.0))
    levels, (x, y) = planes.permute(0, 2, 3, 1).contiguous(), places
    made = take_at(levels, x, y, values[:, 1:4], values[:, 0] != 0.0)
    return made.permute(0, 3, 1, 2)


def frame(planes: torch.Tensor, group: Group) -> torch.Tensor:
    """All outside of a part of each image becomes its image in a mirror (or its edge)."""
    size = np.array(planes.shape[2:])
    first = np.clip(np.trunc(group.values[:, :2]), 0, size).astype(np.int64)
    end = np.minimum(np.trunc(group.values[:, :2] + group.values[:, 2:4]), size).astype(np.int64)
    nothing = (end <= first).any(axis=1)
    first[nothing], end[nothing] = 0, size
    rows, columns = (
        send(_inside(np.arange(size[axis]), first[:, axis], end[:, axis], group.values[:, 4]), planes.device)
        for axis in (0, 1)
    )
    places = (rows.unsqueeze(2) * int(size[1]) + columns.unsqueeze(1)).view(len(planes), 1, -1)
    flat = planes.flatten(2)
    return flat.gather(2, places.expand(flat.shape)).view(planes.shape)


def _inside(
    places: NDArray[np.int64], first: NDArray[np.int64], end: NDArray[np.int64], mode: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Where what is at each place of k lines comes from, int64 (k, places), by the mode of FRAME."""
    first, count, mode = first[:, None], (end - first)[:, None], mode[:, None]
    i = places - first
    twice = i % (2 * count)
    symmetric = np.where(twice < count, twice, 2 * count - 1 - twice)
    edge = np.clip(i, 0, count - 1)
    made = np.where(mode == _REFLECT, _mirrored(i, count), np.where(mode == _SYMMETRIC, symmetric, edge))
    return np.asarray(first + made, np.int64)


def _mirrored(i: NDArray[np.int64], count: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Positions i of a line that goes back and forth between its ends, which it does not repeat."""
    period = np.maximum(2 * count - 2, 1)
    i = np.abs(i) % period
    return np.asarray(np.where(i < count, i, period - i), np.int64)


def _find_weights(radii: NDArray[np.int64], sigmas: NDArray[np.float64]) -> NDArray[np.float32]:
    """Gaussians as torchvision samples them, float32 (k, 2 * r + 1), 0 where one reaches less far than the widest."""
    away = np.abs(np.arange(-radii.max(), radii.max() + 1))
    ratio = away / sigmas[:, None]
    weights = np.where(away <= radii[:, None], exp(np.maximum(-0.5 * ratio * ratio, -699.0)), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _filtered(planes: torch.Tensor, across: NDArray[np.float32], along: NDArray[np.float32]) -> torch.Tensor:
    """float32 planes (k, c, h, w), each sample down its columns and then along its rows, mirrored at the edges."""
    count, channels = planes.shape[:2]
    for axis, weights in ((2, along), (3, across)):
        radius, side = weights.shape[1] // 2, planes.shape[axis]
        if radius:
            places = send(_mirrored(np.arange(-radius, side + radius), side), planes.device)
            padded = planes.index_select(axis, places)
            kernels = send(weights, planes.device).unsqueeze(1).expand(count, channels, 2 * radius + 1)
            shape = (-1, 1, 2 * radius + 1, 1) if axis == 2 else (-1, 1, 1, 2 * radius + 1)
            # Samples and channels are channels of one image, each with a kernel of its own.
            flat = functional.conv2d(padded.flatten(0, 1)[None], kernels.reshape(shape), groups=count * channels)
            planes = flat.view(count, channels, *flat.shape[2:])
    return planes
