"""The displacements of an ElasticTransform, for targets: what the engine draws for each pixel, drawn once more."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.portable import exp

_MAX_RADIUS: Final = 512  # as the engine's


def displacements(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """How far each pixel looks beside its place, x and y in pixels, float32 (height, width, 2).

    Args:
        values: Numbers of a Code.ELASTIC.
        height, width: Size of the image.
    """
    pixels, keys = height * width, (int(values[8]), int(values[9]))
    moved = np.empty((height, width, 2), np.float32)
    for axis, side in enumerate((width, height)):
        noise = _shares(np.arange(pixels) + axis * pixels, keys).reshape(height, width) * np.float32(2) - np.float32(1)
        sigma = float(values[6 + axis])
        if sigma > 0.0:
            radius = min((int(8.0 * sigma + 1.0) | 1) // 2, _MAX_RADIUS)
            for direction, width_of in ((0, values[7]), (1, values[6])):
                noise = _blurred(noise, _weights(radius, max(float(width_of), 1e-3)), direction)
        # Of torchvision's units, in which an image is 2 wide.
        moved[..., axis] = noise * np.float32(values[4 + axis]) / np.float32(side) * np.float32(0.5 * side)
    return moved


def _shares(counters: NDArray[np.int64], keys: tuple[int, int]) -> NDArray[np.float32]:
    """The engine's numbers for each pixel, above 0 and up to 1."""
    number = counters.astype(np.uint32)
    for key in keys:
        number = number + np.uint32(key)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            number = (number ^ (number >> np.uint32(shift))) * np.uint32(factor)
        number ^= number >> np.uint32(16)
    shares: NDArray[np.float32] = ((number >> np.uint32(8)) + np.uint32(1)).astype(np.float32) * np.float32(2.0**-24)
    return shares


def _weights(radius: int, sigma: float) -> NDArray[np.float32]:
    """A gaussian, the middle first."""
    weights = exp(np.maximum(-0.5 * (np.arange(radius + 1) / sigma) ** 2, -700.0))
    return np.asarray(weights / (weights[0] + 2.0 * weights[1:].sum()), np.float32)


def _blurred(plane: NDArray[np.float32], weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """A symmetrical filter along one axis, mirrored at the edges."""
    radius, length = len(weights) - 1, plane.shape[axis]
    padded = np.pad(plane, [(radius, radius) if side == axis else (0, 0) for side in (0, 1)], mode="reflect")
    padded = np.moveaxis(padded, axis, 0)
    total = padded[radius : radius + length] * weights[0]
    for j in range(1, radius + 1):
        total += (padded[radius - j : radius - j + length] + padded[radius + j : radius + j + length]) * weights[j]
    return np.moveaxis(total, 0, axis)
