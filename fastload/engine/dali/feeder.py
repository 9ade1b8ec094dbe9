"""The thread of a DALI engine: plans, has samples read, feeds the pipeline, and delivers what comes out, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.base import Failure, OpenSlot, Request
from fastload.engine.dali.arguments import Arguments, make_arguments
from fastload.engine.dali.delivery import deliver
from fastload.engine.dali.graph import DEPTH, BatchRefused, Graph
from fastload.engine.dali.probe import regions_are_exact
from fastload.engine.dali.samples import Encoded, as_ppm, decode_pixels, read_sample
from fastload.engine.requests import check_request
from fastload.engine.serving import Server
from fastload.errors import ConfigError, DataError, FastloadError
from fastload.stats import Stats


@dataclass(eq=False)
class Job:
    """One request on its way.

    Attributes:
        plan: The caller's planning function.
        slot: Where the images go.
        begun: Whether the thread has taken it up.
        stopped: No more work is to begin: cancelled, closed, or failed. Looked at between two samples.
        error: What ``result()`` raises.
        failures: Samples that cannot be delivered.
        finished: Nothing more will happen to it.
    """

    plan: Callable[[], Request]
    slot: NDArray[Any] | OpenSlot
    begun: bool = False
    stopped: bool = False
    error: BaseException | None = None
    failures: list[Failure] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Flight:
    """A job whose samples are in the pipeline: ``ids[i]`` goes to row ``rows[i]``."""

    job: Job
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    encoded: list[NDArray[np.uint8]]
    arguments: Arguments
    num_rows: int


class Feeder(Server[Job]):
    """Serves jobs in order; at most DEPTH of them are in the pipeline."""

    def __init__(
        self, dataset: Dataset, output: Output, num_threads: int, device: torch.device | None, stats: Stats
    ) -> None:
        super().__init__()
        self._dataset = dataset
        self._output = output
        self._num_threads = num_threads
        self._device = device
        self._stats = stats
        self._checked = np.full(len(dataset), dataset.proven, np.bool_)
        self._graph: Graph | None = None
        self._graph_rows = 0
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="fastload-dali-read")
        self._threads = [threading.Thread(target=self._serve, name="fastload-dali", daemon=False)]
        self._threads[0].start()

    def _stop(self, job: Job) -> None:
        job.stopped = True
        if not job.begun:
            self._queue.remove(job)
            job.finished.set()

    def _serve(self) -> None:
        flights: deque[_Flight] = deque()
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

    def _finish_oldest(self, flights: deque[_Flight]) -> None:
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

    def _begin(self, job: Job, flights: deque[_Flight]) -> None:
        """Plans a job, reads its samples and feeds them."""
        begin = perf_counter()
        request = job.plan()
        draws, rows = request.draws, request.rows
        check_request(request, None if isinstance(job.slot, OpenSlot) else len(job.slot), self._output, self._dataset)
        if draws.warp is not None or draws.before is not None or draws.after is not None:
            raise ConfigError('the DALI engine does not carry out rotations or operations on pixels: use engine="cpu"')
        self._stats.add("plan", perf_counter() - begin, len(rows))
        begin = perf_counter()
        arguments = make_arguments(draws)
        encoded = self._read(job, request, arguments)
        self._stats.add("read", perf_counter() - begin, len(rows))
        good = np.array([i for i, data in enumerate(encoded) if data is not None], np.int64)
        if job.stopped or not len(good):
            job.finished.set()
            return
        flight = _Flight(
            job=job,
            ids=draws.ids[good],
            rows=rows[good],
            encoded=[one.data for one in encoded if one is not None],
            arguments=arguments[good].moved([(one.top, one.left) for one in encoded if one is not None]),
            num_rows=len(rows),
        )
        num_rows = len(rows) if isinstance(job.slot, OpenSlot) else len(job.slot)
        while flights and num_rows > self._graph_rows:  # a larger pipeline is built, and the smaller one emptied before
            self._finish_oldest(flights)
        try:
            self._running(num_rows).start(flight.encoded, flight.arguments)
        except BatchRefused:
            self._rescue([*flights, flight])
            flights.clear()
        else:
            flights.append(flight)

    def _read(self, job: Job, request: Request, arguments: Arguments) -> list[Encoded | None]:
        """Files for DALI; None for each sample that fails."""
        draws = request.draws
        sizes = self._dataset.num_bytes(draws.ids).tolist()

        def read(item: int) -> Encoded | None:
            if job.stopped:
                return None
            sample_id = int(draws.ids[item])
            try:
                return read_sample(
                    self._dataset, sample_id, sizes[item], draws.box[item], arguments.cut[item], self._checked
                )
            except (DataError, OSError) as error:
                job.failures.append(self._failure(sample_id, int(request.rows[item]), error))
                return None

        encoded = list(self._pool.map(read, range(len(sizes))))
        self._stats.count("bytes.read", sum(one.num_bytes for one in encoded if one is not None))
        spared = sum(max(one.num_bytes - one.data.size, 0) for one in encoded if one is not None)
        if spared:
            self._stats.count("bytes.spared", spared)
        return encoded

    def _failure(self, sample_id: int, row: int, error: DataError | OSError) -> Failure:
        reason = error.reason if isinstance(error, DataError) else f"the image cannot be read ({error})"
        return Failure(
            row=row,
            sample_id=sample_id,
            key=self._dataset.key(sample_id),
            path=self._dataset.location(sample_id),
            reason=reason,
        )

    def _running(self, count: int) -> Graph:
        """The pipeline for batches of up to ``count`` rows; built anew if there is none, or too small a one."""
        if self._graph is None or self._graph_rows < count:
            self._graph = None
            device_id = None if self._device is None else self._device.index or 0
            self._graph = Graph(
                self._output,
                rows=count,
                num_threads=self._num_threads,
                device_id=device_id,
                exact_regions=regions_are_exact(device_id),
            )
            self._graph_rows = count
        return self._graph

    def _finish(self, flight: _Flight, flights: deque[_Flight]) -> None:
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

    def _deliver(self, flight: _Flight, images: Any) -> None:
        self._stats.count("decoder.dali", len(flight.rows))
        if not flight.job.stopped:
            deliver(images, flight.arguments, flight.rows, flight.num_rows, flight.job.slot, self._output)

    def _rescue(self, flights: list[_Flight]) -> None:
        """Finishes what was in a pipeline that DALI gave up, one flight after the other, in new ones."""
        self._graph = None
        for flight in flights:
            self._guard(flight.job, lambda flight=flight: self._finish_alone(flight))  # type: ignore[misc]
            flight.job.finished.set()

    def _finish_alone(self, flight: _Flight) -> None:
        for attempt in range(2):
            begin = perf_counter()
            try:
                graph = self._running(len(flight.rows))
                graph.start(flight.encoded, flight.arguments)
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

    def _without_decoding(self, flight: _Flight) -> _Flight:
        """The same flight with every image decoded here; those that cannot be are failures."""
        good, encoded = [], []
        for item, data in enumerate(flight.encoded):
            try:
                encoded.append(data if data[:2].tobytes() == b"P6" else as_ppm(decode_pixels(data)))
            except DataError as error:  # noqa: PERF203 (this is the rare way)
                flight.job.failures.append(self._failure(int(flight.ids[item]), int(flight.rows[item]), error))
            else:
                good.append(item)
        items = np.array(good, np.int64)
        return _Flight(
            job=flight.job,
            ids=flight.ids[items],
            rows=flight.rows[items],
            encoded=encoded,
            arguments=flight.arguments[items],
            num_rows=flight.num_rows,
        )
