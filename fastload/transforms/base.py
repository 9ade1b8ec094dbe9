"""What all declarations share: the base class and the checks of their arguments."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastload.errors import ConfigError

Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "area"]
WarpInterpolation = Literal["nearest", "bilinear"]
PaddingMode = Literal["constant", "edge", "reflect", "symmetric"]
Fill = float | tuple[float, float, float]

# Sources are at most 65,535 pixels wide (JPEG), so that a side of up to 32,768 keeps every grid within int32.
MAX_SIDE: Final = 32_768

# More than the width / height of any image; keeps what is computed from it within int64.
MAX_FACTOR: Final = 1e6

# torchvision's names, and Pillow's numbers, which torchvision takes too. "nearest-exact" is what Pillow calls NEAREST,
# "area" what OpenCV (and so FFCV) has as INTER_AREA.
_INTERPOLATIONS: Final[dict[str | int, Interpolation]] = {
    "nearest": "nearest",
    "nearest-exact": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "box": "box",
    "area": "area",
    0: "nearest",
    2: "bilinear",
    3: "bicubic",
    4: "box",
}


class Transform:
    """A declaration of one step; it holds checked plain values and does nothing by itself."""

    def _assign(self, **values: Any) -> None:
        """Sets the fields of a frozen dataclass from its own __init__."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _name(self) -> str:
        return type(self).__name__


def is_integer(value: object) -> bool:
    """Whether a value is a whole number by its type (bool is not)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a real number by its type (bool is not)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_side(value: Any, *, owner: str, name: str) -> int:
    """A length in pixels, 1 to MAX_SIDE."""
    if not is_integer(value) or not 1 <= value <= MAX_SIDE:
        raise ConfigError(f"{owner}: {name} must be whole pixels between 1 and {MAX_SIDE}, but got {value!r}")
    return int(value)


def check_pair(value: Any, *, owner: str) -> tuple[int, int]:
    """``size`` as torchvision's crops take it: an int or a sequence of one is a square, a sequence of two is (h, w)."""
    if is_integer(value):
        value = (value, value)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 1:
        value = (value[0], value[0])
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ConfigError(f"{owner}: size must be an int or (height, width), but got {value!r}")
    height, width = (check_side(side, owner=owner, name="size") for side in value)
    return height, width


def check_number(value: Any, *, owner: str, name: str) -> float:
    """A finite real number."""
    if not is_number(value) or not math.isfinite(value):
        raise ConfigError(f"{owner}: {name} must be a finite number, but got {value!r}")
    return float(value)


def check_probability(value: Any, *, owner: str, name: str = "p") -> float:
    """A number from 0 to 1."""
    checked = check_number(value, owner=owner, name=name)
    if not 0 <= checked <= 1:
        raise ConfigError(f"{owner}: {name} must lie between 0 and 1, but got {value!r}")
    return checked


def check_range(value: Any, *, owner: str, name: str) -> tuple[float, float]:
    """Two numbers (low, high), 0 <= low <= high, 0 < high <= MAX_FACTOR."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ConfigError(f"{owner}: {name} must be two numbers (low, high), but got {value!r}")
    low, high = (check_number(bound, owner=owner, name=name) for bound in value)
    if not 0 <= low <= high <= MAX_FACTOR or high == 0:
        raise ConfigError(f"{owner}: {name} must be (low, high) with 0 <= low <= high and high > 0, but got {value!r}")
    return low, high


def check_flag(value: Any, *, owner: str, name: str) -> bool:
    """True or False, nothing that merely counts as such."""
    if not isinstance(value, bool):
        raise ConfigError(f"{owner}: {name} must be True or False, but got {value!r}")
    return value


def check_interpolation(value: Any, *, owner: str) -> Interpolation:
    """torchvision's name, its InterpolationMode member, or Pillow's number; neither package is imported."""
    plain = getattr(value, "value", value)
    found = _INTERPOLATIONS.get(plain) if isinstance(plain, (str, int)) and not isinstance(plain, bool) else None
    if found is None:
        raise ConfigError(
            f"{owner}: interpolation must be 'nearest', 'bilinear', 'bicubic', 'box' or 'area', but got {value!r}"
        )
    return found


def check_warp_interpolation(value: Any, *, owner: str) -> WarpInterpolation:
    """As :func:`check_interpolation`, of those two that rotations and their like have."""
    found = check_interpolation(value, owner=owner)
    if found == "nearest" or found == "bilinear":
        return found
    raise ConfigError(f"{owner}: interpolation must be 'nearest' or 'bilinear', but got {value!r}")


def check_fill(value: Any, *, owner: str) -> Fill:
    """A level of 0 to 255 for all channels, or three; None counts as 0, a sequence of one as that one."""
    if isinstance(value, Mapping):
        raise ConfigError(
            f"{owner}: fill must be a number or three, not a mapping: masks are always filled with 0, but got {value!r}"
        )
    if value is None:
        return 0.0
    values = value.tolist() if hasattr(value, "tolist") else value
    levels = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    if len(levels) not in (1, 3) or not all(is_number(level) and 0 <= level <= 255 for level in levels):
        raise ConfigError(f"{owner}: fill must be a level of 0 to 255, or three (red, green, blue), but got {value!r}")
    if len(levels) == 1:
        return float(levels[0])
    red, green, blue = (float(level) for level in levels)
    return red, green, blue


def check_sequence(value: Any, lengths: Sequence[int], *, owner: str, name: str) -> tuple[float, ...]:
    """Finite numbers, as many as one of ``lengths`` says."""
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) not in lengths:
        counts = " or ".join(map(str, lengths))
        raise ConfigError(f"{owner}: {name} must be {counts} numbers, but got {value!r}")
    return tuple(check_number(number, owner=owner, name=name) for number in values)


@dataclass(frozen=True, init=False)
class AtRandom(Transform):
    """What is done with probability ``p``, and has no other argument."""

    p: float

    def __init__(self, p: float = 0.5) -> None:
        self._assign(p=check_probability(p, owner=self._name()))
