"""The engine contract: sample numbers and drawn parameters in, one filled batch slot out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws


class Request:
    """Work for an engine: fill row ``rows[i]`` of a slot with sample ``ids[i]``.

    Args:
        rows: int64 (n,), distinct rows of the slot.
        draws: Parameters of the n samples; with several views of each, those of a sample one after the other.

    Attributes:
        count: n.
        among: The requests that it was planned with, if there are any: an engine may prepare them together, and need
            not ask for its own rows and draws.
        first: Where among their samples its own begin.
    """

    __slots__ = ("_draws", "_rows", "among", "count", "first")

    def __init__(self, *, rows: NDArray[np.int64], draws: Draws) -> None:
        self._rows: NDArray[np.int64] | None = rows
        self._draws: Draws | None = draws
        self.count = len(rows)
        self.among: Requests | None = None
        self.first = 0

    @classmethod
    def part(cls, among: Requests, first: int, count: int) -> Request:
        """``count`` of the samples of ``among``; row i is row i of the slot."""
        request = cls.__new__(cls)
        request._rows = request._draws = None
        request.among, request.first, request.count = among, first, count
        return request

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the slot, int64 (n,)."""
        if self._rows is None:
            self._rows = np.arange(self.count, dtype=np.int64)
        return self._rows

    @property
    def draws(self) -> Draws:
        """Parameters of the samples."""
        if self._draws is None:
            assert self.among is not None
            views = self.among.views
            self._draws = self.among.draws.rows(slice(self.first * views, (self.first + self.count) * views))
        return self._draws

    @property
    def ids(self) -> NDArray[np.int64]:
        """Sample numbers, int64 (n,)."""
        if self.among is not None:
            views = self.among.views
            return self.among.draws.ids[self.first * views : (self.first + self.count) * views : views]
        return self.draws.ids[:: max(1, len(self.draws.ids) // max(1, self.count))]


@dataclass(frozen=True, eq=False, kw_only=True)
class Requests:
    """Requests that were planned together. Row i of each is row i of its slot.

    Attributes:
        draws: Parameters of all their samples, one request after the other.
        starts: Where among the samples each request begins, and the end of the last.
        views: Views of each sample.
    """

    draws: Draws
    starts: tuple[int, ...]
    views: int = 1

    def __getitem__(self, place: int) -> Request:
        first, end = self.starts[place : place + 2]
        return Request.part(self, first, end - first)

    def rows(self) -> NDArray[np.int64]:
        """The row of each sample in the slot of its request: int64, (samples,)."""
        starts = np.array(self.starts, np.int64)
        rows: NDArray[np.int64] = np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
        return rows


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One sample that could not be delivered; its row of the slot holds no defined pixels.

    Attributes:
        row: Row of the slot.
        sample_id: Number of the sample.
        key: Name of the sample.
        path: File or shard that it lies in.
        reason: Why, in one sentence.
    """

    row: int
    sample_id: int
    key: str
    path: str
    reason: str


class OpenSlot:
    """A slot without memory, for an engine that leaves its images where it made them (on a device).

    Attributes:
        images: None before; then rows x ``Output.shape``, for ``torch.from_dlpack``. bfloat16 may come as float32:
            not every engine has it.
    """

    __slots__ = ("images",)

    def __init__(self) -> None:
        self.images: Any = None


class LateSlot:
    """A slot that is taken when the first image is to be written to it: planning needs none.

    Args:
        rows: Rows of it that belong to the request.
        take: Gives the whole slot, or None where none is to be had now; called with True it makes one.

    Attributes:
        whole: The whole slot; None before it was taken.
    """

    __slots__ = ("_take", "rows", "whole")

    def __init__(self, rows: int, take: Callable[[bool], NDArray[Any] | None]) -> None:
        self.rows = rows
        self._take = take
        self.whole: NDArray[Any] | None = None

    def claim(self, *, at_once: bool) -> NDArray[Any] | None:
        """The rows of the slot; None where none is free and ``at_once`` does not insist. For one thread at a time."""
        if self.whole is None:
            self.whole = self._take(at_once)
        return None if self.whole is None else self.whole[: self.rows]


class Pending(Protocol):
    """A request that an engine works on.

    Attributes:
        starved: Seconds for which it could have been worked on but for its slot; known with the result.
    """

    @property
    def starved(self) -> float: ...

    def result(self) -> tuple[Failure, ...]:
        """Waits until every row of the request holds its pixels or is named in a failure (ordered by row).

        Raises what the planning function raised, or what broke the engine itself.
        """
        ...

    def cancel(self) -> None:
        """Gives up work that has not begun and waits for what has; the slot may be reused afterwards."""
        ...


class Engine(ABC):
    """Turns requests into pixels. Owns no order and no randomness; one per Loader.

    The slot's image array is what ``Output`` says: rows x ``Output.shape`` (NHWC or NCHW), C-contiguous, of uint8,
    float16, float32, or uint16 holding bfloat16 bits. An engine on a device takes an OpenSlot in its place.
    """

    name: str

    @abstractmethod
    def submit(self, plan: Callable[[], Request], images: NDArray[Any] | OpenSlot | LateSlot) -> Pending:
        """Starts work on one slot and returns at once.

        A LateSlot is claimed when it is needed, and insisted on once somebody waits for the result.

        ``plan`` is called exactly once, in one of the engine's threads (it may read image headers); requests are
        served in the order in which they were submitted.
        """

    def waker(self) -> Callable[[], None]:
        """What is to be called, in any thread, when a slot has come back; it does not keep the engine alive."""
        return _nothing

    @abstractmethod
    def close(self) -> None:
        """Cancels what is pending and ends every thread before it returns. Safe to call twice."""


def _nothing() -> None:
    """An engine that takes its slots at once waits for none."""
