"""Declarations that change colours: brightness and its like, grey images, levels and channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastload.errors import ConfigError
from fastload.transforms.base import (
    MAX_FACTOR,
    AtRandom,
    Transform,
    check_number,
    check_probability,
    check_range,
    is_integer,
    is_number,
)

Range = tuple[float, float]


@dataclass(frozen=True, init=False)
class ColorJitter(Transform):
    """Changes brightness, contrast, saturation and hue in a random order, as torchvision's ``v2.ColorJitter``.

    Args:
        brightness: ``(low, high)`` of the factor, at least 0; or one number b for ``(max(0, 1 - b), 1 + b)``; or None
            to leave it alone. Fields hold the pair, or None where the pair would change nothing.
        contrast: Likewise; around the image's mean grey.
        saturation: Likewise.
        hue: ``(low, high)`` of the shift, -0.5 to 0.5 of the circle; or one number h for ``(-h, h)``; or None.

    Raises:
        ConfigError: An argument is not as above.
    """

    brightness: Range | None
    contrast: Range | None
    saturation: Range | None
    hue: Range | None

    def __init__(
        self,
        brightness: float | Sequence[float] | None = None,
        contrast: float | Sequence[float] | None = None,
        saturation: float | Sequence[float] | None = None,
        hue: float | Sequence[float] | None = None,
    ) -> None:
        owner = self._name()
        self._assign(
            brightness=_factors(brightness, owner=owner, name="brightness"),
            contrast=_factors(contrast, owner=owner, name="contrast"),
            saturation=_factors(saturation, owner=owner, name="saturation"),
            hue=_shifts(hue, owner=owner),
        )


@dataclass(frozen=True, init=False)
class RandomPhotometricDistort(Transform):
    """Changes brightness, contrast, saturation and hue and swaps channels, each by itself with probability ``p``, as
    torchvision's ``v2.RandomPhotometricDistort`` (and SSD) does; contrast comes second or fifth, with equal chances.

    Args:
        brightness, contrast, saturation: ``(low, high)`` of the factor, at least 0.
        hue: ``(low, high)`` of the shift, -0.5 to 0.5 of the circle.
        p: Of each of the four, and of the swap.

    Raises:
        ConfigError: An argument is not as above.
    """

    brightness: Range
    contrast: Range
    saturation: Range
    hue: Range
    p: float

    def __init__(
        self,
        brightness: Sequence[float] = (0.875, 1.125),
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue: Sequence[float] = (-0.05, 0.05),
        p: float = 0.5,
    ) -> None:
        owner = self._name()
        self._assign(
            brightness=check_range(brightness, owner=owner, name="brightness"),
            contrast=check_range(contrast, owner=owner, name="contrast"),
            saturation=check_range(saturation, owner=owner, name="saturation"),
            hue=_within_circle(hue, owner=owner),
            p=check_probability(p, owner=owner),
        )


@dataclass(frozen=True, init=False)
class Grayscale(Transform):
    """Turns the image to grey, as torchvision's ``v2.Grayscale(3)``.

    Args:
        num_output_channels: 3 (torchvision's default of 1 is refused: all images leave with three channels, of which
            a network that takes one may use the first).

    Raises:
        ConfigError: num_output_channels is not 3.
    """

    num_output_channels: int

    def __init__(self, num_output_channels: int = 3) -> None:
        if not is_integer(num_output_channels) or num_output_channels != 3:
            raise ConfigError(
                f"{self._name()}: num_output_channels must be 3, because all images leave with three channels, but "
                f"got {num_output_channels!r}: take images[:, :1] of the batch for one"
            )
        self._assign(num_output_channels=3)


@dataclass(frozen=True, init=False)
class RandomGrayscale(Transform):
    """Turns the image to grey, in three channels, with probability ``p``, as torchvision's ``v2.RandomGrayscale``.

    Raises:
        ConfigError: p is not between 0 and 1.
    """

    p: float

    def __init__(self, p: float = 0.1) -> None:
        self._assign(p=check_probability(p, owner=self._name()))


@dataclass(frozen=True, init=False)
class RandomChannelPermutation(Transform):
    """Swaps red, green and blue at random, as torchvision's ``v2.RandomChannelPermutation``."""


@dataclass(frozen=True, init=False)
class RandomInvert(AtRandom):
    """Turns each level into 255 less it with probability ``p``, as torchvision's ``v2.RandomInvert``.

    Raises:
        ConfigError: p is not between 0 and 1.
    """


@dataclass(frozen=True, init=False)
class RandomPosterize(Transform):
    """Keeps the upper ``bits`` of each level with probability ``p``, as torchvision's ``v2.RandomPosterize``.

    Raises:
        ConfigError: bits is not a whole number from 0 to 8, or p not between 0 and 1.
    """

    bits: int
    p: float

    def __init__(self, bits: int, p: float = 0.5) -> None:
        owner = self._name()
        if not is_integer(bits) or not 0 <= bits <= 8:
            raise ConfigError(f"{owner}: bits must be a whole number from 0 to 8, but got {bits!r}")
        self._assign(bits=int(bits), p=check_probability(p, owner=owner))


@dataclass(frozen=True, init=False)
class RandomSolarize(Transform):
    """Inverts the levels from ``threshold`` on with probability ``p``, as torchvision's ``v2.RandomSolarize``.

    Args:
        threshold: A level, at most 255.
        p: Probability.

    Raises:
        ConfigError: An argument is not as above.
    """

    threshold: float
    p: float

    def __init__(self, threshold: float, p: float = 0.5) -> None:
        owner = self._name()
        checked = check_number(threshold, owner=owner, name="threshold")
        if not 0 <= checked <= 255:
            raise ConfigError(f"{owner}: threshold must be a level from 0 to 255, but got {threshold!r}")
        self._assign(threshold=checked, p=check_probability(p, owner=owner))


@dataclass(frozen=True, init=False)
class RandomAutocontrast(AtRandom):
    """Spreads each channel from 0 to 255 with probability ``p``, as torchvision's ``v2.RandomAutocontrast``.

    Raises:
        ConfigError: p is not between 0 and 1.
    """


@dataclass(frozen=True, init=False)
class RandomEqualize(AtRandom):
    """Evens out the histogram of each channel with probability ``p``, as torchvision's ``v2.RandomEqualize``.

    Raises:
        ConfigError: p is not between 0 and 1.
    """


def _factors(value: Any, *, owner: str, name: str) -> Range | None:
    if value is None:
        return None
    if is_number(value):
        amount = check_number(value, owner=owner, name=name)
        if not 0 <= amount < MAX_FACTOR:
            raise ConfigError(f"{owner}: {name} as one number must be at least 0, but got {value!r}")
        value = (max(0.0, 1.0 - amount), 1.0 + amount)
    if isinstance(value, Sequence) and not isinstance(value, str) and list(value) == [0, 0]:
        return (0.0, 0.0)  # black, or grey: torchvision takes it
    low, high = check_range(value, owner=owner, name=name)
    return None if low == high == 1.0 else (low, high)


def _shifts(value: Any, *, owner: str) -> Range | None:
    if value is None:
        return None
    if is_number(value):
        amount = check_number(value, owner=owner, name="hue")
        if not 0 <= amount <= 0.5:
            raise ConfigError(f"{owner}: hue as one number must lie between 0 and 0.5, but got {value!r}")
        value = (-amount, amount)
    low, high = _within_circle(value, owner=owner)
    return None if low == high == 0.0 else (low, high)


def _within_circle(value: Any, *, owner: str) -> Range:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ConfigError(f"{owner}: hue must be a number or two numbers (low, high), but got {value!r}")
    low, high = (check_number(bound, owner=owner, name="hue") for bound in value)
    if not -0.5 <= low <= high <= 0.5:
        raise ConfigError(f"{owner}: hue must be (low, high) with -0.5 <= low <= high <= 0.5, but got {value!r}")
    return low, high
