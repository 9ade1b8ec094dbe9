"""Declarations that resize the image by a random factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastload.errors import ConfigError
from fastload.transforms.base import (
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
class ScaleJitter(Transform):
    """Resizes the image to fit a target and then by a random factor, as torchvision's ``v2.ScaleJitter``.

    Args:
        target_size: ``(height, width)`` in which an image that is scaled by 1 just fits. torchvision compares its first
            number with the width and its second with the height of the image, and so does this.
        scale_range: Least and greatest factor.
        interpolation, antialias: As for :class:`Resize`.

    Raises:
        ConfigError: An argument is not as above.
    """

    target_size: tuple[int, int]
    scale_range: tuple[float, float]
    interpolation: Interpolation
    antialias: bool

    def __init__(
        self,
        target_size: Sequence[int],
        scale_range: Sequence[float] = (0.1, 2.0),
        interpolation: Any = "bilinear",
        antialias: bool = True,
    ) -> None:
        owner = self._name()
        self._assign(
            target_size=check_pair(target_size, owner=owner),
            scale_range=check_range(scale_range, owner=owner, name="scale_range"),
            interpolation=check_interpolation(interpolation, owner=owner),
            antialias=check_flag(antialias, owner=owner, name="antialias"),
        )


@dataclass(frozen=True, init=False)
class RandomShortestSize(Transform):
    """Resizes the image so that its shorter side is one of several, as torchvision's ``v2.RandomShortestSize``.

    Args:
        min_size: Length of the shorter side, or several of which one is drawn.
        max_size: Limit of the longer side.
        interpolation, antialias: As for :class:`Resize`.

    Raises:
        ConfigError: An argument is not as above.
    """

    min_size: tuple[int, ...]
    max_size: int | None
    interpolation: Interpolation
    antialias: bool

    def __init__(
        self,
        min_size: int | Sequence[int],
        max_size: int | None = None,
        interpolation: Any = "bilinear",
        antialias: bool = True,
    ) -> None:
        owner = self._name()
        sides: Any = [min_size] if is_integer(min_size) else min_size
        if not isinstance(sides, Sequence) or isinstance(sides, str) or not sides:
            raise ConfigError(f"{owner}: min_size must be an int or several, but got {min_size!r}")
        self._assign(
            min_size=tuple(check_side(side, owner=owner, name="min_size") for side in sides),
            max_size=None if max_size is None else check_side(max_size, owner=owner, name="max_size"),
            interpolation=check_interpolation(interpolation, owner=owner),
            antialias=check_flag(antialias, owner=owner, name="antialias"),
        )


@dataclass(frozen=True, init=False)
class RandomResize(Transform):
    """Resizes the image so that its shorter side has a random length, as torchvision's ``v2.RandomResize``.

    Args:
        min_size: Least length.
        max_size: The first length that is too great.
        interpolation, antialias: As for :class:`Resize`.

    Raises:
        ConfigError: An argument is not as above.
    """

    min_size: int
    max_size: int
    interpolation: Interpolation
    antialias: bool

    def __init__(self, min_size: int, max_size: int, interpolation: Any = "bilinear", antialias: bool = True) -> None:
        owner = self._name()
        least = check_side(min_size, owner=owner, name="min_size")
        limit = check_side(max_size, owner=owner, name="max_size")
        if limit <= least:
            raise ConfigError(f"{owner}: max_size must be greater than min_size, but got {min_size!r}, {max_size!r}")
        self._assign(
            min_size=least,
            max_size=limit,
            interpolation=check_interpolation(interpolation, owner=owner),
            antialias=check_flag(antialias, owner=owner, name="antialias"),
        )
