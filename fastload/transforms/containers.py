"""Declarations that hold others: a chain as one, applied at random, one of several, or in a random order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastload.errors import ConfigError
from fastload.transforms.base import Transform, check_number, check_probability


class Container(Transform):
    """A declaration that holds others, in ``transforms``."""

    transforms: tuple[Transform, ...]


@dataclass(frozen=True, init=False)
class Compose(Container):
    """Declarations one after the other; a plain list does the same.

    Args:
        transforms: At least one declaration; may hold other Composes, whose parts are taken over.

    Raises:
        ConfigError: transforms is empty or holds something else.
    """

    transforms: tuple[Transform, ...]

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._assign(transforms=tuple(_filled(flatten(transforms), owner=self._name())))


@dataclass(frozen=True, init=False)
class RandomApply(Container):
    """Applies a chain with probability ``p``, or leaves the image alone, as torchvision's ``v2.RandomApply``.

    Args:
        transforms: At least one declaration.
        p: Probability.

    Raises:
        ConfigError: transforms is empty or holds something else, or p is not between 0 and 1.
    """

    transforms: tuple[Transform, ...]
    p: float

    def __init__(self, transforms: Sequence[Transform], p: float = 0.5) -> None:
        owner = self._name()
        self._assign(transforms=tuple(_filled(flatten(transforms), owner=owner)), p=check_probability(p, owner=owner))


@dataclass(frozen=True, init=False)
class RandomChoice(Container):
    """Applies one of several declarations, as torchvision's ``v2.RandomChoice``.

    Args:
        transforms: At least one declaration; a Compose, or a list, counts as one.
        p: Weight of each, at least 0, not all 0; None for equal ones. The field holds None or what was given.

    Raises:
        ConfigError: transforms is empty or holds something else, or p does not fit it.
    """

    transforms: tuple[Transform, ...]
    p: tuple[float, ...] | None

    def __init__(self, transforms: Sequence[Transform | Sequence[Transform]], p: Sequence[float] | None = None) -> None:
        owner = self._name()
        chosen = branches(transforms, owner=owner)
        self._assign(transforms=chosen, p=None if p is None else _weights(p, len(chosen), owner=owner))


@dataclass(frozen=True, init=False)
class RandomOrder(Container):
    """Applies all declarations in an order drawn for each image, as torchvision's ``v2.RandomOrder``.

    Args:
        transforms: At least one declaration; a Compose, or a list, counts as one.

    Raises:
        ConfigError: transforms is empty or holds something else.
    """

    transforms: tuple[Transform, ...]

    def __init__(self, transforms: Sequence[Transform | Sequence[Transform]]) -> None:
        self._assign(transforms=branches(transforms, owner=self._name()))


def flatten(transforms: Iterable[Transform] | Transform | None) -> list[Transform]:
    """One list of declarations without any Compose; None is an empty one. Other containers stay as they are.

    Raises:
        ConfigError: Something in it is not a declaration of fastload.
    """
    if transforms is None:
        return []
    steps: Any = transforms  # what users pass is not always what the types say
    if isinstance(steps, Transform):
        steps = [steps]
    chain: list[Transform] = []
    for step in _checked(steps):
        chain.extend(step.transforms if isinstance(step, Compose) else [step])
    return chain


# Transforms of torchvision's that there is nothing to do for, and those that make floats.
_NEEDLESS: Final = ("PILToTensor", "RGB", "ToImage", "ToPILImage", "ToPureTensor")
_TO_FLOATS: Final = ("ConvertImageDtype", "ToTensor")


def _checked(steps: Any) -> list[Transform]:
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise ConfigError(f"transforms must be a list of fastload.transforms, but got {steps!r}")
    chain: list[Transform] = []
    for step in steps:
        if not isinstance(step, Transform):
            raise ConfigError(f"transforms must be declarations of fastload.transforms, but got {step!r}{_hint(step)}")
        chain.append(step)
    return chain


def _hint(step: object) -> str:
    """What to do with something that is no declaration."""
    from fastload import transforms  # which imports this module

    kind = step if isinstance(step, type) else type(step)
    name = kind.__name__
    if kind.__module__.partition(".")[0] in ("torchvision", "fastload"):
        if hasattr(transforms, name):
            return f": take fastload.transforms.{name}{'(...)' if kind is step else ''}"
        if name in _NEEDLESS:
            return ": leave it out, because images are decoded to RGB and come as tensors"
        if name in _TO_FLOATS:
            return ": take fastload.transforms.ToDtype('float32', scale=True), behind what works on pixels"
        return ", which fastload does not have"
    return ": put functions into a fastload.transforms.Lambda" if callable(step) else ""


def branches(transforms: Any, *, owner: str) -> tuple[Transform, ...]:
    """Declarations that stand for themselves: a list of some counts as one, a Compose of them."""
    if isinstance(transforms, Iterable) and not isinstance(transforms, str):
        transforms = [Compose(step) if isinstance(step, list | tuple) else step for step in transforms]
    chain = _filled(_checked(transforms), owner=owner)
    # A Compose of one is that one: both are written, drawn and compared alike.
    return tuple(
        step.transforms[0] if isinstance(step, Compose) and len(step.transforms) == 1 else step for step in chain
    )


def _filled(chain: list[Transform], *, owner: str) -> list[Transform]:
    if not chain:
        raise ConfigError(f"{owner}: pass at least one transform")
    return chain


def _weights(value: Any, count: int, *, owner: str) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise ConfigError(f"{owner}: p must be one weight for each of the {count} transforms, but got {value!r}")
    weights = tuple(check_number(weight, owner=owner, name="p") for weight in value)
    if min(weights) < 0 or sum(weights) <= 0:
        raise ConfigError(f"{owner}: the weights p must be at least 0, and not all 0, but got {value!r}")
    return weights
