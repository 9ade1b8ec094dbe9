"""The distribution of one figure over images: its quantiles, and a histogram with round edges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

_MOST_BINS: Final = 24
# A tail this much longer than the rest goes into one last bin, so that the rest can be seen.
_LONG_TAIL: Final = 1.5


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One figure over many images.

    Attributes:
        unit: What values are counted in: ``px``, ``bytes``, ``bits/px``, or nothing for a ratio.
        images: How many there are.
        exact: Whether these are all images of the data set, and not a sample of them.
        minimum, p5, median, mean, p95, maximum: Of the values.
        edges: Ends of the bins, one more than there are counts; every bin but the last is open at its end.
        counts: Images in each bin; their sum is ``images``.
        open_end: Whether the last bin also takes all that lies beyond its end.
    """

    unit: str
    images: int
    exact: bool
    minimum: float
    p5: float
    median: float
    mean: float
    p95: float
    maximum: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    open_end: bool


def describe(values: ArrayLike, unit: str, *, exact: bool) -> Distribution | None:
    """The distribution of ``values``, any shape, finite; None if there are none."""
    numbers = np.asarray(values, np.float64).reshape(-1)
    if not numbers.size:
        return None
    p5, median, p95, nearly_all = np.percentile(numbers, (5, 50, 95, 99.5)).tolist()
    low, high = float(numbers.min()), float(numbers.max())
    open_end = high - low > _LONG_TAIL * (nearly_all - low) > 0
    edges = round_edges(low, nearly_all if open_end else high)
    counts, _ = np.histogram(np.clip(numbers, edges[0], edges[-1]), bins=np.asarray(edges))
    return Distribution(
        unit=unit,
        images=numbers.size,
        exact=exact,
        minimum=low,
        p5=p5,
        median=median,
        mean=float(numbers.mean()),
        p95=p95,
        maximum=high,
        edges=edges,
        counts=tuple(counts.tolist()),
        open_end=open_end,
    )


def round_edges(low: float, high: float) -> tuple[float, ...]:
    """Ends of at most 24 or so bins of a width of 1, 2 or 5 times a power of ten that hold low to high."""
    if high <= low:
        half = max(abs(low) * 0.05, 0.5)
        return low - half, low + half
    width = round_step((high - low) / _MOST_BINS)
    first, last = math.floor(low / width), math.ceil(high / width)
    return tuple(float(np.round(number * width, 9)) for number in range(first, max(last, first + 1) + 1))


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``least`` (> 0)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))
