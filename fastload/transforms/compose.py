"""Several declarations as one, for code that is used to torchvision's Compose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastload.errors import ConfigError
from fastload.transforms.base import Transform


@dataclass(frozen=True, init=False)
class Compose(Transform):
    """Declarations one after the other; a plain list does the same.

    Args:
        transforms: At least one declaration; may hold other Composes.

    Raises:
        ConfigError: transforms is empty or holds something else.
    """

    transforms: tuple[Transform, ...]

    def __init__(self, transforms: Sequence[Transform]) -> None:
        chain = tuple(flatten(transforms))
        if not chain:
            raise ConfigError("Compose: pass at least one transform")
        self._assign(transforms=chain)


def flatten(transforms: Iterable[Transform] | Transform | None) -> list[Transform]:
    """One list of declarations without any Compose; None is an empty one.

    Raises:
        ConfigError: Something in it is not a declaration of fastload.
    """
    if transforms is None:
        return []
    steps: Any = transforms  # what users pass is not always what the types say
    if isinstance(steps, Transform):
        steps = [steps]
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise ConfigError(f"transforms must be a list of fastload.transforms, but got {steps!r}")
    chain: list[Transform] = []
    for step in steps:
        if not isinstance(step, Transform):
            owner = type(step).__module__.partition(".")[0]
            hint = f": take fastload.transforms.{type(step).__name__}" if owner == "torchvision" else ""
            raise ConfigError(f"transforms must be declarations of fastload.transforms, but got {step!r}{hint}")
        chain.extend(step.transforms if isinstance(step, Compose) else [step])
    return chain
