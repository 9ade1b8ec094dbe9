"""How the samples of a batch are mixed: which steps of a chain do that, and with what weights and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.distributions import GAMMA_BLOCKS, beta
from fastload.augment.parameters import DType
from fastload.augment.rng import integers, random_words
from fastload.errors import ConfigError
from fastload.transforms import CutMix, MixUp, Transform
from fastload.transforms.mixing import BatchTransform

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


def split_chain(chain: Sequence[Transform]) -> tuple[list[Transform], tuple[BatchTransform, ...]]:
    """The steps on single samples, and those on batches that end a chain.

    Raises:
        ConfigError: A step on samples follows one on batches.
    """
    samples = [step for step in chain if not isinstance(step, BatchTransform)]
    batches = tuple(step for step in chain if isinstance(step, BatchTransform))
    if tuple(chain[len(samples) :]) != batches:
        raise ConfigError(f"{batches[0]} mixes finished images: put it at the end of the chain, after {samples[-1]}")
    return samples, batches


def declared_classes(steps: Sequence[BatchTransform]) -> int | None:
    """``num_classes`` of all steps that say it.

    Raises:
        ConfigError: They do not agree.
    """
    declared = {step.num_classes for step in steps if isinstance(step, (MixUp, CutMix))} - {None}
    if len(declared) > 1:
        raise ConfigError(f"MixUp and CutMix of a chain must have the same num_classes, but got {sorted(declared)}")  # type: ignore[type-var]
    return next(iter(declared), None)


def check_mixing(steps: Sequence[BatchTransform], dtype: DType) -> None:
    """Raises ConfigError unless images of ``dtype`` can be mixed, and all steps mean the same classes."""
    declared_classes(steps)
    for step in steps:
        if isinstance(step, MixUp) and dtype == "uint8":
            raise ConfigError(
                f"{step} needs floating values, but the images are uint8 here: put ToDtype('float32', scale=True) "
                "before it"
            )


def draw_mixes(steps: Sequence[BatchTransform], key: BatchKey) -> list[Mix]:
    """What happens to a batch, in order: a pure function of the steps and of the key."""
    mixes: list[Mix] = []
    for place, step in enumerate(steps):
        assert isinstance(step, (MixUp, CutMix))
        mixes.append(_mix(step, key, _FIRST_NUMBER + place))
    return mixes


def _mix(step: MixUp | CutMix, key: BatchKey, number: int) -> Mix:
    ids = key.ids if step.per_sample else np.array([key.number], np.int64)

    def words(block: int) -> NDArray[np.uint64]:
        return random_words(ids, seed=key.seed, epoch=key.epoch, transform=number, block=block)

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
