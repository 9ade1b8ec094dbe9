"""Declarations about what is marked in images: boxes, and all that belongs to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastload.errors import ConfigError
from fastload.transforms.base import Transform, check_number

BoxFormat = Literal["XYXY", "XYWH", "CXCYWH"]


class TargetTransform(Transform):
    """A step on targets, which leaves pixels alone. Needs a Loader with ``targets``."""


@dataclass(frozen=True, init=False)
class ConvertBoundingBoxFormat(TargetTransform):
    """Puts boxes out in another format, as torchvision's ``v2.ConvertBoundingBoxFormat``; of several the last counts.

    Args:
        format: ``"XYXY"`` (corners; what boxes are without this), ``"XYWH"`` (corner and size) or ``"CXCYWH"`` (middle
            and size), or torchvision's BoundingBoxFormat so named.

    Raises:
        ConfigError: format is none of the three.
    """

    format: BoxFormat

    def __init__(self, format: Any) -> None:
        name = str(getattr(format, "value", format)).upper()
        if name not in get_args(BoxFormat):
            raise ConfigError(
                f"{self._name()}: format must be one of {', '.join(get_args(BoxFormat))}, but got {format!r}"
            )
        self._assign(format=name)


@dataclass(frozen=True, init=False)
class ClampBoundingBoxes(TargetTransform):
    """Cuts boxes off at the edges of the image, as torchvision's ``v2.ClampBoundingBoxes``.

    Boxes are always cut off, as torchvision does by itself in nearly all transforms: this is taken for chains that
    say so.
    """

    def __init__(self) -> None:
        """Nothing to say."""


@dataclass(frozen=True, init=False)
class SanitizeBoundingBoxes(TargetTransform):
    """Drops boxes that have become too small, as torchvision's ``v2.SanitizeBoundingBoxes``; stands after all geometry.

    With a box goes all that there is for each object: its label, area, flag, keypoints and mask.

    Args:
        min_size: Least width and height in pixels, at least 1.
        min_area: Least width times height, at least 1.

    Raises:
        ConfigError: An argument is below 1.
    """

    min_size: float
    min_area: float

    def __init__(self, min_size: float = 1.0, min_area: float = 1.0) -> None:
        owner = self._name()
        checked = {"min_size": min_size, "min_area": min_area}
        for name, value in checked.items():
            checked[name] = check_number(value, owner=owner, name=name)
            if checked[name] < 1:
                raise ConfigError(f"{owner}: {name} must be at least 1, but got {value!r}")
        self._assign(**checked)
