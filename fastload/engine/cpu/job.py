"""A submitted request on its way through the threads: planned, worked on, finished or given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.base import Failure, Request
from fastload.engine.cpu.decode import PROVEN
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.deliver import Items
from fastload.engine.cpu.kernels.layout import PARAMETERS, Slot, flat_slot
from fastload.engine.cpu.region import find_regions
from fastload.engine.requests import check_request

# Whether this machine runs the kernel that reads and decodes by itself.
KERNEL_READS: Final = PROVEN and system.AVAILABLE


@dataclass(eq=False)
class Job:
    """State of one request. All but the pixels is read and written under the engine's lock.

    Attributes:
        plan: The caller's planning function.
        images: The slot.
        work: The planned work, None before.
        next_item: int64 (1,), first item that no thread has taken.
        in_flight: Threads that plan it or work on it at this moment.
        stop: int64 (1,), 1 where no more work is to begin: cancelled, closed, or failed. Threads look at it between two
            images.
        error: What ``result()`` raises.
        finished: Nothing is in flight, and nothing will be.
    """

    plan: Callable[[], Request]
    images: NDArray[Any]
    work: Work | None = None
    next_item: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    in_flight: int = 0
    stop: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    error: BaseException | None = None
    failures: list[Failure] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def stopped(self) -> bool:
        return bool(self.stop[0])

    @property
    def taken(self) -> bool:
        """Whether there is nothing left for another thread to take."""
        return self.work is not None and int(self.next_item[0]) >= self.work.count

    def take(self) -> int | None:
        """The next item, for a thread that works in Python; None where there is nothing more to do."""
        with self._lock:
            if self.work is None or self.taken or self.stopped:
                return None
            item = int(self.next_item[0])
            self.next_item[0] = item + 1
            return item


@dataclass(frozen=True, eq=False)
class Work:
    """A request, checked and laid out for the kernels.

    Attributes:
        ids: int64 (n,), sample number of each item.
        rows: int64 (n,), its row of the slot.
        parameters: float64 (n, PARAMETERS), one row per item (see kernels/layout.py).
        regions: int64 (n, 4), top, left, height and width of the source pixels that each item needs.
        items: The same for the kernel that reads by itself; None where the data set does not say where files are.
        memory: Keeps what ``items`` points to.
        most_bytes, most_pixels: Of the files and the regions.
        slot: The slot as the kernels take it.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    parameters: NDArray[np.float64]
    regions: NDArray[np.int64]
    items: Items | None
    memory: object
    most_bytes: int
    most_pixels: int
    slot: Slot

    @property
    def count(self) -> int:
        return len(self.ids)


def lay_out(request: Request, job: Job, output: Output, dataset: Dataset) -> Work:
    """Checks what was planned for a job and arranges it for the kernels; ConfigError names what is wrong with it."""
    check_request(request, len(job.images), output, dataset)
    draws, rows, images = request.draws, request.rows, job.images
    count = len(rows)
    parameters = np.empty((count, PARAMETERS), np.float64)
    parameters[:, :4], parameters[:, 4:6], parameters[:, 6:8] = draws.box, draws.grid, draws.window[:, :2]
    parameters[:, 8] = draws.flip
    ids, rows = (np.ascontiguousarray(numbers, np.int64) for numbers in (draws.ids, rows))
    regions = find_regions(parameters, output)
    items, plan = None, dataset.plan_reads(ids) if KERNEL_READS else None
    if plan is not None:
        items = Items(rows, parameters, regions, plan.reads, np.zeros(count, np.uint8), job.next_item)
    widths, most_bytes = regions[:, 3], 0
    if plan is not None:  # of bare pixels, whole rows are read, and nothing else
        widths = np.maximum(widths, plan.reads.raw[:, 1])
        most_bytes = int(plan.reads.size.max(initial=0, where=plan.reads.raw[:, 0] == 0))
    return Work(
        ids=ids,
        rows=rows,
        parameters=parameters,
        regions=regions,
        items=items,
        memory=plan.memory if plan is not None else None,
        most_bytes=most_bytes,
        most_pixels=int((regions[:, 2] * widths).max(initial=0)),
        slot=flat_slot(images),
    )
