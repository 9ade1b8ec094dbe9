"""Declarations of crops and borders that leave the scale of the image as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from fastload.errors import ConfigError
from fastload.transforms.base import (
    MAX_SIDE,
    Fill,
    PaddingMode,
    Transform,
    check_fill,
    check_flag,
    check_number,
    check_pair,
    check_probability,
    check_sequence,
    is_integer,
)

# More than this and a side would not fit into what images may be.
_MAX_ZOOM: Final = 64.0
_MAX_TRIALS: Final = 1000


@dataclass(frozen=True, init=False)
class Pad(Transform):
    """Adds a border, as torchvision's ``v2.Pad``.

    Args:
        padding: Pixels on all sides; or (left and right, top and bottom); or (left, top, right, bottom). Not negative.
        fill: Level of the border, 0 to 255, or three (red, green, blue); for "constant".
        padding_mode: "constant", "edge" (the last pixel again), "reflect" (mirrored, without the last pixel) or
            "symmetric" (mirrored, with it). All but "constant" are filled in after sampling: what follows must leave
            sizes as they are.

    Raises:
        ConfigError: An argument is not as above.
    """

    padding: tuple[int, int, int, int]
    fill: Fill
    padding_mode: PaddingMode

    def __init__(self, padding: int | Sequence[int], fill: Any = 0, padding_mode: str = "constant") -> None:
        owner = self._name()
        self._assign(
            padding=_check_padding(padding, owner=owner),
            fill=check_fill(fill, owner=owner),
            padding_mode=_check_mode(padding_mode, fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class RandomCrop(Transform):
    """Cuts out a region of a fixed size at a random place, as torchvision's ``v2.RandomCrop``.

    Args:
        size: ``(height, width)``, or an int (or a sequence of one) for a square.
        padding: Border that is added first, as for :class:`Pad`; None for none.
        pad_if_needed: Whether an image that is smaller than ``size`` gets a border on both sides that makes it large
            enough wherever the region lies; without it such an image is an error.
        fill, padding_mode: As for :class:`Pad`.

    Raises:
        ConfigError: An argument is not as above.
    """

    size: tuple[int, int]
    padding: tuple[int, int, int, int] | None
    pad_if_needed: bool
    fill: Fill
    padding_mode: PaddingMode

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: Any = 0,
        padding_mode: str = "constant",
    ) -> None:
        owner = self._name()
        checked = None if padding is None else _check_padding(padding, owner=owner)
        self._assign(
            size=check_pair(size, owner=owner),
            padding=checked,
            pad_if_needed=check_flag(pad_if_needed, owner=owner, name="pad_if_needed"),
            fill=check_fill(fill, owner=owner),
            padding_mode=_check_mode(padding_mode, fill, owner=owner),
        )
        left, top, right, bottom = checked or (0, 0, 0, 0)
        if padding_mode != "constant" and (
            self.size[0] <= 2 * max(top, bottom) or self.size[1] <= 2 * max(left, right)
        ):
            raise ConfigError(
                f"{owner}: with padding_mode {padding_mode!r} size must be more than twice the padding, so that what "
                f"is mirrored is in the crop; but got size {self.size} and padding {padding!r}"
            )


@dataclass(frozen=True, init=False)
class RandomZoomOut(Transform):
    """Puts the image at a random place of a larger canvas, as torchvision's ``v2.RandomZoomOut``.

    Args:
        fill: As for :class:`Pad`.
        side_range: Least and greatest side of the canvas, as a multiple of the image's, 1 to 64.
        p: Probability.

    Raises:
        ConfigError: An argument is not as above.
    """

    fill: Fill
    side_range: tuple[float, float]
    p: float

    def __init__(self, fill: Any = 0, side_range: Sequence[float] = (1.0, 4.0), p: float = 0.5) -> None:
        owner = self._name()
        low, high = check_sequence(side_range, (2,), owner=owner, name="side_range")
        if not 1.0 <= low <= high <= _MAX_ZOOM:
            raise ConfigError(
                f"{owner}: side_range must be (low, high) with 1 <= low <= high <= {_MAX_ZOOM:g}, but got "
                f"{side_range!r}"
            )
        self._assign(fill=check_fill(fill, owner=owner), side_range=(low, high), p=check_probability(p, owner=owner))


@dataclass(frozen=True, init=False)
class RandomIoUCrop(Transform):
    """Cuts out a random region that overlaps some bounding box well enough, as torchvision's ``v2.RandomIoUCrop``.

    Boxes whose middle lies outside of the region become empty (SanitizeBoundingBoxes removes them). The data set must
    have boxes. Where torchvision would look for a region for ever, the image stays as it is after 100 options. Boxes
    are looked at as the geometry has them; what an ElasticTransform has bent before counts as if it had not.

    Args:
        min_scale, max_scale: Least and greatest side of the region as a share of the image's, above 0 to 1.
        min_aspect_ratio, max_aspect_ratio: Least and greatest width / height of the region.
        sampler_options: Least overlaps (intersection over union) of which one is drawn; 1 or more leaves the image as
            it is. None for 0, 0.1, 0.3, 0.5, 0.7, 0.9 and 1.
        trials: Regions that are tried for an overlap before another one is drawn, at most 1000.

    Raises:
        ConfigError: An argument is not as above.
    """

    min_scale: float
    max_scale: float
    min_aspect_ratio: float
    max_aspect_ratio: float
    sampler_options: tuple[float, ...] | None
    trials: int

    def __init__(
        self,
        min_scale: float = 0.3,
        max_scale: float = 1.0,
        min_aspect_ratio: float = 0.5,
        max_aspect_ratio: float = 2.0,
        sampler_options: Sequence[float] | None = None,
        trials: int = 40,
    ) -> None:
        owner = self._name()
        scales = [
            check_number(value, owner=owner, name=name)
            for value, name in ((min_scale, "min_scale"), (max_scale, "max_scale"))
        ]
        ratios = [
            check_number(value, owner=owner, name=name)
            for value, name in ((min_aspect_ratio, "min_aspect_ratio"), (max_aspect_ratio, "max_aspect_ratio"))
        ]
        if not 0.0 < scales[0] <= scales[1] <= 1.0:
            raise ConfigError(f"{owner}: 0 < min_scale <= max_scale <= 1, but got {min_scale!r} and {max_scale!r}")
        if not 0.0 < ratios[0] <= ratios[1]:
            raise ConfigError(
                f"{owner}: 0 < min_aspect_ratio <= max_aspect_ratio, but got {min_aspect_ratio!r} and "
                f"{max_aspect_ratio!r}"
            )
        if not is_integer(trials) or not 1 <= trials <= _MAX_TRIALS:
            raise ConfigError(f"{owner}: trials must be 1 to {_MAX_TRIALS}, but got {trials!r}")
        options = None
        if sampler_options is not None:
            options = check_sequence(sampler_options, range(1, 65), owner=owner, name="sampler_options")
        self._assign(
            min_scale=scales[0],
            max_scale=scales[1],
            min_aspect_ratio=ratios[0],
            max_aspect_ratio=ratios[1],
            sampler_options=options,
            trials=int(trials),
        )


def _check_padding(value: Any, *, owner: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom."""
    sides = [value] if is_integer(value) else value
    if not isinstance(sides, Sequence) or isinstance(sides, str) or len(sides) not in (1, 2, 4):
        raise ConfigError(f"{owner}: padding must be an int, or 1, 2 or 4 of them, but got {value!r}")
    if not all(is_integer(side) and 0 <= side <= MAX_SIDE for side in sides):
        raise ConfigError(f"{owner}: padding must be whole pixels from 0 to {MAX_SIDE}, but got {value!r}")
    left, top, right, bottom = (int(sides[place % len(sides)]) for place in range(4))
    return left, top, right, bottom


def _check_mode(value: Any, fill: Any, *, owner: str) -> PaddingMode:
    if value not in get_args(PaddingMode):
        modes = ", ".join(map(repr, get_args(PaddingMode)))
        raise ConfigError(f"{owner}: padding_mode must be one of {modes}, but got {value!r}")
    if value != "constant" and isinstance(check_fill(fill, owner=owner), tuple):
        raise ConfigError(f"{owner}: fill is for padding_mode 'constant', but got {fill!r} with {value!r}")
    return value  # type: ignore[no-any-return]
