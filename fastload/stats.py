"""Counters and spans per stage: where the time of a loader went. Cheap enough to be always on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

# Stages in the order in which a sample passes them: "before", "warp" and "augment" are operations on pixels before the
# resampling, maps that are not parallel to the axes, and operations behind, with the store of their images;
# "lambda" is the user's own functions, "wait" the user's thread waiting for a batch.
STAGES: Final = ("plan", "read", "decode", "before", "resize", "warp", "augment", "lambda", "wait")


# Spans (stage, seconds, items) and counters (name, number).
Amounts: TypeAlias = tuple[Sequence[tuple[str, float, int]], Sequence[tuple[str, int]]]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Time that one stage took, summed over threads.

    Attributes:
        seconds: Wall seconds inside the stage, summed over all threads.
        items: How many samples (or, for wait, batches) passed it.
    """

    seconds: float
    items: int


class Stats:
    """Counters and spans; every method may be called from any thread.

    Threads that work without the interpreter's lock add nothing while they work: what they have done is read from
    them when somebody asks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: Counter[str] = Counter()
        self._items: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._sources: list[Callable[[], Amounts]] = []

    def add(self, stage: str, seconds: float, items: int) -> None:
        """Adds one span of ``stage`` (one of STAGES)."""
        with self._lock:
            self._seconds[stage] += seconds  # type: ignore[assignment]
            self._items[stage] += items

    def include(self, source: Callable[[], Amounts]) -> None:
        """From now on what ``source`` answers belongs to the sums: all that was done since it began."""
        with self._lock:
            self._sources.append(source)

    def conclude(self, source: Callable[[], Amounts]) -> None:
        """``source`` will do no more: what it answers now is kept, and it is not asked again."""
        with self._lock:
            self._sources.remove(source)
            _add(source(), self._seconds, self._items, self._counts)

    def count(self, name: str, number: int = 1) -> None:
        """Adds to a named counter: ``decoder.turbo``, ``bytes.read`` and the like."""
        with self._lock:
            self._counts[name] += number

    def spans(self) -> dict[str, Span]:
        """All stages that were passed, in the order of STAGES."""
        seconds, items, _ = self._sums()
        return {stage: Span(seconds=float(seconds[stage]), items=items[stage]) for stage in STAGES if items[stage]}

    def counts(self) -> dict[str, int]:
        """All counters by name, sorted."""
        return dict(sorted(self._sums()[2].items()))

    def _sums(self) -> tuple[Counter[str], Counter[str], Counter[str]]:
        with self._lock:
            sums = self._seconds.copy(), self._items.copy(), self._counts.copy()
            for source in self._sources:
                _add(source(), *sums)
        return sums


def _add(amounts: Amounts, seconds: Counter[str], items: Counter[str], counts: Counter[str]) -> None:
    spans, numbers = amounts
    for stage, time, passed in spans:
        seconds[stage] += time  # type: ignore[assignment]
        items[stage] += passed
    for name, number in numbers:
        counts[name] += number
