"""Arithmetic that torch does alike on every device: sums rounded once, levels, and numbers of each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def send(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on a device; the host does not wait for what the device has yet to do."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda" and tensor.numel():
        # From other memory CUDA may wait until what is queued is done. torch keeps pinned blocks for their next use.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def per_sample(values: torch.Tensor) -> torch.Tensor:
    """Numbers of k samples, float64 (k,), as float32 (k, 1, 1, 1)."""
    return values.float().view(-1, 1, 1, 1)


def rounded(values: torch.Tensor) -> torch.Tensor:
    """float64 values, each rounded to the nearest float32."""
    return values.float().double()


def fma(first: torch.Tensor, second: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
    """float32 ``first * second + third``, rounded once, of float32 tensors.

    By way of float64, where such a product is exact: whether a device fuses the two steps makes no difference, and the
    second rounding one in some 2**28 sums.
    """
    return torch.addcmul(third.double(), first.double(), second.double()).float()


def as_levels(values: torch.Tensor) -> torch.Tensor:
    """Floats as levels, cut off to whole numbers from 0 to 255."""
    return values.clamp(0.0, 255.0).to(torch.uint8)
