"""Declarations that choose which source pixels make which output pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastload.errors import ConfigError
from fastload.transforms.base import (
    MAX_FACTOR,
    AtRandom,
    Interpolation,
    Transform,
    check_flag,
    check_interpolation,
    check_pair,
    check_range,
    check_side,
    is_integer,
)


@dataclass(frozen=True, init=False)
class Resize(Transform):
    """Resizes the image, as torchvision's ``v2.Resize``.

    Args:
        size: ``(height, width)``, or an int (or a sequence of one): the shorter side becomes that and the longer side
            follows, rounded down; or None: the longer side becomes ``max_size``.
        interpolation: ``"nearest"`` (Pillow's, torchvision's ``"nearest-exact"``), ``"bilinear"``, ``"bicubic"``,
            ``"box"`` (Pillow's: the mean of the pixels whose middle lies under the output pixel) or ``"area"``
            (OpenCV's INTER_AREA, which FFCV resizes with: the mean with each pixel weighted by how much of it lies
            there; bilinear where the image grows). torchvision's InterpolationMode members and Pillow's numbers are
            taken too.
        max_size: Limit of the longer side in pixels; only with an int or None for size.
        antialias: Whether the filter widens when the image shrinks. "nearest" never does, "box" and "area" always do.

    Raises:
        ConfigError: An argument is not as above.
    """

    size: int | tuple[int, int] | None
    interpolation: Interpolation
    max_size: int | None
    antialias: bool

    def __init__(
        self,
        size: int | Sequence[int] | None,
        interpolation: Any = "bilinear",
        max_size: int | None = None,
        antialias: bool = True,
    ) -> None:
        owner = self._name()
        checked: int | tuple[int, int] | None
        if size is None or is_integer(size):
            checked = None if size is None else check_side(size, owner=owner, name="size")
        elif isinstance(size, Sequence) and len(size) == 1:
            checked = check_side(size[0], owner=owner, name="size")
        else:
            checked = check_pair(size, owner=owner)
        if max_size is not None:
            max_size = check_side(max_size, owner=owner, name="max_size")
            if isinstance(checked, tuple):
                raise ConfigError(f"{owner}: max_size goes with size as one int or None, but size is {checked}")
            if checked is not None and max_size <= checked:
                raise ConfigError(f"{owner}: max_size must be greater than size {checked}, but got {max_size}")
        elif checked is None:
            raise ConfigError(f"{owner}: size None needs max_size, the length of the longer side")
        self._assign(
            size=checked,
            interpolation=check_interpolation(interpolation, owner=owner),
            max_size=max_size,
            antialias=check_flag(antialias, owner=owner, name="antialias"),
        )


@dataclass(frozen=True, init=False)
class CenterCrop(Transform):
    """Cuts the middle out of the image, as torchvision's ``v2.CenterCrop``; a smaller image is padded with black.

    Args:
        size: ``(height, width)``, or an int (or a sequence of one) for a square.

    Raises:
        ConfigError: size is not as above.
    """

    size: tuple[int, int]

    def __init__(self, size: int | Sequence[int]) -> None:
        self._assign(size=check_pair(size, owner=self._name()))


@dataclass(frozen=True, init=False)
class RandomResizedCrop(Transform):
    """Cuts out a random region and resizes it, as torchvision's ``v2.RandomResizedCrop``.

    Args:
        size: Output ``(height, width)``, or an int (or a sequence of one) for a square.
        scale: Least and greatest area of the region, as a share of the image's.
        ratio: Least and greatest width / height of the region; its logarithm is uniform.
        interpolation: As for :class:`Resize`.
        antialias: As for :class:`Resize`.

    Raises:
        ConfigError: An argument is not as above.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    ratio: tuple[float, float]
    interpolation: Interpolation
    antialias: bool

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: Any = "bilinear",
        antialias: bool = True,
    ) -> None:
        owner = self._name()
        low_ratio, high_ratio = check_range(ratio, owner=owner, name="ratio")
        if low_ratio < 1 / MAX_FACTOR:
            raise ConfigError(f"{owner}: ratio must be greater than 0, but got {ratio!r}")
        self._assign(
            size=check_pair(size, owner=owner),
            scale=check_range(scale, owner=owner, name="scale"),
            ratio=(low_ratio, high_ratio),
            interpolation=check_interpolation(interpolation, owner=owner),
            antialias=check_flag(antialias, owner=owner, name="antialias"),
        )


@dataclass(frozen=True, init=False)
class RandomHorizontalFlip(AtRandom):
    """Mirrors the image left to right with probability ``p``, as torchvision's ``v2.RandomHorizontalFlip``.

    Raises:
        ConfigError: p is not between 0 and 1.
    """


@dataclass(frozen=True, init=False)
class RandomVerticalFlip(AtRandom):
    """Mirrors the image top to bottom with probability ``p``, as torchvision's ``v2.RandomVerticalFlip``.

    Raises:
        ConfigError: p is not between 0 and 1.
    """
