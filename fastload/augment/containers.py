"""How transforms that hold others draw, and what is known of the images after them."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

from fastload.augment.drawing import Drawing
from fastload.augment.rng import uniform
from fastload.augment.steps import Kind, Step
from fastload.errors import ConfigError
from fastload.transforms import (
    Compose,
    Container,
    Normalize,
    RandomApply,
    RandomChoice,
    RandomOrder,
    ToDtype,
    Transform,
)
from fastload.transforms.mixing import BatchTransform

if TYPE_CHECKING:
    from fastload.augment.form import Form

# All orders of a RandomOrder that changes sizes are tried: 120 of five.
_MAX_ORDERED: Final = 5


def held(transform: Transform) -> tuple[Transform, ...]:
    """What a transform holds; nothing where it is no container."""
    return transform.transforms if isinstance(transform, Container) else ()


def form_after(container: Container, form: Form) -> Form:
    """What is known of every image after a container: what holds whichever way it goes.

    Raises:
        ConfigError: One of the ways cannot be gone, or they do not lead to images of one kind.
    """
    for step in container.transforms:
        if isinstance(step, ToDtype | Normalize | BatchTransform):
            raise ConfigError(
                f"{step} cannot stand within RandomApply, RandomChoice or RandomOrder, because it is for all "
                "images of a batch: put it behind"
            )
    if isinstance(container, RandomOrder):
        return _after_any_order(container, form)
    if isinstance(container, RandomChoice):
        ways = [form.after(step) for step in container.transforms]
    else:
        ways = [functools.reduce(lambda known, step: known.after(step), container.transforms, form)]
        if isinstance(container, RandomApply):
            ways.append(form)
    return functools.reduce(lambda first, second: first.joined(second, container), ways)


def _after_any_order(container: RandomOrder, form: Form) -> Form:
    in_turn = functools.reduce(lambda known, step: known.after(step), container.transforms, form)
    if len(container.transforms) > _MAX_ORDERED:
        if (in_turn.sizes, in_turn.sampling) == (form.sizes, form.sampling):
            return in_turn
        raise ConfigError(
            f"a RandomOrder of {len(container.transforms)} transforms must leave sizes as they are: put what changes "
            "them before or behind it"
        )
    orders = itertools.permutations(container.transforms)
    ways = [functools.reduce(lambda known, step: known.after(step), order, form) for order in orders]
    return functools.reduce(lambda first, second: first.joined(second, container), ways)


def draw_in_turn(_: Container, drawing: Drawing, *steps: Step) -> None:
    """Draws what a container holds, one after the other."""
    for step in steps:
        step.draw(drawing)


def _random_apply(transform: RandomApply, drawing: Drawing, *steps: Step) -> None:
    with drawing.only(uniform(drawing.words()[0]) < transform.p):
        for step in steps:
            step.draw(drawing)


def _random_choice(transform: RandomChoice, drawing: Drawing, *steps: Step) -> None:
    weights = np.ones(len(steps)) if transform.p is None else np.array(transform.p)
    # Sums of a few numbers in a stated order: the same on every machine. The last bound is 1 whatever they round to.
    bounds = np.cumsum(weights) / np.cumsum(weights)[-1]
    chosen = np.searchsorted(bounds, uniform(drawing.words()[0]), side="right")
    for number, step in enumerate(steps):
        with drawing.only(chosen == number):
            step.draw(drawing)


def _random_order(_: RandomOrder, drawing: Drawing, *steps: Step) -> None:
    order = np.argsort(drawing.many_words(len(steps)), axis=0, kind="stable")
    for place in order:
        for number, step in enumerate(steps):
            with drawing.only(place == number):
                step.draw(drawing)


CONTAINERS: Final[dict[type[Transform], Kind]] = {
    Compose: Kind(draw_in_turn, random=False),
    RandomApply: Kind(_random_apply),
    RandomChoice: Kind(_random_choice),
    RandomOrder: Kind(_random_order),
}
