"""Declarations that change the values of pixels and their type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastload.errors import ConfigError
from fastload.transforms.base import Transform, check_flag, check_number

DType = Literal["uint8", "float16", "bfloat16", "float32"]


@dataclass(frozen=True, init=False)
class ToDtype(Transform):
    """Converts the image's values to another type, as torchvision's ``v2.ToDtype``.

    Args:
        dtype: ``"uint8"``, ``"float16"``, ``"bfloat16"`` or ``"float32"``, or the torch.dtype or numpy dtype so named.
        scale: Whether 0 to 255 becomes 0 to 1. Without it the numbers stay as they are.

    Raises:
        ConfigError: An argument is not as above.
    """

    dtype: DType
    scale: bool

    def __init__(self, dtype: Any = "float32", scale: bool = False) -> None:
        owner = self._name()
        # str(torch.float32) is "torch.float32", str(numpy.dtype("float32")) is "float32": no need to import either.
        name = dtype.__name__ if isinstance(dtype, type) else str(dtype).removeprefix("torch.")
        if name not in get_args(DType):
            raise ConfigError(f"{owner}: dtype must be one of {', '.join(get_args(DType))}, but got {dtype!r}")
        self._assign(dtype=name, scale=check_flag(scale, owner=owner, name="scale"))


@dataclass(frozen=True, init=False)
class Normalize(Transform):
    """Subtracts ``mean`` and divides by ``std`` per channel, as torchvision's ``v2.Normalize``; floats only.

    Args:
        mean: One number per channel (red, green, blue), or a sequence of one for all three, on the scale that the
            values have when they arrive here: 0 to 1 after ``ToDtype(..., scale=True)``, otherwise 0 to 255.
        std: Likewise; not 0.

    Raises:
        ConfigError: An argument is not as above.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        owner = self._name()
        checked_std = _channels(std, owner=owner, name="std")
        if not all(checked_std):
            raise ConfigError(f"{owner}: std must not be 0, but got {std!r}")
        self._assign(mean=_channels(mean, owner=owner, name="mean"), std=checked_std)


def _channels(value: Any, *, owner: str, name: str) -> tuple[float, float, float]:
    # A numpy array or a tensor is a sequence in all but type.
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) not in (1, 3):
        raise ConfigError(f"{owner}: {name} must be 3 numbers, one per channel, but got {value!r}")
    numbers = [check_number(number, owner=owner, name=name) for number in values]
    red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    return red, green, blue
