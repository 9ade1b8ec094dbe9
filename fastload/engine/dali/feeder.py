"""The thread of a DALI engine: plans, has samples read, feeds the pipeline, and delivers what comes out, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.base import Failure, OpenSlot, Request
from fastload.engine.dali.delivery import Deliverer
from fastload.engine.dali.flight import Flight, Job, make_flight, regions_of, views_of
from fastload.engine.dali.graph import DEPTH, BatchRefused, Form, Graph
from fastload.engine.dali.probe import regions_are_exact
from fastload.engine.dali.samples import Edit, Encoded, as_pixels, edit_sample, read_sample
from fastload.engine.requests import check_request
from fastload.engine.serving import Server
from fastload.errors import DataError, FastloadError
from fastload.stats import Stats


class Feeder(Server[Job]):
    """Serves jobs in order; at most DEPTH of them are in the pipeline."""

    def __init__(
        self,
        dataset: Dataset,
        output: Output,
        num_threads: int,
        device: torch.device | None,
        stats: Stats,
        *,
        operates: bool,
        edit: Edit,
    ) -> None:
        super().__init__()
        self._dataset = dataset
        self._output = output
        self._num_threads = num_threads
        self._device = device
        self._stats = stats
        self._edit = edit
        self._checked = np.full(len(dataset), dataset.proven, np.bool_)
        self._graph: Graph | None = None
        self._form = Form(rows=0, levels=operates)
        self._deliverer = Deliverer(output, device)
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="fastload-dali-read")
        self._threads = [threading.Thread(target=self._serve, name="fastload-dali", daemon=False)]
        self._threads[0].start()

    def _stop(self, job: Job) -> None:
        job.stopped = True
        if not job.begun:
            self._queue.remove(job)
            job.finished.set()

    def _serve(self) -> None:
        flights: deque[Flight] = deque()
        try:
            while True:
                job = self._next(wait=not flights) if len(flights) < DEPTH else None
                if job is not None:
                    self._guard(job, lambda job=job: self._begin(job, flights))  # type: ignore[misc]
                elif flights:
                    self._finish_oldest(flights)
                elif self._dismissed:
                    return
                del job
        finally:
            self._graph = None
            self._pool.shutdown()

    def _finish_oldest(self, flights: deque[Flight]) -> None:
        flight = flights.popleft()
        self._guard(flight.job, lambda: self._finish(flight, flights))
        flight.job.finished.set()

    def _guard(self, job: Job, action: Callable[[], None]) -> None:
        """Whatever breaks belongs to the caller of result(): a thread has nobody else to tell."""
        try:
            action()
        except BaseException as error:
            job.error = job.error or error
            job.finished.set()

    def _next(self, *, wait: bool) -> Job | None:
        """The next job to take up; None when the thread is dismissed or, without ``wait``, when there is none."""
        with self._changed:
            while not self._dismissed:
                if self._queue:
                    job = self._queue.popleft()
                    job.begun = True
                    return job
                if not wait:
                    return None
                # The time limit is for a finalizer that ran in this very thread, just before it began to wait.
                self._changed.wait(timeout=1.0)
        return None

    def _begin(self, job: Job, flights: deque[Flight]) -> None:
        """Plans a job, reads its samples and feeds them."""
        begin = perf_counter()
        request, slot = job.plan(), job.slot
        num_rows = None if isinstance(slot, OpenSlot) else len(slot)
        check_request(request, num_rows, self._output, self._dataset)
        self._stats.add("plan", perf_counter() - begin, len(request.rows))
        draws, views = request.draws, len(self._output.views)
        form = self._form.joined(
            Form(
                rows=len(request.rows) if num_rows is None else num_rows,
                levels=draws.warp is not None or draws.after is not None,
                separate=draws.before is not None and views > 1,
            )
        )
        flight = self._read(job, request, separate=form.separate)
        if job.stopped or not len(flight.rows):
            job.finished.set()
            return
        while flights and form != self._form:  # another pipeline is built, and this one emptied before
            self._finish_oldest(flights)
        try:
            self._running(form).start(flight.sources, flight.arguments)
        except BatchRefused:
            self._rescue([*flights, flight])
            flights.clear()
        else:
            flights.append(flight)

    def _read(self, job: Job, request: Request, *, separate: bool) -> Flight:
        """A request with files for DALI, without the samples that fail."""
        begin = perf_counter()
        draws, ids, count = request.draws, request.ids, len(self._output.views)
        views = views_of(draws, self._output)
        regions = regions_of(views, separate=separate)
        sizes = self._dataset.num_bytes(ids).tolist()

        def read(item: int) -> list[Encoded] | None:
            if job.stopped:
                return None
            sample_id, mine = int(ids[item]), slice(item * count, (item + 1) * count)
            sample = (self._dataset, sample_id, sizes[item], draws.box[mine], [region[item] for region in regions])
            try:
                if draws.before is not None and draws.before.start[mine.start] < draws.before.start[mine.stop]:
                    return edit_sample(*sample, draws.before.rows(mine), draws.functions, self._edit, self._stats)
                return read_sample(*sample, self._checked)
            except (DataError, OSError) as error:
                job.failures.append(self._failure(sample_id, int(request.rows[item]), error))
                return None

        found = list(self._pool.map(read, range(len(ids))))
        good = np.array([item for item, files in enumerate(found) if files is not None], np.int64)
        files = [one for one in found if one is not None]
        self._stats.count("bytes.read", sum(sizes[item] for item in good.tolist()))
        spared = sum(max(sizes[item] - one[0].data.size, 0) for item, one in zip(good.tolist(), files, strict=True))
        if spared:
            self._stats.count("bytes.spared", spared)
        flight = make_flight(job, request, views, regions, good, files)
        self._stats.add("read", perf_counter() - begin, len(ids))
        return flight

    def _failure(self, sample_id: int, row: int, error: DataError | OSError) -> Failure:
        reason = error.reason if isinstance(error, DataError) else f"the image cannot be read ({error})"
        return Failure(
            row=row,
            sample_id=sample_id,
            key=self._dataset.key(sample_id),
            path=self._dataset.location(sample_id),
            reason=reason,
        )

    def _running(self, form: Form) -> Graph:
        """The pipeline of a form; built anew if there is none, or another one."""
        if self._graph is None or self._form != form:
            self._graph, self._form = None, form
            device_id = None if self._device is None else self._device.index or 0
            self._graph = Graph(
                self._output,
                form,
                num_threads=self._num_threads,
                device_id=device_id,
                exact_regions=regions_are_exact(device_id),
            )
        return self._graph

    def _finish(self, flight: Flight, flights: deque[Flight]) -> None:
        """Waits for a flight and puts its images where they belong."""
        assert self._graph is not None
        begin = perf_counter()
        try:
            images = self._graph.collect()
        except BatchRefused:
            self._rescue([flight, *flights])
            flights.clear()
        else:
            self._stats.add("decode", perf_counter() - begin, len(flight.rows))
            self._deliver(flight, images)

    def _deliver(self, flight: Flight, images: list[Any]) -> None:
        self._stats.count("decoder.dali", len(flight.rows))
        if flight.job.stopped:
            return
        begin = perf_counter()
        self._deliverer.deliver(images, flight, levels=self._form.levels)
        if self._form.levels:
            self._stats.add("augment", perf_counter() - begin, len(flight.rows))

    def _rescue(self, flights: list[Flight]) -> None:
        """Finishes what was in a pipeline that DALI gave up, one flight after the other, in new ones."""
        self._graph = None
        for flight in flights:
            self._guard(flight.job, lambda flight=flight: self._finish_alone(flight))  # type: ignore[misc]
            flight.job.finished.set()

    def _finish_alone(self, flight: Flight) -> None:
        for attempt in range(2):
            begin = perf_counter()
            try:
                graph = self._running(self._form)
                graph.start(flight.sources, flight.arguments)
                images = graph.collect()
            except BatchRefused as error:
                self._graph = None
                self._stats.count("dali.rebuilt")
                if attempt == 1:
                    raise FastloadError(f"DALI refuses images that it need not decode: {error}") from error
                flight = self._without_decoding(flight)
                if not len(flight.rows):
                    return
            else:
                self._stats.add("decode", perf_counter() - begin, len(flight.rows))
                self._deliver(flight, images)
                return

    def _without_decoding(self, flight: Flight) -> Flight:
        """The same flight with every image decoded here; those that cannot be are failures."""
        good: list[int] = []
        encoded: list[list[NDArray[np.uint8]]] = [[] for _ in flight.sources]
        for item in range(len(flight.rows)):
            try:
                files = [as_pixels(source.encoded[item]) for source in flight.sources]
            except DataError as error:  # noqa: PERF203 (this is the rare way)
                flight.job.failures.append(self._failure(int(flight.ids[item]), int(flight.rows[item]), error))
            else:
                good.append(item)
                for one, file in zip(encoded, files, strict=True):
                    one.append(file)
        return flight.with_files(np.array(good, np.int64), encoded)
