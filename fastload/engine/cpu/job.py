"""A submitted request on its way through the threads: planned, worked on, finished or given up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws, Output
from fastload.dataset.base import Dataset
from fastload.dataset.reads import ReadPlan
from fastload.engine.base import Failure, LateSlot, Request, Requests
from fastload.engine.cpu.decode import PROVEN
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.augment import BEFORE_BEGIN, BEFORE_END, Extras
from fastload.engine.cpu.kernels.deliver import END_ITEM, NEXT_ITEM, SLOT_ADDRESS, STOP, TASK, Items
from fastload.engine.cpu.kernels.layout import PARAMETERS, Slot, flat_slot
from fastload.engine.cpu.programs import NO_EXTRAS, compile_operations, lay_out_extras, needs_whole_image, studio_needs
from fastload.engine.cpu.region import find_regions, share_regions
from fastload.engine.requests import check_draws, check_request
from fastload.errors import FastloadError

# Whether this machine runs the kernel that reads and decodes by itself.
KERNEL_READS: Final = PROVEN and system.AVAILABLE


@dataclass(eq=False)
class Job:
    """State of one request. All but the pixels is read and written under the engine's lock.

    Attributes:
        plan: The caller's planning function.
        late: Its slot, which is taken when it is to be worked on.
        work: The planned work, None before.
        in_flight: Threads that plan it or work on it at this moment.
        task: int64 (TASK,), what the kernel knows of it. It is stopped where no more work is to begin: cancelled,
            closed, or failed; threads look at that between two images.
        error: What ``result()`` raises.
        finished: Nothing is in flight, and nothing will be.
        pressed: Somebody waits for it: it gets a slot whatever others hold.
        starved: Seconds for which a thread would have begun with it, had there been a slot.
    """

    plan: Callable[[], Request]
    late: LateSlot
    work: Work | None = None
    in_flight: int = 0
    task: NDArray[np.int64] = field(default_factory=lambda: np.zeros(TASK, np.int64))
    error: BaseException | None = None
    failures: list[Failure] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event)
    pressed: bool = False
    starved: float = 0.0
    _starving_since: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def stopped(self) -> bool:
        return self.task.item(STOP) != 0

    @property
    def taken(self) -> bool:
        """Whether there is nothing left for another thread to take."""
        return self.work is not None and self.task.item(NEXT_ITEM) >= self.work.end

    @property
    def begun(self) -> bool:
        """Whether an item of planned work was taken."""
        return self.work is not None and self.task.item(NEXT_ITEM) > self.work.first

    def seat(self, work: Work) -> bool:
        """Gives planned work its slot, if it has none yet; whether it has one now."""
        if work.images is not None:
            return True
        images = self.late.claim(at_once=self.pressed)
        if images is None:
            self._starving_since = self._starving_since or perf_counter()
            return False
        if self._starving_since is not None:
            self.starved = perf_counter() - self._starving_since
        work.images = images
        self.task[SLOT_ADDRESS:] = images.__array_interface__["data"][0], images.size, len(images)
        return True

    def take(self) -> int | None:
        """The next item, for a thread that works in Python; None where there is nothing more to do."""
        with self._lock:
            if self.work is None or self.taken or self.stopped:
                return None
            item = self.task.item(NEXT_ITEM)
            self.task[NEXT_ITEM] = item + 1
            return item


@dataclass(frozen=True, eq=False)
class Layout:
    """Samples arranged for the kernels: those of one request, or of all that were planned together; k views of each.

    Attributes:
        draws: What it was made of.
        ids: int64 (n,), sample number of each item.
        rows: int64 (n,), its row of the slot.
        parameters: float64 (n * k, PARAMETERS), one row per view of an item (see kernels/layout.py).
        regions: int64 (n * k, 4), top, left, height and width of the source pixels that are decoded for each.
        plan: Where a kernel reads them by itself; None where the data set does not say where files are.
        items: All of it for that kernel; None without ``plan``.
        most_bytes, most_pixels: Of the files and the regions.
        extras: What is done beside one resampling.
        most_window: Height and width of the largest window.
        most_canvas: Pixels of the largest image that operations work on; 0 where there are none.
        needs: What operations need room for (see ``studio_needs``).
    """

    draws: Draws
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    parameters: NDArray[np.float64]
    regions: NDArray[np.int64]
    plan: ReadPlan | None
    items: Items | None
    most_bytes: int
    most_pixels: int
    extras: Extras
    most_window: tuple[int, int]
    most_canvas: int
    needs: tuple[bool, bool]


@dataclass(eq=False)
class Work:
    """A request, checked and laid out for the kernels: items ``first`` to ``end`` of a layout.

    Attributes:
        layout: Its samples, and those that were planned with them.
        first, end: Which of them are its own.
        images: The slot; None until it is taken.
        held: Keeps open what its samples are read from, where that is not for good.
        waited: Seconds until its samples were here.
    """

    layout: Layout
    first: int
    end: int
    held: object
    waited: float
    images: NDArray[Any] | None = None

    @property
    def slot(self) -> Slot:
        """As the kernels take it."""
        assert self.images is not None
        return flat_slot(self.images)

    @property
    def count(self) -> int:
        return self.end - self.first


class Layouts:
    """Makes work of requests. Those that were planned together are laid out together, by the thread that comes first.

    Numpy takes 0.8 ms to lay out a batch of 64 between kernels that leave nothing in the caches, 9 us an image, and
    not much more for all that were planned with it.
    """

    def __init__(self, output: Output, dataset: Dataset) -> None:
        self._output = output
        self._dataset = dataset
        self._lock = threading.Lock()
        self._latest: deque[Layout] = deque(maxlen=2)

    def arrange(self, request: Request, slot_rows: int, task: NDArray[np.int64]) -> Work:
        """Checks what was planned for a slot of so many rows and arranges it; ConfigError says what is wrong.

        The items are entered into ``task``.
        """
        count, first = request.count, request.first
        layout = None
        if request.among is not None and count <= slot_rows:
            layout = self._layout_of(request.among)
        if layout is None:
            first = 0
            check_request(request, slot_rows, self._output, self._dataset)
            layout = self._lay_out(request.draws, np.ascontiguousarray(request.rows, np.int64))
        task[NEXT_ITEM : END_ITEM + 1] = first, first + count
        held, waited = None, 0.0
        if layout.plan is not None and layout.plan.ready is not None:
            begin = perf_counter()
            held = layout.plan.ready(first, first + count)
            waited = perf_counter() - begin
        return Work(layout, first, first + count, held, waited)

    def _layout_of(self, requests: Requests) -> Layout | None:
        """All that was planned together; None where something in it cannot be laid out, which is then found alone."""
        with self._lock:
            for layout in self._latest:
                if layout.draws is requests.draws:
                    return layout
            rows = requests.rows()
            try:
                check_draws(requests.draws, len(rows) * len(self._output.views), self._output, self._dataset)
                self._latest.append(self._lay_out(requests.draws, rows))
            except FastloadError:
                return None
            return self._latest[-1]

    def _lay_out(self, draws: Draws, rows: NDArray[np.int64]) -> Layout:
        views = self._output.views
        count = len(rows) * len(views)
        parameters = np.empty((count, PARAMETERS), np.float64)
        parameters[:, :4], parameters[:, 4:6], parameters[:, 6:8] = draws.box, draws.grid, draws.window[:, :2]
        parameters[:, 8] = draws.flip
        if draws.flip_vertical is not None:
            parameters[:, 8] += 2.0 * draws.flip_vertical
        ids = np.ascontiguousarray(draws.ids[:: len(views)], np.int64)
        regions = np.empty((count, 4), np.int64)
        for place, view in enumerate(views):
            mine = slice(place, None, len(views))
            regions[mine] = find_regions(parameters[mine], view, draws.window[mine, 2:])
        whole = needs_whole_image(draws.before, count)
        if whole.any():
            sizes = np.maximum(self._dataset.sizes(draws.ids[whole]), 1)
            regions[whole] = np.insert(sizes, 0, np.zeros((2, 1)), axis=1)
        if len(views) > 1:
            share_regions(regions, len(views), self._dataset.is_raw(ids))
        plan = self._dataset.plan_reads(ids) if KERNEL_READS else None
        widths, most_bytes = regions[:, 3], 0
        if plan is not None:  # of bare pixels, whole rows are read, and nothing else
            widths = np.maximum(widths, np.repeat(plan.reads.raw[:, 1], len(views)))
            most_bytes = int(plan.reads.size.max(initial=0, where=plan.reads.raw[:, 0] == 0))
        extras, most_canvas = lay_out_extras(draws), 0
        if extras is not NO_EXTRAS:
            compile_operations()
            most_canvas = int(draws.window[:, 2:].prod(axis=1, dtype=np.int64).max(initial=0))
            most_canvas = max(most_canvas, *(view.height * view.width for view in views))
            early = extras.spans[:, BEFORE_BEGIN] < extras.spans[:, BEFORE_END]
            most_canvas = max(most_canvas, int((regions[:, 2] * widths).max(initial=0, where=early)))
        height, width = (int(side) for side in draws.window[:, 2:].max(axis=0, initial=1))
        items = None
        if plan is not None:
            delivered = np.zeros(len(rows), np.uint8)
            items = Items(rows, parameters, regions, plan.reads, delivered, extras)
        return Layout(
            draws=draws,
            ids=ids,
            rows=rows,
            parameters=parameters,
            regions=regions,
            plan=plan,
            items=items,
            most_bytes=most_bytes,
            most_pixels=int((regions[:, 2] * widths).max(initial=0)),
            extras=extras,
            most_window=(height, width),
            most_canvas=most_canvas,
            needs=studio_needs(extras),
        )
