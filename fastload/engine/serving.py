"""What serves an engine's requests: a queue of jobs, how it is given up, and how its threads end with the program."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Generic, Protocol, TypeVar

from fastload.engine.base import Engine, Failure
from fastload.errors import FastloadError


class Job(Protocol):
    """One request on its way; each engine has more to say of it.

    Attributes:
        error: What ``result()`` raises.
        failures: Samples that cannot be delivered.
        finished: Nothing more will happen to it.
        starved: Seconds for which it could have been worked on but for its slot.
    """

    error: BaseException | None
    failures: list[Failure]
    finished: threading.Event

    @property
    def starved(self) -> float: ...


AnyJob = TypeVar("AnyJob", bound=Job)


class Server(ABC, Generic[AnyJob]):
    """Threads that serve a queue of jobs; none outlives close(), the engine or the program.

    A subclass sets ``_threads``, starts them when it is ready, and looks at ``_queue`` and ``_dismissed`` under
    ``_changed``, which is notified when one of them changes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[AnyJob] = deque()
        self._dismissed = False
        self._threads: list[threading.Thread] = []
        _servers.add(self)

    def enqueue(self, job: AnyJob) -> None:
        with self._changed:
            if self._dismissed:
                raise FastloadError("the engine is closed: make a new one")
            self._queue.append(job)
            self._changed.notify_all()

    def stop(self, job: AnyJob, error: BaseException) -> None:
        """Lets no more work of ``job`` begin; it is finished as soon as nothing of it is under way."""
        with self._changed:
            if not job.finished.is_set():
                job.error = job.error or error
                self._stop(job)

    def press(self, job: AnyJob) -> None:
        """Somebody waits for ``job``: it gets a slot now."""

    @abstractmethod
    def _stop(self, job: AnyJob) -> None:
        """Of a job that is not finished, under the lock."""

    def abandon(self) -> None:
        """Sends the threads home and waits for nothing: for a finalizer, which may run at any moment in any thread.

        It therefore takes no lock but the (re-entrant) one of the queue, and leaves the queue as it is.
        """
        with self._changed:
            self._dismissed = True
            self._changed.notify_all()

    def dismiss(self) -> None:
        """Stops every job that is queued and sends the threads home."""
        self.abandon()
        with self._changed:
            for job in list(self._queue):
                self.stop(job, FastloadError("the engine was closed before this batch was finished"))

    def join(self) -> None:
        """Waits for the end of every thread."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()


class PendingJob(Generic[AnyJob]):
    """A Pending. It keeps the engine alive, so that nobody waits for threads that are gone."""

    def __init__(self, engine: Engine, server: Server[AnyJob], job: AnyJob) -> None:
        self._engine = engine
        self._server = server
        self._job = job

    @property
    def starved(self) -> float:
        return self._job.starved

    def result(self) -> tuple[Failure, ...]:
        if not self._job.finished.is_set():
            self._server.press(self._job)
            self._job.finished.wait()
        if self._job.error is not None:
            raise self._job.error
        return tuple(sorted(self._job.failures, key=lambda failure: failure.row))

    def cancel(self) -> None:
        self._server.stop(self._job, FastloadError("this batch was cancelled"))
        self._job.finished.wait()


_servers: weakref.WeakSet[Server[Any]] = weakref.WeakSet()


def _dismiss_all() -> None:
    for server in list(_servers):
        server.dismiss()


# The interpreter waits for threads before it runs atexit functions, so those come too late to end them. This is the
# hook that concurrent.futures uses for the same purpose.
threading._register_atexit(_dismiss_all)  # type: ignore[attr-defined]
