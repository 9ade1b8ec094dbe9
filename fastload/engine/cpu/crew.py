"""The threads of a CPU engine and the queue that they serve; none outlives close(), the engine or the program."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Final

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.cpu.job import Job
from fastload.engine.cpu.read_ahead import ReadAhead
from fastload.engine.cpu.worker import Worker
from fastload.errors import FastloadError
from fastload.stats import Stats

# Between batches a thread does one piece of work for the data set (Dataset.tend) for so many images.
IMAGES_PER_PIECE: Final = 8


class Crew:
    """Threads that plan jobs and work on them, first job first, as many on one job as come.

    One lock guards the queue and every job.
    """

    def __init__(self, dataset: Dataset, output: Output, num_threads: int, stats: Stats) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._dismissed = False
        ahead = ReadAhead()
        workers = [Worker(dataset, output, stats, ahead) for _ in range(num_threads)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"fastload-cpu-{number}", daemon=False)
            for number, worker in enumerate(workers)
        ]
        _crews.add(self)
        for thread in self._threads:
            thread.start()

    def enqueue(self, job: Job) -> None:
        with self._changed:
            if self._dismissed:
                raise FastloadError("the engine is closed: make a new one")
            self._queue.append(job)
            self._changed.notify_all()

    def stop(self, job: Job, error: BaseException) -> None:
        """Lets no more work of ``job`` begin; it is finished as soon as nothing of it is in flight."""
        with self._changed:
            self._stop(job, error)

    def abandon(self) -> None:
        """Sends the threads home and waits for nothing: for a finalizer, which may run at any moment in any thread.

        It therefore takes no lock but the (re-entrant) one of the queue, and leaves the queue as it is.
        """
        with self._changed:
            self._dismissed = True
            self._changed.notify_all()

    def dismiss(self) -> None:
        """Stops every job and sends the threads home."""
        self.abandon()
        with self._changed:
            for job in list(self._queue):
                self._stop(job, FastloadError("the engine was closed before this batch was finished"))

    def join(self) -> None:
        """Waits for the end of every thread."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _serve(self, worker: Worker) -> None:
        while (job := self._next_job(worker)) is not None:
            delivered = 0
            try:
                if job.work is None:
                    self._plan(worker, job)
                else:
                    delivered = worker.run(job)
            except BaseException as error:
                # Whatever broke belongs to the caller of result(): a thread has nobody else to tell.
                self.stop(job, error)
            with self._changed:
                job.in_flight -= 1
                self._settle(job)
            del job  # an idle thread holds no slot
            for _ in range(delivered // IMAGES_PER_PIECE):
                if not worker.tend(busy=True):
                    break

    def _next_job(self, worker: Worker) -> Job | None:
        useful = True
        while not self._dismissed:
            with self._changed:
                job = self._take()
                if job is None and not useful:
                    # The time limit is for a finalizer that ran in this very thread, just before it began to wait.
                    self._changed.wait(timeout=1.0)
                    job = None if self._dismissed else self._take()
            if job is not None:
                return job
            useful = worker.tend(busy=False)
        return None

    def _take(self) -> Job | None:
        """The job to plan or to work on; None where there is nothing to do.

        Usually the first one with items that nobody has taken. Where others are at it already, the one behind it is
        planned first, so that nobody waits for that when the first is done.
        """
        chosen = None
        for job in self._queue:
            if job.stopped or job.taken:
                continue
            if job.work is None and job.in_flight == 0:
                chosen = job
                break
            if chosen is not None:
                break
            if job.work is not None:
                chosen = job
                if job.next_item[0] == 0:
                    break
        if chosen is not None:
            chosen.in_flight += 1
        return chosen

    def _plan(self, worker: Worker, job: Job) -> None:
        work = worker.plan(job)
        with self._changed:
            job.work = work
            self._changed.notify_all()

    def _stop(self, job: Job, error: BaseException) -> None:
        if job.finished.is_set():
            return
        job.stop[0] = 1
        job.error = job.error or error
        self._settle(job)

    def _settle(self, job: Job) -> None:
        """Marks a job finished, and forgets it, once nothing of it is in flight and nothing is left to take."""
        if job.in_flight == 0 and (job.stopped or job.taken) and not job.finished.is_set():
            self._queue.remove(job)
            job.finished.set()


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _dismiss_all() -> None:
    for crew in list(_crews):
        crew.dismiss()


# The interpreter waits for threads before it runs atexit functions, so those come too late to end them. This is the
# hook that concurrent.futures uses for the same purpose.
threading._register_atexit(_dismiss_all)  # type: ignore[attr-defined]
