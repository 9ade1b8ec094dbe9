"""All transforms that can be drawn, by the type of their declaration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastload.augment.geometry import GEOMETRY
from fastload.augment.steps import Kind, Step
from fastload.transforms import Transform

KINDS: Final[dict[type[Transform], Kind]] = {**GEOMETRY}


def number_steps(transforms: Iterable[Transform]) -> tuple[Step, ...]:
    """A chain with its random transforms numbered in the order in which they are written."""
    steps: list[Step] = []
    number = 0
    for transform in transforms:
        kind = KINDS[type(transform)]
        steps.append(Step(transform, kind, number))
        number += kind.random
    return tuple(steps)
