"""Operations that end in a table of 256 levels for each channel, and the pass that looks them up.

What does not depend on the image is composed on the host, in float32 and in the order of torchvision v2's functions
for uint8 tensors; so its result is the same on every device.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment.program import Code
from fastload.engine.batched.arithmetic import as_levels, fma

# Operations that change each level by itself, whatever the image.
OF_LEVELS: Final = (Code.BRIGHTNESS, Code.INVERT, Code.POSTERIZE, Code.SOLARIZE, Code.GAMMA)

# From levels to shares of 1, and back as torchvision's to_dtype does it: cut off, after multiplying with 256 - 0.001.
TO_SHARE, FROM_SHARE = np.float32(1.0 / 255.0), np.float32(255.999)
_ALL: Final = np.arange(256, dtype=np.float32)


def compose(
    code: NDArray[np.int64], values: NDArray[np.float64], begin: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """One table for each of k runs of operations of OF_LEVELS, uint8 (k, 256); run i is begin[i] to end[i]."""
    tables = np.tile(np.arange(256, dtype=np.uint8), (len(begin), 1))
    for step in range(int((end - begin).max())):
        place = np.minimum(begin + step, end - 1)
        for one in OF_LEVELS:
            rows = np.flatnonzero((begin + step < end) & (code[place] == one))
            if rows.size:
                tables[rows] = np.take_along_axis(_tables(one, values[place[rows]]), tables[rows], axis=1)
    return tables


def _tables(code: Code, values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The tables of one operation with different numbers."""
    first = values[:, :1].astype(np.float32)
    if code == Code.BRIGHTNESS:
        return np.asarray(np.clip(_ALL * first, 0.0, 255.0), np.uint8)
    levels = np.broadcast_to(np.arange(256), (len(values), 256))
    if code == Code.POSTERIZE:
        bits = values[:, :1].astype(np.int64)
        return (levels & (((1 << bits) - 1) << (8 - bits))).astype(np.uint8)
    if code == Code.SOLARIZE:
        return np.where(first <= _ALL, 255 - levels, levels).astype(np.uint8)
    if code == Code.GAMMA:
        shares = ((_ALL * TO_SHARE).astype(np.float64) ** values[:, :1]).astype(np.float32)
        gain = values[:, 1:2].astype(np.float32)
        shares = np.where(values[:, 1:2] == 1.0, shares, np.clip(shares * gain, np.float32(0), np.float32(1)))
        return np.asarray(shares * FROM_SHARE).astype(np.uint8)
    return (255 - levels).astype(np.uint8)  # INVERT


def look_up(planes: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Every level as the table of its sample, uint8 (k, 256), or of its channel, (k, 3, 256), says."""
    count = len(planes)
    channels = tables.view(count, -1, 256).expand(count, 3, 256)
    return channels.gather(2, planes.flatten(2).long()).view(planes.shape)


def contrast(grey: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Tables of a blend with the mean grey of each image, uint8 (k, 256).

    Args:
        grey: uint8 (k, h, w). Its sum is exact (torch's own is below 2**24, 256 x 256 pixels).
        factor: float64 (k,).
    """
    pixels = torch.full((1,), grey[0].numel(), device=grey.device)
    mean = grey.flatten(1).sum(1, dtype=torch.int64).float() / pixels.float()
    ratio, rest = factor.float(), (1.0 - factor).float()
    levels = torch.arange(256, device=grey.device).float()
    return as_levels(fma(mean[:, None], rest[:, None], levels * ratio[:, None]))


def autocontrast(planes: torch.Tensor) -> torch.Tensor:
    """Tables that stretch the levels of each channel to 0 ... 255, uint8 (k, 3, 256); of one level nothing."""
    flat = planes.flatten(2)
    least, greatest = (side.float().unsqueeze(2) for side in (flat.amin(2), flat.amax(2)))
    scale = (greatest - least) * float(TO_SHARE)
    one = greatest <= least
    levels = torch.arange(256, device=planes.device).float()
    return as_levels((levels - least.masked_fill(one, 0.0)) / scale.masked_fill(one, 1.0))


def equalize(planes: torch.Tensor) -> torch.Tensor:
    """Tables that make the levels of each channel equally frequent, with Pillow's integers, uint8 (k, 3, 256)."""
    counts = _count_levels(planes)
    levels = torch.arange(256, device=planes.device)
    last = counts.gather(2, (levels * (counts > 0)).amax(2, keepdim=True))
    step = (planes[0, 0].numel() - last) // 255
    before = counts.cumsum(2) - counts + step // 2
    made = (before // step.clamp(min=1)).clamp(max=255)
    return torch.where(step == 0, levels, made).to(torch.uint8)


def _count_levels(planes: torch.Tensor) -> torch.Tensor:
    """How often each level occurs in each plane, int64 (k, 3, 256).

    Neighbours count in places of their own, 32 for each level: threads of a device do not wait for one another then.
    """
    flat = planes.flatten(2)
    places = flat.long() * 32 + torch.arange(flat.shape[2], device=planes.device) % 32
    counts = torch.zeros((*flat.shape[:2], 256 * 32), dtype=torch.int32, device=planes.device)
    ones = torch.ones((1, 1, 1), dtype=torch.int32, device=planes.device).expand(flat.shape)
    return counts.scatter_add_(2, places, ones).view(*flat.shape[:2], 256, 32).sum(3)
