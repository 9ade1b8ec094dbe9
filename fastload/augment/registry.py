"""All transforms that can be drawn, by the type of their declaration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fastload.augment.color import COLOR
from fastload.augment.containers import CONTAINERS, held
from fastload.augment.conversions import CONVERSIONS
from fastload.augment.custom import CUSTOM
from fastload.augment.erasing import ERASING
from fastload.augment.filters import FILTERS
from fastload.augment.geometry import GEOMETRY
from fastload.augment.padding import PADDING
from fastload.augment.policies import POLICIES
from fastload.augment.steps import Kind, Step
from fastload.augment.warps import WARPS
from fastload.transforms import Transform

KINDS: Final[dict[type[Transform], Kind]] = {
    **GEOMETRY,
    **PADDING,
    **WARPS,
    **COLOR,
    **FILTERS,
    **POLICIES,
    **CONTAINERS,
    **ERASING,
    **CUSTOM,
    **CONVERSIONS,
}


def number_steps(transforms: Iterable[Transform], first: int = 0) -> tuple[Step, ...]:
    """A chain with its random transforms numbered from ``first`` on, in the order in which they are written."""
    steps: list[Step] = []
    for transform in transforms:
        kind = KINDS[type(transform)]
        inner = number_steps(held(transform), first + kind.random)
        steps.append(Step(transform, kind, first, inner))
        first += count_random(steps[-1:])
    return tuple(steps)


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """Steps and all that they hold, in the order in which they are written."""
    for step in steps:
        yield step
        yield from walk(step.held)


def count_random(steps: Iterable[Step]) -> int:
    """Random transforms among some steps and those that they hold."""
    return sum(step.kind.random for step in walk(steps))
