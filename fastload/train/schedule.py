"""Learning rate as a pure function of the position in the training, in epochs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from fastload.errors import ConfigError

# Position in epochs (0 is the first step, `epochs` the end) -> factor of the peak rate.
Shape = Callable[[float], float]


def piecewise(points: tuple[tuple[float, float], ...]) -> Shape:
    """Straight lines between (epoch, factor) points; constant before the first and after the last."""

    def factor(epoch: float) -> float:
        if epoch <= points[0][0]:
            return points[0][1]
        for (left, low), (right, high) in itertools.pairwise(points):
            if epoch <= right:
                return low + (high - low) * (epoch - left) / (right - left)
        return points[-1][1]

    return factor


def cosine(*, epochs: float, start: float = 0.0, final: float = 0.0) -> Shape:
    """Half a cosine from 1 at ``start`` to ``final`` at ``epochs``."""

    def factor(epoch: float) -> float:
        progress = min(max((epoch - start) / (epochs - start), 0.0), 1.0)
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return factor


def step(*, milestones: tuple[float, ...] = (), step_epochs: float = 30.0, gamma: float = 0.1) -> Shape:
    """1, times ``gamma`` at every milestone, or after every ``step_epochs`` where there are no milestones."""

    def factor(epoch: float) -> float:
        if milestones:
            return float(gamma ** sum(epoch >= milestone for milestone in milestones))
        return float(gamma ** math.floor(epoch / step_epochs))

    return factor


def one_cycle(
    *, epochs: float, rise: float = 0.3, start_divisor: float = 25.0, final_divisor: float = 1e4, shape: str = "cosine"
) -> Shape:
    """Up from 1 / start_divisor to 1 at ``rise * epochs``, then down to 1 / start_divisor / final_divisor."""
    first, last = 1.0 / start_divisor, 1.0 / start_divisor / final_divisor
    peak = rise * epochs

    def between(low: float, high: float, progress: float) -> float:
        if shape == "linear":
            return low + (high - low) * progress
        return high + (low - high) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def factor(epoch: float) -> float:
        if epoch < peak:
            return between(first, 1.0, epoch / peak)
        return between(1.0, last, min((epoch - peak) / (epochs - peak), 1.0))

    return factor


def with_warmup(shape: Shape, *, epochs: float, start: float = 0.0) -> Shape:
    """``shape``, after a straight rise from ``start`` to the shape's value at the end of the warmup."""
    if epochs <= 0:
        return shape
    peak = shape(epochs)

    def factor(epoch: float) -> float:
        if epoch < epochs:
            return start + (peak - start) * epoch / epochs
        return shape(epoch)

    return factor


def create_schedule(name: str, *, epochs: int, **kwargs: object) -> Shape:
    """The shape called ``name`` over ``epochs`` epochs; ``kwargs`` as in the recipe's schedule section.

    Raises:
        ConfigError: A warmup or a point lies beyond the last epoch, or the name is unknown.
    """
    warmup = _number(kwargs.pop("warmup_epochs", 0.0))
    warmup_start = _number(kwargs.pop("warmup_start", 0.0))
    if warmup >= epochs:
        raise ConfigError(f"schedule.warmup_epochs must be less than train.epochs ({epochs}), got {warmup:g}")
    if name == "piecewise":
        return piecewise(_resolve_points(kwargs["points"], epochs))
    if name == "cosine":
        return with_warmup(cosine(epochs=epochs, start=warmup, **kwargs), epochs=warmup, start=warmup_start)  # type: ignore[arg-type]
    if name == "step":
        return with_warmup(step(**kwargs), epochs=warmup, start=warmup_start)  # type: ignore[arg-type]
    if name == "one_cycle":
        return one_cycle(epochs=epochs, **kwargs)  # type: ignore[arg-type]
    if name == "constant":
        return with_warmup(lambda epoch: 1.0, epochs=warmup, start=warmup_start)
    raise ConfigError(f"schedule.name must be piecewise, cosine, step, one_cycle or constant, got {name!r}")


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _resolve_points(points: object, epochs: int) -> tuple[tuple[float, float], ...]:
    assert isinstance(points, list | tuple)
    resolved = tuple((float(epochs) if epoch == "end" else float(epoch), float(factor)) for epoch, factor in points)
    late = [epoch for epoch, _ in resolved if epoch > epochs]
    if late or any(after[0] <= before[0] for before, after in itertools.pairwise(resolved)):
        raise ConfigError(
            f"schedule.points must rise and end by train.epochs ({epochs}), got the epochs "
            f"{', '.join(f'{epoch:g}' for epoch, _ in resolved)}: move them, or write 'end' for the last one"
        )
    return resolved


def resolution_at(
    epoch: int, *, smallest: int, largest: int | None, ramp_start: float, ramp_end: float, multiple: int
) -> int:
    """Side of the training images in an epoch: ``smallest``, a ramp in multiples of ``multiple``, ``largest``.

    As FFCV's: on the ramp the side is linear in the epoch and rounded, half to even.
    """
    if largest is None or epoch <= ramp_start:
        return smallest
    if epoch >= ramp_end:
        return largest
    side = smallest + (largest - smallest) * (epoch - ramp_start) / (ramp_end - ramp_start)
    return min(max(round(side / multiple) * multiple, smallest), largest)
