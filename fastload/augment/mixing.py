"""How the samples of a batch are mixed: which steps of a chain do that, and with what weights and boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.distributions import GAMMA_BLOCKS, Words, beta
from fastload.augment.parameters import DType
from fastload.augment.rng import integers, random_words, uniform
from fastload.errors import ConfigError
from fastload.transforms import Container, CutMix, MixUp, RandomApply, RandomChoice, RandomOrder, Transform
from fastload.transforms.mixing import on_batches

# Steps on batches are numbered from here, apart from those on samples, of which there are never so many.
_FIRST_NUMBER: Final = 0x8000


@dataclass(frozen=True, kw_only=True)
class Mix:
    """One mixing of n samples, each with the one before it; k is 1 where all are mixed alike, else n.

    Attributes:
        own: float64 (k,), share of the label that stays the sample's own; for a MixUp of the pixels too.
        boxes: int64 (k, 4), top, left, height, width of what is the other sample's; None for a MixUp.
    """

    own: NDArray[np.float64]
    boxes: NDArray[np.int64] | None


@dataclass(frozen=True, kw_only=True)
class BatchKey:
    """What the draws of a batch belong to.

    Attributes:
        seed, epoch: Of the stream.
        number: Of the global batch in its epoch.
        ids: int64 (n,), streams of its samples (see AugmentPlan.draw).
        size: Height and width of the images.
    """

    seed: int
    epoch: int
    number: int
    ids: NDArray[np.int64]
    size: tuple[int, int]


def split_chain(chain: Sequence[Transform]) -> tuple[list[Transform], tuple[Transform, ...]]:
    """The steps on single samples, and those on batches that end a chain.

    Raises:
        ConfigError: A step on samples follows one on batches.
    """
    samples = [step for step in chain if not on_batches(step)]
    batches = tuple(step for step in chain if on_batches(step))
    if tuple(chain[len(samples) :]) != batches:
        raise ConfigError(f"{batches[0]} mixes finished images: put it at the end of the chain, after {samples[-1]}")
    return samples, batches


def _mixings(steps: Iterable[Transform]) -> Iterator[MixUp | CutMix]:
    for step in steps:
        if isinstance(step, MixUp | CutMix):
            yield step
        elif isinstance(step, Container):
            yield from _mixings(step.transforms)


def declared_classes(steps: Iterable[Transform]) -> int | None:
    """``num_classes`` of all steps that say it.

    Raises:
        ConfigError: They do not agree.
    """
    declared = {step.num_classes for step in _mixings(steps)} - {None}
    if len(declared) > 1:
        raise ConfigError(f"MixUp and CutMix of a chain must have the same num_classes, but got {sorted(declared)}")  # type: ignore[type-var]
    return next(iter(declared), None)


def check_mixing(steps: Sequence[Transform], dtype: DType) -> None:
    """Raises ConfigError unless images of ``dtype`` can be mixed, and all steps mean the same classes."""
    declared_classes(steps)
    for step in _mixings(steps):
        if isinstance(step, MixUp) and dtype == "uint8":
            raise ConfigError(
                f"{step} needs floating values, but the images are uint8 here: put ToDtype('float32', scale=True) "
                "before it"
            )


def draw_mixes(steps: Sequence[Transform], key: BatchKey) -> list[Mix]:
    """What happens to a batch, in order: a pure function of the steps and of the key.

    RandomApply, RandomChoice and RandomOrder decide for the whole batch, as torchvision's do.
    """
    mixes: list[Mix] = []
    _draw(steps, key, _FIRST_NUMBER, mixes)
    return mixes


def _draw(steps: Iterable[Transform], key: BatchKey, number: int, mixes: list[Mix]) -> None:
    """Adds what is drawn for a chain whose first step has a number: the next one's follows on all that it holds."""
    for step in steps:
        if isinstance(step, MixUp | CutMix):
            mixes.append(_mix(step, key, number))
        elif isinstance(step, Container):
            numbers = [number + 1 + sum(map(_size, step.transforms[:place])) for place in range(len(step.transforms))]
            for place in _order(step, _batch_words(key, number)):
                _draw([step.transforms[place]], key, numbers[place], mixes)
        number += _size(step)


def _size(step: Transform) -> int:
    return 1 + sum(map(_size, step.transforms)) if isinstance(step, Container) else 1


def _order(container: Container, words: Words) -> list[int]:
    """Which of the transforms that a container holds are applied, and in what order."""
    everything = list(range(len(container.transforms)))
    share = float(uniform(words(0))[0, 0])
    if isinstance(container, RandomApply):
        return everything if share < container.p else []
    if isinstance(container, RandomChoice):
        bounds = np.cumsum(np.ones(len(everything)) if container.p is None else np.array(container.p))
        return [int(np.searchsorted(bounds / bounds[-1], share, side="right"))]
    if isinstance(container, RandomOrder):
        drawn = np.concatenate([words(block)[:, 0] for block in range(len(everything) // 4 + 1)])
        order: list[int] = np.argsort(drawn[: len(everything)], kind="stable").tolist()
        return order
    return everything


def _batch_words(key: BatchKey, number: int, ids: NDArray[np.int64] | None = None) -> Words:
    """Random words of the batch, or of its samples ``ids``."""
    chosen = np.array([key.number], np.int64) if ids is None else ids
    return lambda block: random_words(chosen, seed=key.seed, epoch=key.epoch, transform=number, block=block)


def _mix(step: MixUp | CutMix, key: BatchKey, number: int) -> Mix:
    words = _batch_words(key, number, key.ids if step.per_sample else None)
    own = beta(step.alpha, step.alpha, words)
    if isinstance(step, MixUp):
        return Mix(own=own, boxes=None)
    return _cut(own, words(2 * GAMMA_BLOCKS), key.size)


def _cut(own: NDArray[np.float64], words: NDArray[np.uint64], size: tuple[int, int]) -> Mix:
    """torchvision's box around a uniform centre, cut off at the edges, and the share of the image that it leaves."""
    sides = np.array([size], np.int64)
    half = (0.5 * np.sqrt(1.0 - own)[:, None] * sides).astype(np.int64)
    centre = np.stack((integers(words[1], size[0]), integers(words[0], size[1])), axis=1)
    first, last = np.maximum(centre - half, 0), np.minimum(centre + half, sides)
    extent = last - first
    return Mix(own=1.0 - extent.prod(axis=1) / (size[0] * size[1]), boxes=np.hstack((first, extent)))
