"""What one thread does: plan a job, or read, decode and resample its images, and account for every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.base import Failure
from fastload.engine.cpu.decode import Decoded, decode, decode_all
from fastload.engine.cpu.job import KERNEL_READS, Job, Layout, Layouts, Work
from fastload.engine.cpu.kernels.augment import (
    AFTER_BEGIN,
    ALL,
    BEFORE_BEGIN,
    BEFORE_END,
    CLOCK_WORDS,
    NEEDS_PYTHON,
    SAMPLE,
    SPECIAL,
    STORE,
    TIMES,
    Picture,
    augment_image,
)
from fastload.engine.cpu.kernels.deliver import (
    ANSWER_BITS,
    ANSWER_CHECKED,
    ANSWER_LEFT,
    ANSWER_SLOW,
    FRAME,
    Items,
    Share,
    deliver_items,
    find_entries,
    freeze_share,
    read_left,
)
from fastload.engine.cpu.kernels.entries import ENTRY_AUGMENT
from fastload.engine.cpu.kernels.layout import (
    BUFFER_TOO_SMALL,
    DONE,
    REGION_TOO_SMALL,
    Constants,
    Slot,
    make_constants,
    slot_rows,
    stack_constants,
    view_starts,
)
from fastload.engine.cpu.kernels.program import copy_in, copy_out
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.cpu.programs import NO_EXTRAS, run_with_functions
from fastload.engine.cpu.read_ahead import ReadAhead
from fastload.engine.cpu.spent import Spent
from fastload.engine.cpu.workspace import Workspace
from fastload.errors import DataError
from fastload.stats import Stats


@dataclass(frozen=True)
class _View:
    """One view of an item: its place among all, where it goes, and whether the pixels of the view before it serve."""

    place: int
    row: int
    constants: Constants
    slot: Slot
    shares: bool


class Worker:
    """The part of a thread that knows pixels; it owns the thread's memory."""

    def __init__(self, dataset: Dataset, output: Output, stats: Stats, layouts: Layouts, ahead: ReadAhead) -> None:
        self._dataset = dataset
        self._output = output
        self._stats = stats
        self._layouts = layouts
        self._ahead = ahead
        self._workspace = Workspace(output)
        self._views = [make_constants(view) for view in output.views]
        self._constants = stack_constants(output)
        self._entries = find_entries() if KERNEL_READS else np.zeros(0, np.int64)
        self._spent = Spent(self._workspace.tally)
        self._frame = np.zeros(FRAME, np.int64)
        # What the frame points to, and so keeps it, whatever becomes of the workspace.
        self._laid_down: tuple[Layout, Share] | None = None
        stats.include(self._spent.amounts)

    def plan(self, job: Job) -> Work:
        """Calls the job's planning function and checks what it planned."""
        begin = perf_counter()
        work = self._layouts.arrange(job.plan(), job.late.rows, job.task)
        self._spent.plan += perf_counter() - begin - work.waited
        self._spent.planned += work.count
        self._spent.read += work.waited
        if work.layout.items is not None:
            self._spent.read += self._ahead.ask(work.layout.items.reads, work.first, work.end)
        return work

    def run(self, job: Job) -> int:
        """Delivers items of a planned job until none is left; what cannot be delivered goes to ``job.failures``.

        Returns how many it had.
        """
        work, count = job.work, 0
        assert work is not None
        if work.layout.items is None:
            self._prepare(work.layout)
            for item in iter(job.take, None):
                self._try(job, work, item)
                count += 1
            return count
        while True:
            self._lay_down(work.layout, work.layout.items)
            answer: int = deliver_items(self._frame, job.task)
            count += answer >> ANSWER_BITS
            if answer & ANSWER_SLOW:
                self._ahead.begin()
            if answer & ANSWER_CHECKED:
                self._note_checked(work, work.layout.items)
            if not answer & ANSWER_LEFT:
                return count
            self._laid_down = None  # memory may grow, and the kernel is to have it
            for item in read_left(self._workspace.tally):
                self._try(job, work, item)
                count += 1

    def close(self) -> None:
        """Says farewell to the statistics."""
        self._stats.conclude(self._spent.amounts)

    def _lay_down(self, layout: Layout, items: Items) -> None:
        """Takes a layout apart for the kernel, unless that was done for the batch before."""
        if self._laid_down is not None and self._laid_down[0] is layout:
            return
        self._prepare(layout)
        self._workspace.reserve(layout.most_bytes, layout.most_pixels)
        share = Share(items, self._constants, self._workspace.memory(), self._entries)
        freeze_share(share, self._frame)
        self._laid_down = layout, share

    def _prepare(self, layout: Layout) -> None:
        """Memory and kernels for what a layout asks for beside one resampling."""
        if layout.extras is NO_EXTRAS:
            return
        floats, kept = layout.needs
        self._workspace.reserve_studio(layout.most_window, layout.most_canvas, floats=floats, kept=kept)
        if self._entries.size <= ENTRY_AUGMENT:
            self._entries = find_entries(augmented=True)

    def tend(self, *, busy: bool) -> bool:
        """See Dataset.tend."""
        return self._dataset.tend(busy=busy)

    def _note_checked(self, work: Work, items: Items) -> None:
        """What the kernel compared with its checksum; perhaps another thread's too, which does no harm."""
        own = slice(work.first, work.end)
        good = (items.delivered[own] & items.reads.check[own]) != 0
        self._dataset.note_checked(work.layout.ids[own][good])

    def _try(self, job: Job, work: Work, item: int) -> None:
        if job.stopped:
            return
        self._spent.items += 1
        try:
            self._deliver(work, item)
        except (DataError, OSError) as error:
            job.failures.append(self._failure(work, item, error))

    def _deliver(self, work: Work, item: int) -> None:
        """Delivers one item with Python between the steps: any format, any size, and an error for what is wrong."""
        workspace, sample_id = self._workspace, int(work.layout.ids[item])
        start = perf_counter()
        if self._dataset.is_raw(work.layout.ids[item : item + 1])[0]:
            self._deliver_raw(work, item)
            return
        size = int(self._dataset.num_bytes(work.layout.ids[item : item + 1])[0])
        num_bytes = self._dataset.read_into(sample_id, workspace.reserve_encoded(size))
        self._spent.read += perf_counter() - start
        for view in self._views_of(work, item):
            read = perf_counter()
            if not view.shares:
                region = work.layout.regions[view.place].tolist()
                result = decode(num_bytes, self._dataset.seek_index(sample_id), region, workspace)
            decoded = perf_counter()
            self._spent.decode += decoded - read
            status = self._resample(work, view, result)
            if status == REGION_TOO_SMALL:  # not seen; the whole image then is enough, for the views behind as well
                result = decode_all(num_bytes, workspace)
                status = self._resample(work, view, result)
            self._spent.resize += perf_counter() - decoded
            self._check(work, view, result, status)
        self._spent.bytes += num_bytes
        self._spent.refused += result.refused
        self._spent.decoders[result.decoder] += 1

    def _deliver_raw(self, work: Work, item: int) -> None:
        """The same for bare pixels, of which only the rows that are needed are read."""
        workspace, start = self._workspace, perf_counter()
        height, width = self._dataset.sizes(work.layout.ids[item : item + 1])[0].tolist()
        # All views share what is read of bare pixels, but one that was worked on before it was sampled.
        top, _, rows, _ = work.layout.regions[item * len(self._views)].tolist()
        self._dataset.read_rows(int(work.layout.ids[item]), top, rows, workspace.reserve_pixels(rows, width))
        self._spent.read += perf_counter() - start
        result = Decoded(height, width, (top, 0, rows, width), "raw")
        for view in self._views_of(work, item):
            read = perf_counter()
            if not view.shares and view.place % len(self._views):
                self._dataset.read_rows(int(work.layout.ids[item]), top, rows, workspace.pixels)
            status = self._resample(work, view, result)
            self._spent.resize += perf_counter() - read
            self._check(work, view, result, status)
        self._spent.bytes += 3 * rows * width
        self._spent.decoders["raw"] += 1

    def _views_of(self, work: Work, item: int) -> Iterator[_View]:
        """The views of one item, one after the other."""
        layout, slot = work.layout, work.slot
        starts = view_starts(self._output, slot_rows(slot, self._output)).tolist()
        for number, (constants, start) in enumerate(zip(self._views, starts, strict=True)):
            place = item * len(self._views) + number
            shares = number > 0 and bool((layout.regions[place] == layout.regions[place - 1]).all())
            if shares and layout.extras is not NO_EXTRAS:  # pixels that were worked on are no longer those of the file
                spans = layout.extras.spans[place - 1]
                shares = bool(spans[BEFORE_BEGIN] >= spans[BEFORE_END])
            block = Slot(slot.bytes1[start:], slot.bytes2[start:], slot.bytes4[start:])
            yield _View(place, int(layout.rows[item]), constants, block, shares)

    def _check(self, work: Work, view: _View, result: Decoded, status: int) -> None:
        if status != DONE:
            box = ", ".join(f"{number:g}" for number in work.layout.parameters[view.place][:4])
            raise DataError(
                f"the image has {result.image_width} x {result.image_height} pixels, its box ({box}) (top, left, "
                "height, width) lies outside: the index does not fit the file"
            )

    def _resample(self, work: Work, view: _View, decoded: Decoded) -> int:
        workspace = self._workspace
        extras = work.layout.extras
        if extras is not NO_EXTRAS and extras.spans[view.place, SPECIAL]:
            return self._augment(work, view, decoded)
        return resample_image(
            workspace.pixels,
            decoded.image_height,
            decoded.image_width,
            *decoded.region,
            work.layout.parameters[view.place],
            view.constants,
            view.slot,
            view.row,
            workspace.scratch,
        )

    def _augment(self, work: Work, view: _View, decoded: Decoded) -> int:
        """The same for an image with more to do than one resampling."""
        workspace, layout = self._workspace, work.layout
        _, _, height, width = decoded.region
        if layout.extras.spans[view.place, BEFORE_BEGIN] < layout.extras.spans[view.place, BEFORE_END]:
            floats, kept = layout.needs
            workspace.reserve_studio(layout.most_window, height * width, floats=floats, kept=kept)
        times = np.zeros(TIMES + CLOCK_WORDS, np.int64)

        def steps(which: int) -> int:
            status: int = augment_image(
                which,
                Picture(workspace.pixels, decoded.image_height, decoded.image_width, *decoded.region),
                view.place,
                layout.parameters,
                layout.extras,
                view.constants,
                view.slot,
                view.row,
                workspace.scratch,
                workspace.studio,
                self._entries,
                times,
            )
            return status

        status = steps(ALL)
        if status == NEEDS_PYTHON:
            status = self._augment_in_python(layout, view, decoded, steps)
        self._spent.add_times(times[:TIMES].tolist())
        self._spent.resize -= times[:TIMES].sum() * 1e-9
        return status

    def _augment_in_python(self, layout: Layout, view: _View, decoded: Decoded, steps: Callable[[int], int]) -> int:
        """The same where functions of the user stand between the operations; ``steps`` does some of the rest."""
        workspace, extras, draws = self._workspace, layout.extras, layout.draws
        before, after = extras.spans[view.place, BEFORE_BEGIN : BEFORE_END + 1], extras.spans[view.place, AFTER_BEGIN:]
        _, _, height, width = decoded.region
        good, seconds, more = True, 0.0, 0.0
        if before[0] < before[1]:
            copy_in(workspace.pixels, height * width, workspace.studio)
            span, size = (int(before[0]), int(before[1])), (height, width)
            good, seconds = run_with_functions(extras, span, size, draws.functions, workspace.studio)
            copy_out(workspace.studio, height * width, workspace.pixels)
        status = steps(SAMPLE)
        if good and status == DONE:
            output = self._output.views[view.place % len(self._views)]
            span, size = (int(after[0]), int(after[1])), (output.height, output.width)
            good, more = run_with_functions(extras, span, size, draws.functions, workspace.studio)
            status = steps(STORE)
        self._spent.functions += seconds + more
        self._spent.resize -= seconds + more
        return status if good else BUFFER_TOO_SMALL

    def _failure(self, work: Work, item: int, error: DataError | OSError) -> Failure:
        sample_id = int(work.layout.ids[item])
        if isinstance(error, DataError):
            reason = error.reason
        else:
            reason = f"the image cannot be read ({error})"
        return Failure(
            row=int(work.layout.rows[item]),
            sample_id=sample_id,
            key=self._dataset.key(sample_id),
            path=self._dataset.location(sample_id),
            reason=reason,
        )
