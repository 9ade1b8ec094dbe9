"""Counters and spans per stage: where the time of a loader went. Cheap enough to be always on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Stages in the order in which a sample passes them: "before", "warp" and "augment" are operations on pixels before the
# resampling, maps that are not parallel to the axes, and operations behind, with the store of their images;
# "lambda" is the user's own functions, "wait" the user's thread waiting for a batch.
STAGES: Final = ("plan", "read", "decode", "before", "resize", "warp", "augment", "lambda", "wait")


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

    Workers add once for each slice of a batch, not once for each image, so that the lock does not show.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: Counter[str] = Counter()
        self._items: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def add(self, stage: str, seconds: float, items: int) -> None:
        """Adds one span of ``stage`` (one of STAGES)."""
        with self._lock:
            self._seconds[stage] += seconds  # type: ignore[assignment]
            self._items[stage] += items

    def enter(self, spans: Iterable[tuple[str, float, int]], counts: Iterable[tuple[str, int]]) -> None:
        """Many spans and counters at once, as ``add`` and ``count`` take them."""
        with self._lock:
            for stage, seconds, items in spans:
                self._seconds[stage] += seconds  # type: ignore[assignment]
                self._items[stage] += items
            for name, number in counts:
                self._counts[name] += number

    def count(self, name: str, number: int = 1) -> None:
        """Adds to a named counter: ``decoder.turbo``, ``bytes.read`` and the like."""
        with self._lock:
            self._counts[name] += number

    def spans(self) -> dict[str, Span]:
        """All stages that were passed, in the order of STAGES."""
        with self._lock:
            return {
                stage: Span(seconds=float(self._seconds[stage]), items=self._items[stage])
                for stage in STAGES
                if self._items[stage]
            }

    def counts(self) -> dict[str, int]:
        """All counters by name, sorted."""
        with self._lock:
            return dict(sorted(self._counts.items()))
