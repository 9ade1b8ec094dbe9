"""One pass over an epoch: keeps the engine busy ahead of the user, hands batches over in order, and ends cleanly."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

from fastload.batch import Batch
from fastload.errors import FastloadError
from fastload.loader.flight import Flight
from fastload.loader.ledger import Ledger
from fastload.loader.machinery import Keeper
from fastload.loader.plan import EpochPlan
from fastload.stats import Stats


class EpochIterator:
    """Batches ``first_batch`` to the end of an epoch. Ends its threads when it is closed, dropped, or fails.

    Args:
        plan: What the batches are.
        first_batch: Where to begin.
        keeper: Holds what reads them; left alone at the regular end of the epoch, so that the next one starts warm, and
            closed at any other.
        prefetch: Batches that each engine works on while the user works on one.
        replace: Whether a sample that cannot be delivered is replaced; else it is an error.
        stats: Where time is accounted for.
        ledger: Where samples are accounted for.
        move_to: Called with the (epoch, batch) at which a resumed run would go on, before each batch is handed over
            and at the end of the epoch.
    """

    def __init__(
        self,
        plan: EpochPlan,
        *,
        first_batch: int,
        keeper: Keeper,
        prefetch: int,
        replace: bool,
        stats: Stats,
        ledger: Ledger,
        move_to: Callable[[int, int], None],
    ) -> None:
        self._plan = plan
        self._keeper = keeper
        self._process = os.getpid()
        self._replace = replace
        self._stats = stats
        self._ledger = ledger
        self._move_to = move_to
        self._num_batches = plan.batches.num_batches
        self._next_to_submit = first_batch
        self._next_to_hand_over = first_batch
        self._handed_over_at = perf_counter()
        self._prefetch = prefetch
        self._flights: deque[Flight] = deque()
        self._started: deque[tuple[Flight, Any] | BaseException] = deque()
        self._ended: str | None = None
        self._expectation = plan.dataset.expect(plan.coming(first_batch))

    @property
    def ended(self) -> bool:
        """Whether it delivers no more."""
        return self._ended is not None

    def __iter__(self) -> EpochIterator:
        return self

    def __len__(self) -> int:
        """Batches that are left."""
        return self._num_batches - self._next_to_hand_over

    def __next__(self) -> Batch:
        if self._ended is not None:
            if self._ended:
                raise FastloadError(self._ended)
            raise StopIteration
        if self._process != os.getpid():
            raise FastloadError(
                f"this iterator was begun in process {self._process}, whose threads do not exist in its forked "
                f"child {os.getpid()}: begin a new one there with iter(loader)"
            )
        try:
            return self._advance()
        except StopIteration:
            self._ended = ""
            raise
        except BaseException:  # KeyboardInterrupt included: whatever ends the iteration ends its threads
            self.close()
            raise

    def _advance(self) -> Batch:
        if self._next_to_hand_over == self._num_batches:
            self._ledger.close()
            self._expectation.close()
            self._move_to(self._plan.epoch + 1, 0)
            raise StopIteration
        delivery = self._keeper.in_use.delivery
        for lane in self._keeper.in_use.lanes:
            lane.slots.reclaim()
        wanted = min(1 + delivery.lookahead, len(self))
        prefetch = self._prefetch * len(self._keeper.in_use.lanes)
        while len(self._started) < wanted:
            # The next one before this one is waited for, so that the engine goes on while this one is handed over. On
            # the way to a device a batch is ahead as it is, and its slot is still being copied.
            self._submit_ahead(prefetch + (delivery.lookahead == 0))
            self._started.append(self._start_next())
        self._submit_ahead(prefetch)
        started = self._started.popleft()
        if isinstance(started, BaseException):
            raise started
        flight, ticket = started
        self._account(flight)
        batch = self._plan.mix(delivery.finish(ticket), flight.index)
        self._ledger.enter(expected=flight.expected, skipped=flight.skipped)
        self._next_to_hand_over += 1
        self._move_to(self._plan.epoch, self._next_to_hand_over)
        return batch

    def _account(self, flight: Flight) -> None:
        """Slots become more where batches come late for want of one."""
        now = perf_counter()
        if flight.lane.shortage.note(flight.lost, now - self._handed_over_at):
            flight.lane.slots.grow()
        self._handed_over_at = now

    def _submit_ahead(self, wanted: int) -> None:
        while len(self._flights) < wanted and self._next_to_submit < self._num_batches:
            lane = self._keeper.in_use.lane(self._next_to_submit)
            self._flights.append(Flight(self._next_to_submit, self._plan, lane, stats=self._stats))
            self._next_to_submit += 1

    def _start_next(self) -> tuple[Flight, Any] | Exception:
        """The next flight, landed and on its way to the user; or its error, which is raised when its turn comes."""
        flight = self._flights.popleft()
        try:
            flight.land(replace=self._replace)
        except Exception as error:
            return error
        return flight, self._keeper.in_use.delivery.start(flight)

    def close(self, reason: str = "") -> None:
        """Ends the iteration: nothing more is delivered, threads end, slots that nobody sees are freed.

        Args:
            reason: What ``next()`` says from now on; without one it says that there are no more batches.
        """
        if self._ended is None:
            self._ended = reason
            self._expectation.close()  # nobody waits for bytes any more
            self._keeper.close()
            self._flights.clear()
            self._started.clear()

    def __del__(self) -> None:
        # An attribute may be missing where __init__ was interrupted.
        if getattr(self, "_ended", "") is None:
            self._ended = ""
            if hasattr(self, "_expectation"):
                self._expectation.close()
            self._keeper.close_from_anywhere()
