"""Declarations that overwrite rectangles of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastload.errors import ConfigError
from fastload.transforms.base import (
    MAX_FACTOR,
    Transform,
    check_number,
    check_probability,
    check_range,
    check_side,
    is_number,
)


@dataclass(frozen=True, init=False)
class RandomErasing(Transform):
    """Overwrites a rectangle with probability ``p``, as torchvision's ``v2.RandomErasing``.

    It may stand before or after ToDtype and Normalize: ``value`` is in the units that values have where it stands, and
    leaves with those that all have in the end. On levels (before ToDtype) it is cut off to a whole level.

    Args:
        p: Probability. Where ten tries find no rectangle that is smaller than the image, nothing is erased.
        scale: Least and greatest area of the rectangle, as a share of the image's, at most 1.
        ratio: Least and greatest height / width of the rectangle; its logarithm is uniform.
        value: A number; or three, for red, green and blue; or ``"random"``: normal noise of mean 0 and deviation 1 for
            each value by itself, only after ToDtype and, where there is one, Normalize.

    Raises:
        ConfigError: An argument is not as above.
    """

    p: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    value: float | tuple[float, float, float] | Literal["random"]

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0.0,
    ) -> None:
        owner = self._name()
        shares = check_range(scale, owner=owner, name="scale")
        if shares[1] > 1:
            raise ConfigError(f"{owner}: scale must lie between 0 and 1, but got {scale!r}")
        low, high = check_range(ratio, owner=owner, name="ratio")
        if low < 1 / MAX_FACTOR:
            raise ConfigError(f"{owner}: ratio must be greater than 0, but got {ratio!r}")
        self._assign(
            p=check_probability(p, owner=owner), scale=shares, ratio=(low, high), value=_value(value, owner=owner)
        )


@dataclass(frozen=True, init=False)
class Cutout(Transform):
    """Overwrites a square that lies anywhere within the image, as FFCV's ``Cutout``.

    Args:
        crop_size: Side of the square in pixels; of a smaller image all of that side.
        fill: Levels of red, green and blue, or one for all three, from 0 to 255.

    Raises:
        ConfigError: An argument is not as above.
    """

    crop_size: int
    fill: tuple[float, float, float]

    def __init__(self, crop_size: int, fill: float | Sequence[float] = (0, 0, 0)) -> None:
        owner = self._name()
        levels = _value(fill, owner=owner, name="fill")
        if levels == "random":
            raise ConfigError(f"{owner}: fill must be a number or three, one per channel, but got {fill!r}")
        triple = levels if isinstance(levels, tuple) else (levels,) * 3
        if not 0 <= min(triple) <= max(triple) <= 255:
            raise ConfigError(f"{owner}: fill must be levels from 0 to 255, but got {fill!r}")
        self._assign(crop_size=check_side(crop_size, owner=owner, name="crop_size"), fill=triple)


def _value(value: Any, *, owner: str, name: str = "value") -> float | tuple[float, float, float] | Literal["random"]:
    if isinstance(value, str) and value == "random":
        return "random"
    numbers = [value] if is_number(value) else value
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) not in (1, 3):
        raise ConfigError(f"{owner}: {name} must be a number, three, or 'random', but got {value!r}")
    checked = [check_number(number, owner=owner, name=name) for number in numbers]
    if max(map(abs, checked)) > 1e30:
        raise ConfigError(f"{owner}: {name} must lie between -1e30 and 1e30, but got {value!r}")
    if len(checked) == 1:
        return checked[0]
    red, green, blue = checked
    return red, green, blue
