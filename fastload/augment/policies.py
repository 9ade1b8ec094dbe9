"""How the policies draw: which operations, how strong, which way, for each sample by itself."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.containers import draw_in_turn
from fastload.augment.distributions import GAMMA_BLOCKS, dirichlet
from fastload.augment.drawing import Drawing
from fastload.augment.maps import ONCE
from fastload.augment.policy_tables import (
    AUTO,
    CODES,
    MIX,
    MIX_PART,
    NAMES,
    PAIRS,
    RAND,
    ROTATE,
    SHEAR_X,
    SHEAR_Y,
    SIGNED,
    TRANSLATE_X,
    TRANSLATE_Y,
    TRIVIAL,
    Space,
)
from fastload.augment.portable import sin_cos
from fastload.augment.program import VALUES, Code
from fastload.augment.rng import integers, uniform
from fastload.augment.steps import Kind
from fastload.transforms import AugMix, AutoAugment, RandAugment, ThreeAugment, Transform, TrivialAugmentWide
from fastload.transforms.policies import Policy

_CODES: Final = np.array(list(CODES.values()))
_SIGNED: Final = np.array([name in SIGNED for name in NAMES])
_FACTORS: Final = np.array([name in ("Brightness", "Color", "Contrast", "Sharpness") for name in NAMES])
# Strengths of AutoAugment's pairs and of AugMix are one of ten.
TEN: Final = 10
_MIX_DEPTH: Final = 3


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One operation for each sample.

    Attributes:
        operation: int64 (n,), place in ``NAMES``.
        step: int64 (n,), of the strength.
        negative: bool (n,), whether an operation that goes two ways goes the other one.
        done: bool (n,), whether the sample has it at all.
    """

    operation: NDArray[np.int64]
    step: NDArray[np.int64]
    negative: NDArray[np.bool_]
    done: NDArray[np.bool_]


def auto_choices(policy: AutoAugment, words: NDArray[np.uint64]) -> list[Choice]:
    """Both operations of a pair; words (5, n)."""
    table = _pairs(policy.policy)[integers(words[0], len(PAIRS[policy.policy]))]
    return [
        Choice(
            operation=table[:, place, 0],
            step=table[:, place, 2],
            negative=_coin(words[2 + 2 * place]),
            done=uniform(words[1 + 2 * place]) < table[:, place, 1] / 10,
        )
        for place in range(2)
    ]


def rand_choices(policy: RandAugment, words: NDArray[np.uint64]) -> list[Choice]:
    """All operations in turn; words (2 * num_ops, n)."""
    step = np.full(words.shape[1], policy.magnitude)
    return [_any(RAND, words[2 * number], step, words[2 * number + 1]) for number in range(policy.num_ops)]


def trivial_choice(policy: TrivialAugmentWide, words: NDArray[np.uint64]) -> Choice:
    """The one operation; words (3, n)."""
    return _any(TRIVIAL, words[0], integers(words[1], policy.num_magnitude_bins), words[2])


def mix_choices(policy: AugMix, words: NDArray[np.uint64]) -> list[list[Choice]]:
    """The operations of each chain; words ((1 + 3 * depth) * mixture_width, n), depth as mix_depth says."""
    space, depth = mix_space(policy), mix_depth(policy)
    chains: list[list[Choice]] = []
    for part in np.split(words, policy.mixture_width):
        length = integers(part[0], depth) + 1 if policy.chain_depth <= 0 else np.full(words.shape[1], depth)
        chain = []
        for place in range(depth):
            operation, step, way = part[1 + 3 * place : 4 + 3 * place]
            chain.append(_any(space, operation, integers(step, policy.severity), way, done=place < length))
        chains.append(chain)
    return chains


def mix_weights(policy: AugMix, drawing: Drawing) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight of the image itself, (n,), and of each chain, (mixture_width, n); the first blocks of its words."""
    own, mixed = dirichlet((policy.alpha,) * 2, drawing.words)
    parts = dirichlet((policy.alpha,) * policy.mixture_width, drawing.words, 2 * GAMMA_BLOCKS)
    return own, parts * mixed


def mix_space(policy: AugMix) -> Space:
    """The operations that AugMix draws from."""
    return MIX if policy.all_ops else MIX_PART


def mix_depth(policy: AugMix) -> int:
    """Most operations of a chain."""
    return policy.chain_depth if policy.chain_depth > 0 else _MIX_DEPTH


def _any(
    space: Space,
    operation: NDArray[np.uint64],
    step: NDArray[np.int64],
    way: NDArray[np.uint64],
    done: NDArray[np.bool_] | None = None,
) -> Choice:
    return Choice(
        operation=space.operations[integers(operation, len(space.names))],
        step=step,
        negative=_coin(way),
        done=np.ones(len(step), np.bool_) if done is None else done,
    )


def _coin(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.asarray(words < np.uint64(2**31))


@functools.cache
def _pairs(name: str) -> NDArray[np.int64]:
    return np.array([[[NAMES.index(name), *rest] for name, *rest in pair] for pair in PAIRS[name]])


@functools.lru_cache(maxsize=64)
def _strengths(space: Space, bins: int) -> NDArray[np.float64]:
    return space.strengths(bins)


def _carry_out(policy: Policy, space: Space, bins: int, choice: Choice, drawing: Drawing) -> None:
    """Adds the chosen operations to the program."""
    sign = np.where(choice.negative & _SIGNED[choice.operation], -1.0, 1.0)
    strength = _strengths(space, bins)[choice.operation, choice.step] * sign
    values = np.zeros((len(strength), VALUES))
    values[:, 0] = np.where(_FACTORS[choice.operation], 1.0 + strength, strength)
    codes = _CODES[choice.operation]
    # What is turned, shifted or changed by nothing is left out: it costs a pass and leaves every level as it is.
    idle = _SIGNED[choice.operation] & (strength == 0.0)
    done = choice.done & (codes > 0) & ~idle & drawing.active
    warps = np.flatnonzero(done & (codes == Code.WARP))
    if warps.size:
        heights, widths = drawing.canvas.heights[warps], drawing.canvas.widths[warps]
        operation, steps = choice.operation[warps], choice.step[warps]
        across = space.shifts(widths, steps, bins) * (operation == TRANSLATE_X)
        down = space.shifts(heights, steps, bins) * (operation == TRANSLATE_Y)
        maps = _maps(operation, strength[warps], across * sign[warps], down * sign[warps], heights, widths)
        values[warps] = 0.0
        values[warps, 0] = policy.interpolation == "bilinear"
        values[warps, 1:4] = ONCE if policy.fill is None else policy.fill
        values[warps, 4:13] = maps.reshape(-1, 9)
    drawing.add(codes, values, done)


def _maps(
    operation: NDArray[np.int64],
    strength: NDArray[np.float64],
    across: NDArray[np.float64],
    down: NDArray[np.float64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Where a pixel comes from, (n, 3, 3): torchvision's inverse matrices, from the upper left corner."""
    maps = np.zeros((len(operation), 3, 3))
    sine, cosine = sin_cos(np.where(operation == ROTATE, strength, 0.0))
    maps[:, 0, 0] = maps[:, 1, 1] = cosine
    # Counted from the corner, a shear leaves the first row (column) where it is: torchvision's center is [0, 0].
    maps[:, 0, 1] = np.where(operation == SHEAR_X, strength, -sine)
    maps[:, 1, 0] = np.where(operation == SHEAR_Y, strength, sine)
    # A rotation leaves the middle.
    x, y = widths / 2.0, heights / 2.0
    maps[:, 0, 2] = (x - cosine * x) + sine * y - across
    maps[:, 1, 2] = (y - cosine * y) - sine * x - down
    maps[:, 2, 2] = 1.0
    return maps


def _auto_augment(policy: AutoAugment, drawing: Drawing) -> None:
    for choice in auto_choices(policy, drawing.many_words(5)):
        _carry_out(policy, AUTO, TEN, choice, drawing)


def _rand_augment(policy: RandAugment, drawing: Drawing) -> None:
    for choice in rand_choices(policy, drawing.many_words(2 * policy.num_ops)):
        _carry_out(policy, RAND, policy.num_magnitude_bins, choice, drawing)


def _trivial_augment(policy: TrivialAugmentWide, drawing: Drawing) -> None:
    choice = trivial_choice(policy, drawing.many_words(3))
    _carry_out(policy, TRIVIAL, policy.num_magnitude_bins, choice, drawing)


def _aug_mix(policy: AugMix, drawing: Drawing) -> None:
    own, weights = mix_weights(policy, drawing)
    first = (2 + policy.mixture_width) * GAMMA_BLOCKS
    words = drawing.many_words((1 + 3 * mix_depth(policy)) * policy.mixture_width, first)
    drawing.add(Code.SAVE)
    for chain, weight in zip(mix_choices(policy, words), weights, strict=True):
        drawing.add(Code.RESTORE)
        for choice in chain:
            _carry_out(policy, mix_space(policy), TEN, choice, drawing)
        drawing.add(Code.ADD, weight[:, None])
    drawing.add(Code.MIXED, own[:, None])


POLICIES: Final[dict[type[Transform], Kind]] = {
    AugMix: Kind(_aug_mix),
    AutoAugment: Kind(_auto_augment),
    RandAugment: Kind(_rand_augment),
    ThreeAugment: Kind(draw_in_turn, random=False),
    TrivialAugmentWide: Kind(_trivial_augment),
}
