"""The threads of a CPU engine: which job each works on, and when a job is finished."""

from __future__ import annotations

import threading
from typing import Final

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.cpu.job import Job, Layouts, Work
from fastload.engine.cpu.kernels.deliver import STOP
from fastload.engine.cpu.read_ahead import ReadAhead
from fastload.engine.cpu.worker import Worker
from fastload.engine.serving import Server
from fastload.stats import Stats

# Between batches a thread does one piece of work for the data set (Dataset.tend) for so many images.
IMAGES_PER_PIECE: Final = 8


class Crew(Server[Job]):
    """Threads that plan jobs and work on them, first job first, as many on one job as come.

    One lock guards the queue and every job.
    """

    def __init__(self, dataset: Dataset, output: Output, num_threads: int, stats: Stats) -> None:
        super().__init__()
        layouts, ahead = Layouts(output, dataset), ReadAhead()
        workers = [Worker(dataset, output, stats, layouts, ahead) for _ in range(num_threads)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"fastload-cpu-{number}", daemon=False)
            for number, worker in enumerate(workers)
        ]
        for thread in self._threads:
            thread.start()

    def _serve(self, worker: Worker) -> None:
        job = self._next_job(worker)
        while job is not None:
            job, delivered = self._work_on(worker, job)
            for _ in range(delivered // IMAGES_PER_PIECE):
                if not worker.tend(busy=True):
                    break
            job = job or self._next_job(worker)
        worker.close()

    def _work_on(self, worker: Worker, job: Job) -> tuple[Job | None, int]:
        """Plans a job or works on it; what to do next, where that is found at once, and the images that it delivered.

        After images comes a piece of work for the data set: a job that waited for that could be taken by nobody else.
        """
        work, delivered = None, 0
        try:
            if job.work is None:
                work = worker.plan(job)
            else:
                delivered = worker.run(job)
        except BaseException as error:
            # Whatever broke belongs to the caller of result(): a thread has nobody else to tell.
            self.stop(job, error)
        with self._changed:
            job.in_flight -= 1
            if work is not None:
                job.work = work
                self._changed.notify_all()
            self._settle(job)
            return None if work is None or self._dismissed else self._take(), delivered

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
        chosen, slots = None, True
        for job in tuple(self._queue):  # one whose slot cannot be made leaves it
            if job.stopped or job.taken:
                continue
            if job.work is None and job.in_flight == 0:
                chosen = job
                break
            if chosen is not None:
                break
            # A slot is for the first that has none: those behind wait for one, too, but may be planned meanwhile. Not
            # so one that somebody waits for: it is the first, or puts substitutes into a slot that it has.
            if job.work is not None and (slots or job.pressed) and self._seat(job, job.work):
                chosen = job
                if not job.begun:
                    break
            else:
                slots = False
        if chosen is not None:
            chosen.in_flight += 1
        return chosen

    def _seat(self, job: Job, work: Work) -> bool:
        """Whether a job has its slot, or gets it now."""
        try:
            return job.seat(work)
        except BaseException as error:
            self.stop(job, error)
            return False

    def press(self, job: Job) -> None:
        """See Server."""
        if job.finished.is_set():
            return
        with self._changed:
            job.pressed = True
            if job.work is not None and not job.begun:
                self._changed.notify_all()

    def wake(self) -> None:
        """A slot has come back, in whatever thread dropped its last view, be it the garbage collector's.

        That one may hold a lock that somebody waits for who holds ours: it waits a moment, not for ever. Where the
        news is lost, the thread that waits for the batch brings it (``press``).
        """
        if self._changed.acquire(timeout=0.05):
            try:
                if self._queue:
                    self._changed.notify_all()
            finally:
                self._changed.release()

    def _stop(self, job: Job) -> None:
        job.task[STOP] = 1
        self._settle(job)

    def _settle(self, job: Job) -> None:
        """Marks a job finished, and forgets it, once nothing of it is in flight and nothing is left to take."""
        if job.in_flight == 0 and (job.stopped or job.taken) and not job.finished.is_set():
            self._queue.remove(job)
            job.finished.set()
