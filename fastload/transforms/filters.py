"""Declarations that look at a pixel's neighbours, add noise, or compress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastload.errors import ConfigError
from fastload.transforms.base import (
    Transform,
    check_flag,
    check_number,
    check_probability,
    check_range,
    is_integer,
    is_number,
)

_MAX_KERNEL: Final = 1025


@dataclass(frozen=True, init=False)
class RandomAdjustSharpness(Transform):
    """Blurs or sharpens with probability ``p``, as torchvision's ``v2.RandomAdjustSharpness``.

    Args:
        sharpness_factor: 0 blurs (3 x 3), 1 changes nothing, 2 sharpens as much as 0 blurs.
        p: Probability.

    Raises:
        ConfigError: An argument is not as above.
    """

    sharpness_factor: float
    p: float

    def __init__(self, sharpness_factor: float, p: float = 0.5) -> None:
        owner = self._name()
        factor = check_number(sharpness_factor, owner=owner, name="sharpness_factor")
        if not 0 <= factor <= 1e6:
            raise ConfigError(f"{owner}: sharpness_factor must be at least 0, but got {sharpness_factor!r}")
        self._assign(sharpness_factor=factor, p=check_probability(p, owner=owner))


@dataclass(frozen=True, init=False)
class GaussianBlur(Transform):
    """Blurs by a Gaussian whose width is drawn, as torchvision's ``v2.GaussianBlur``; edges are reflected.

    Args:
        kernel_size: Width and height of the kernel in pixels, odd, or one number for both.
        sigma: ``(low, high)`` of the standard deviation in pixels, above 0, or one number.

    Raises:
        ConfigError: An argument is not as above.
    """

    kernel_size: tuple[int, int]
    sigma: tuple[float, float]

    def __init__(self, kernel_size: int | Sequence[int], sigma: float | Sequence[float] = (0.1, 2.0)) -> None:
        owner = self._name()
        self._assign(kernel_size=_kernel(kernel_size, owner=owner), sigma=_sigmas(sigma, owner=owner))


@dataclass(frozen=True, init=False)
class GaussianNoise(Transform):
    """Adds normal noise to each value by itself, as torchvision's ``v2.GaussianNoise`` does to uint8.

    Args:
        mean: In units of 255 levels.
        sigma: Standard deviation, at least 0, in units of 255 levels.
        clip: Keep the results between 0 and 255; without it they wrap around, as whole numbers of 8 bits do.

    Raises:
        ConfigError: An argument is not as above.
    """

    mean: float
    sigma: float
    clip: bool

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> None:
        owner = self._name()
        checked_mean = check_number(mean, owner=owner, name="mean")
        checked = check_number(sigma, owner=owner, name="sigma")
        # Noise is added in 16 bits, in which this many levels have room.
        if abs(checked_mean) > 100:
            raise ConfigError(f"{owner}: mean must lie between -100 and 100, but got {mean!r}")
        if not 0 <= checked <= 10:
            raise ConfigError(f"{owner}: sigma must lie between 0 and 10, but got {sigma!r}")
        self._assign(mean=checked_mean, sigma=checked, clip=check_flag(clip, owner=owner, name="clip"))


@dataclass(frozen=True, init=False)
class JPEG(Transform):
    """Compresses the image as a JPEG and decompresses it, as torchvision's ``v2.JPEG``.

    Args:
        quality: 1 to 100, or ``(low, high)``, both of which may be drawn.

    Raises:
        ConfigError: quality is not as above.
    """

    quality: tuple[int, int]

    def __init__(self, quality: int | Sequence[int]) -> None:
        bounds: Any = (quality, quality) if is_integer(quality) else quality
        good = isinstance(bounds, Sequence) and len(bounds) == 2 and all(is_integer(bound) for bound in bounds)
        if not good or not 1 <= bounds[0] <= bounds[1] <= 100:
            raise ConfigError(
                f"{self._name()}: quality must be a whole number from 1 to 100, or two (low, high), but got {quality!r}"
            )
        self._assign(quality=(int(bounds[0]), int(bounds[1])))


def _kernel(value: Any, *, owner: str) -> tuple[int, int]:
    sides = [value] if is_integer(value) else value
    if not isinstance(sides, Sequence) or isinstance(sides, str) or len(sides) not in (1, 2):
        raise ConfigError(f"{owner}: kernel_size must be an int or (width, height), but got {value!r}")
    for side in sides:
        if not is_integer(side) or not 1 <= side <= _MAX_KERNEL or side % 2 == 0:
            raise ConfigError(f"{owner}: kernel_size must be odd, from 1 to {_MAX_KERNEL}, but got {value!r}")
    return int(sides[0]), int(sides[-1])


def _sigmas(value: Any, *, owner: str) -> tuple[float, float]:
    if is_number(value):
        value = (value, value)
    elif isinstance(value, Sequence) and len(value) == 1:
        value = (value[0], value[0])
    low, high = check_range(value, owner=owner, name="sigma")
    if not 1e-3 <= low <= high <= 1e4:
        raise ConfigError(f"{owner}: sigma must lie between 0.001 and 10000, but got {value!r}")
    return low, high
