"""The threads of a CPU engine and the queue that they serve; none outlives close(), the engine or the program."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Final

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.cpu.job import Job
from fastload.engine.cpu.worker import Worker
from fastload.errors import FastloadError
from fastload.stats import Stats

# Images that a thread takes at a time: few enough that all threads end a batch together, enough that the lock and the
# statistics do not show (a slice of 8 is about 3 ms).
MAX_SLICE: Final = 8


class Crew:
    """Threads that plan jobs and work on slices of them, first job first.

    One lock guards the queue and every job. A thread that finds all slices of the first job taken plans the next
    one, so that planning runs while others still work.
    """

    def __init__(self, dataset: Dataset, output: Output, num_threads: int, stats: Stats) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._dismissed = False
        self._num_threads = num_threads
        workers = [Worker(dataset, output, stats) for _ in range(num_threads)]
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
        while (task := self._next_task()) is not None:
            job, begin, end = task
            try:
                if job.work is None:
                    self._plan(worker, job)
                else:
                    worker.run(job, begin, end)
            except BaseException as error:
                # Whatever broke belongs to the caller of result(): a thread has nobody else to tell.
                self.stop(job, error)
            with self._changed:
                job.in_flight -= 1
                self._settle(job)
            del task, job  # an idle thread holds no slot

    def _next_task(self) -> tuple[Job, int, int] | None:
        with self._changed:
            while not self._dismissed:
                task = self._take()
                if task is not None:
                    return task
                # The time limit is for a finalizer that ran in this very thread, just before it began to wait.
                self._changed.wait(timeout=1.0)
        return None

    def _take(self) -> tuple[Job, int, int] | None:
        """The next thing to do: items begin to end of a job, or an unplanned job, which is to be planned."""
        for job in self._queue:
            if job.stopped:
                continue
            if job.work is None and job.in_flight == 0:
                job.in_flight = 1
                return job, 0, 0
            if job.work is not None and job.next_item < job.work.count:
                begin = job.next_item
                size = max(1, min(MAX_SLICE, -(-job.work.count // self._num_threads)))
                job.next_item = min(begin + size, job.work.count)
                job.in_flight += 1
                return job, begin, job.next_item
        return None

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
        done = job.work is not None and job.next_item >= job.work.count
        if job.in_flight == 0 and (job.stopped or done) and not job.finished.is_set():
            self._queue.remove(job)
            job.finished.set()


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _dismiss_all() -> None:
    for crew in list(_crews):
        crew.dismiss()


# The interpreter waits for threads before it runs atexit functions, so those come too late to end them. This is the
# hook that concurrent.futures uses for the same purpose.
threading._register_atexit(_dismiss_all)  # type: ignore[attr-defined]
