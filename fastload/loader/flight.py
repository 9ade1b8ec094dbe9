"""One batch on its way through an engine, and what becomes of its samples that cannot be delivered."""

from __future__ import annotations

import functools
import time
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastload.engine.base import Failure, OpenSlot, Pending, Request
from fastload.errors import DataError
from fastload.loader.lane import Lane
from fastload.loader.ledger import Skipped
from fastload.loader.plan import EpochPlan
from fastload.loader.target_batch import TargetBatch
from fastload.loader.targets import TargetRow, TargetRows
from fastload.stats import Stats

# With on_error="skip" a sample and this many substitutes may fail in a row. Where that happens it is no longer single
# samples that are damaged: a disk is gone or a path is wrong, and the user must hear of it.
MAX_SUBSTITUTES: Final = 8


Result = TypeVar("Result", covariant=True)


class _Pending(Protocol[Result]):
    """A Pending of an engine, or a Future."""

    def result(self) -> Result: ...


class _Planning:
    """Plans a batch in one of the engine's threads; it does not know the flight, whose slot would live as long."""

    def __init__(self, plan: EpochPlan, index: int) -> None:
        self._plan = plan
        self._index = index
        self.ids: NDArray[np.int64] = np.empty(0, np.int64)
        self.labels: NDArray[np.int64] = np.empty(0, np.int64)
        self.targets: Future[TargetRows] | None = None

    def __call__(self) -> Request:
        request, labels = self._plan.batch(self._index)
        self.ids, self.labels = request.ids.copy(), labels.copy()  # substitutes are entered into them
        if self._plan.targets is not None:
            self.targets = self._plan.targets.start(request)
        return request


class Flight:
    """One batch from its submission to its delivery.

    Attributes:
        index: Number of the batch in the epoch.
        lane: The engine that fills the slot, and where the slot is from.
        valid: bool (n,), False for padding.
        skipped: Samples that were replaced (padding is not accounted for); known once ``land`` has returned.
        targets: What is marked in the images, where somebody asked; known then, too.
        lost: Seconds by which it came later than it would have with one more slot; known then, too.
    """

    def __init__(self, index: int, plan: EpochPlan, lane: Lane, *, stats: Stats) -> None:
        self.index = index
        self.lane = lane
        self.skipped: tuple[Skipped, ...] = ()
        self.targets: TargetBatch | None = None
        self.lost = 0.0
        self._waited = 0.0
        self.valid = plan.batches.valid(index)
        self._planning = _Planning(plan, index)
        self._plan = plan
        self._stats = stats
        # A rank's share of a last batch that is kept may be empty; there is nothing to ask of the engine then.
        self._slot = lane.promise(len(self.valid))
        self._pending: Pending | None = lane.engine.submit(self._planning, self._slot) if len(self.valid) else None

    @property
    def slot(self) -> NDArray[Any] | OpenSlot:
        """The whole slot; rows 0 to len(valid) belong to this batch."""
        if isinstance(self._slot, OpenSlot):
            return self._slot
        self._slot.claim(at_once=True)  # an empty batch has asked no engine for it
        assert self._slot.whole is not None
        return self._slot.whole

    @property
    def images(self) -> NDArray[Any] | OpenSlot:
        """The rows of the slot that belong to this batch."""
        slot = self.slot
        return slot if isinstance(slot, OpenSlot) else slot[: len(self.valid)]

    @property
    def expected(self) -> int:
        """Samples that this batch owes the user."""
        return int(np.count_nonzero(self.valid))

    @property
    def ids(self) -> NDArray[np.int64]:
        """Samples that the rows hold; known once ``land`` has returned."""
        return self._planning.ids

    @property
    def labels(self) -> NDArray[np.int64]:
        """Their labels; known once ``land`` has returned."""
        return self._planning.labels

    def arrived(self) -> int:
        """Waits for the engine; how many rows hold the pixels of their sample."""
        failures = self._wait(self._pending) if self._pending is not None else ()
        return len(self.valid) - len(failures)

    def land(self, *, replace: bool) -> None:
        """Waits until every row holds the pixels of its sample or, if ``replace``, of a substitute.

        Raises:
            DataError: A sample cannot be delivered (or, if ``replace``, neither can MAX_SUBSTITUTES substitutes).
        """
        rows: list[TargetRow] = []
        try:
            if self._pending is not None:
                failures = self._wait(self._pending)
                self.lost = min(self._waited, self._pending.starved)
                if self._planning.targets is not None:
                    targets = self._wait(self._planning.targets)
                    rows, failures = targets.rows, _merged(failures, targets.failures)
                if failures and not replace:
                    raise _as_error(failures)
                if failures:
                    self._substitute(failures, rows)
            if self._plan.targets is not None:
                self.targets = self._plan.targets.assemble(rows)
        finally:
            self._stats.add("wait", self._waited, 1)

    def _wait(self, pending: _Pending[Result]) -> Result:
        begin = time.perf_counter()
        try:
            return pending.result()
        finally:
            self._waited += time.perf_counter() - begin

    def _substitute(self, originals: tuple[Failure, ...], targets: list[TargetRow]) -> None:
        """Tries substitutes for all failed rows together, until each row holds one; rows that hold theirs stay."""
        missing = {failure.row: failure for failure in originals}
        entries: dict[int, Skipped] = {}
        for attempt in range(MAX_SUBSTITUTES):
            rows = np.array(sorted(missing), np.int64)
            ids = np.array([self._plan.substitute(missing[row].sample_id, attempt) for row in rows.tolist()], np.int64)
            self.ids[rows], self.labels[rows] = ids, self._plan.dataset.labels(ids)
            request = self._plan.request(self.index, rows, ids)
            failures = self._wait(self.lane.engine.submit(functools.partial(_given, request), self.images))
            if self._plan.targets is not None:
                found = self._plan.targets.read(request)
                failures = _merged(failures, found.failures)
                for row, target in zip(rows.tolist(), found.rows, strict=True):
                    targets[row] = target
            failed = {failure.row for failure in failures}
            for row in rows.tolist():
                if row not in failed:
                    entries[row] = self._as_skipped(missing.pop(row))
            if not missing:
                # Padding was delivered, or replaced, where it counts; here it is nobody's loss.
                self.skipped = tuple(entries[row] for row in sorted(entries) if self.valid[row])
                return
        worst = missing[min(missing)]
        raise DataError(
            f"{worst.reason}; {MAX_SUBSTITUTES} other samples that were tried in its place cannot be read either, so "
            "more than single samples are damaged: check the storage and run `fastload verify`",
            path=worst.path,
            key=worst.key,
        )

    def _as_skipped(self, failure: Failure) -> Skipped:
        substitute = int(self.ids[failure.row])
        return Skipped(
            sample_id=failure.sample_id,
            key=failure.key,
            path=failure.path,
            reason=failure.reason,
            replacement_id=substitute,
            replacement_key=self._plan.dataset.key(substitute),
            batch=self.index,
        )


def _given(request: Request) -> Request:
    return request


def _merged(first: tuple[Failure, ...], second: tuple[Failure, ...]) -> tuple[Failure, ...]:
    """One failure for each row, ordered by row."""
    by_row = {failure.row: failure for failure in (*second, *first)}
    return tuple(by_row[row] for row in sorted(by_row))


def _as_error(failures: tuple[Failure, ...]) -> DataError:
    first = failures[0]
    more = f" (and {len(failures) - 1} more of this batch)" if len(failures) > 1 else ""
    return DataError(first.reason + more, path=first.path, key=first.key)
