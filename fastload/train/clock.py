"""Where the time of an epoch goes: seconds, and how many of them the device and the host waited for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Times:
    """What a :class:`Clock` has counted.

    Attributes:
        seconds: Wall seconds.
        wait_seconds: How many of them what computes stood still for want of data: the CUDA device, else the host.
        host_wait_seconds: How many of them the host spent asking for the next batch.
    """

    seconds: float
    wait_seconds: float
    host_wait_seconds: float


class Clock:
    """Counts from when it is made.

    On a CUDA device two events surround each request for a batch, on the stream that computes. The first is reached
    when the device has done all that it was given before; the second when the host has returned with a batch and the
    batch has been copied. What lies between is time for which the device had nothing to do because of data: nearly
    nothing where the host is ahead, however long the host itself waited. Events are read once they have been reached,
    so that no step makes the host wait for the device.

    Args:
        device: What computes.
        make_event: Makes an event with ``record``, ``query`` and ``elapsed_time``; by default a CUDA device's.
    """

    def __init__(self, device: torch.device, *, make_event: Callable[[], Any] | None = None) -> None:
        self._device = device
        if make_event is None and device.type == "cuda":
            make_event = _cuda_event
        self._make_event = make_event
        self._free: list[Any] = []
        self._pending: deque[tuple[Any, Any]] = deque()
        self._device_wait = self._host_wait = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting; a batch is asked for there."""
        before = time.perf_counter()
        begin = self._record()
        try:
            yield
        finally:
            self._host_wait += time.perf_counter() - before
            end = self._record()
            if begin is not None:
                self._pending.append((begin, end))

    def read(self) -> Times:
        """What has been counted so far; of the device, what it has come to so far. Does not wait."""
        while self._pending and self._pending[0][1].query():
            begin, end = self._pending.popleft()
            self._device_wait += begin.elapsed_time(end) / 1000
            self._free += (begin, end)
        return Times(
            seconds=time.perf_counter() - self._started,
            wait_seconds=self._host_wait if self._make_event is None else self._device_wait,
            host_wait_seconds=self._host_wait,
        )

    def read_when_idle(self) -> Times:
        """As :meth:`read`, once the device has done what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self.read()

    def _record(self) -> Any:
        if self._make_event is None:
            return None
        event = self._free.pop() if self._free else self._make_event()
        event.record()
        return event


def _cuda_event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
