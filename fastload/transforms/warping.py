"""Declarations that turn, shear, shift or distort the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastload.errors import ConfigError
from fastload.transforms.base import (
    Fill,
    Transform,
    WarpInterpolation,
    check_fill,
    check_flag,
    check_probability,
    check_range,
    check_sequence,
    check_warp_interpolation,
    is_number,
)

# A shear of 90 degrees is a line.
_MAX_SHEAR: Final = 89.0
_MAX_DEGREES: Final = 36_000.0
# A kernel of the elastic displacement has 8 sigma + 1 pixels.
_MAX_SIGMA: Final = 128.0


@dataclass(frozen=True, init=False)
class RandomRotation(Transform):
    """Turns the image counter-clockwise by a random angle, as torchvision's ``v2.RandomRotation``.

    Args:
        degrees: Greatest angle to either side, or (least, greatest).
        interpolation: "nearest" or "bilinear".
        expand: Whether the image grows so that all of what was turned is in it.
        center: (x, y) of what stays where it is, in pixels from the upper left corner; None for the middle.
        fill: Level of what lies outside, 0 to 255, or three (red, green, blue). None is black; "bilinear" then fades
            into it once at the edges, as in torchvision, where it fades twice into a level.

    Raises:
        ConfigError: An argument is not as above.
    """

    degrees: tuple[float, float]
    interpolation: WarpInterpolation
    expand: bool
    center: tuple[float, float] | None
    fill: Fill | None

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: Any = "nearest",
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: Any = 0,
    ) -> None:
        owner = self._name()
        self._assign(
            degrees=_check_angles(degrees, (2,), _MAX_DEGREES, owner=owner, name="degrees"),
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            expand=check_flag(expand, owner=owner, name="expand"),
            center=_check_center(center, owner=owner),
            fill=None if fill is None else check_fill(fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class RandomAffine(Transform):
    """Turns, shears, scales and shifts the image around its middle, as torchvision's ``v2.RandomAffine``.

    Args:
        degrees: As for :class:`RandomRotation`, but clockwise; 0 for none.
        translate: Greatest shift to either side as a share of width and height, 0 to 1; None for none. Drawn shifts
            are whole pixels.
        scale: Least and greatest factor; None for 1.
        shear: Greatest shear along x to either side in degrees; or (least, greatest); or those and (least, greatest)
            along y. Below 89 degrees. None for none.
        interpolation, fill, center: As for :class:`RandomRotation`.

    Raises:
        ConfigError: An argument is not as above.
    """

    degrees: tuple[float, float]
    translate: tuple[float, float] | None
    scale: tuple[float, float] | None
    shear: tuple[float, ...] | None
    interpolation: WarpInterpolation
    fill: Fill | None
    center: tuple[float, float] | None

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: Any = "nearest",
        fill: Any = 0,
        center: Sequence[float] | None = None,
    ) -> None:
        owner = self._name()
        checked_scale = None if scale is None else check_range(scale, owner=owner, name="scale")
        if checked_scale is not None and checked_scale[0] <= 0.0:
            raise ConfigError(f"{owner}: scale must be greater than 0, but got {scale!r}")
        self._assign(
            degrees=_check_angles(degrees, (2,), _MAX_DEGREES, owner=owner, name="degrees"),
            translate=None if translate is None else _check_shares(translate, owner=owner),
            scale=checked_scale,
            shear=None if shear is None else _check_angles(shear, (2, 4), _MAX_SHEAR, owner=owner, name="shear"),
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            fill=None if fill is None else check_fill(fill, owner=owner),
            center=_check_center(center, owner=owner),
        )


@dataclass(frozen=True, init=False)
class RandomTranslate(Transform):
    """Shifts the image by whole pixels: torchvision's ``v2.RandomAffine(0, translate=translate, fill=fill)``.

    Args:
        translate: Greatest shift to either side as a share of width and height, 0 to 1.
        fill: As for :class:`RandomRotation`.

    Raises:
        ConfigError: An argument is not as above.
    """

    translate: tuple[float, float]
    fill: Fill

    def __init__(self, translate: Sequence[float], fill: Any = 0) -> None:
        owner = self._name()
        self._assign(translate=_check_shares(translate, owner=owner), fill=check_fill(fill, owner=owner))


@dataclass(frozen=True, init=False)
class RandomPerspective(Transform):
    """Shows the image from a random side, as torchvision's ``v2.RandomPerspective``.

    Args:
        distortion_scale: How far corners may move, as a share of half a side, 0 to 1.
        p: Probability.
        interpolation, fill: As for :class:`RandomRotation`.

    Raises:
        ConfigError: An argument is not as above.
    """

    distortion_scale: float
    p: float
    interpolation: WarpInterpolation
    fill: Fill | None

    def __init__(
        self, distortion_scale: float = 0.5, p: float = 0.5, interpolation: Any = "bilinear", fill: Any = 0
    ) -> None:
        owner = self._name()
        self._assign(
            distortion_scale=check_probability(distortion_scale, owner=owner, name="distortion_scale"),
            p=check_probability(p, owner=owner),
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            fill=None if fill is None else check_fill(fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class ElasticTransform(Transform):
    """Distorts the image as if seen through moving water, as torchvision's ``v2.ElasticTransform``.

    It works on pixels: behind the first step that cuts or resamples, what follows must leave sizes as they are. Before
    it the whole source is distorted. Boxes, keypoints and masks follow either way.

    Args:
        alpha: How far pixels move, for both axes or (x, y).
        sigma: How smoothly, in pixels, for both axes or (x, y), 0 to 128.
        interpolation, fill: As for :class:`RandomRotation`.

    Raises:
        ConfigError: An argument is not as above.
    """

    alpha: tuple[float, float]
    sigma: tuple[float, float]
    interpolation: WarpInterpolation
    fill: Fill

    def __init__(
        self,
        alpha: float | Sequence[float] = 50.0,
        sigma: float | Sequence[float] = 5.0,
        interpolation: Any = "bilinear",
        fill: Any = 0,
    ) -> None:
        owner = self._name()
        checked = _check_two(sigma, owner=owner, name="sigma")
        if not all(0.0 <= value <= _MAX_SIGMA for value in checked):
            raise ConfigError(f"{owner}: sigma must be 0 to {_MAX_SIGMA:g} pixels, but got {sigma!r}")
        self._assign(
            alpha=_check_two(alpha, owner=owner, name="alpha"),
            sigma=checked,
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            fill=check_fill(fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class Identity(Transform):
    """Does nothing, as torchvision's ``v2.Identity``; of use as one of the ways of a RandomChoice."""

    def __init__(self) -> None:
        pass


def _check_angles(value: Any, lengths: Sequence[int], greatest: float, *, owner: str, name: str) -> tuple[float, ...]:
    """(least, greatest), once or twice; a number stands for both signs of it."""
    if is_number(value):
        if value < 0:
            raise ConfigError(f"{owner}: {name} as one number must not be negative, but got {value!r}")
        value = (-value, value)
    angles = check_sequence(value, lengths, owner=owner, name=name)
    if any(abs(angle) > greatest for angle in angles):
        raise ConfigError(f"{owner}: {name} must lie between -{greatest:g} and {greatest:g}, but got {value!r}")
    if any(low > high for low, high in zip(angles[::2], angles[1::2], strict=True)):
        raise ConfigError(f"{owner}: {name} must be (least, greatest), but got {value!r}")
    return angles


def _check_shares(value: Any, *, owner: str) -> tuple[float, float]:
    across, down = check_sequence(value, (2,), owner=owner, name="translate")
    if not (0.0 <= across <= 1.0 and 0.0 <= down <= 1.0):
        raise ConfigError(f"{owner}: translate must be shares of 0 to 1, but got {value!r}")
    return across, down


def _check_center(value: Any, *, owner: str) -> tuple[float, float] | None:
    if value is None:
        return None
    x, y = check_sequence(value, (2,), owner=owner, name="center")
    if max(abs(x), abs(y)) > 1e6:
        raise ConfigError(f"{owner}: center must be pixels near the image, but got {value!r}")
    return x, y


def _check_two(value: Any, *, owner: str, name: str) -> tuple[float, float]:
    if is_number(value):
        value = (value, value)
    numbers = check_sequence(value, (1, 2), owner=owner, name=name)
    return numbers[0], numbers[-1]
