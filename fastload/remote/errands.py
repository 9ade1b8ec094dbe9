"""Threads that fetch: as many requests at once as a server is to see, the first that was asked for first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

# A thread that looks a name up, or waits in a driver, cannot be called back; it ends when that does.
_LONGEST_JOIN: Final = 2.0


class Errands:
    """A queue of calls and the threads that make them, which are started when there is work for them.

    The threads are daemons: one that waits for a server does not keep the program from ending.

    Args:
        most: Threads at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._queue: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False

    def send(self, calls: list[Callable[[], None]], *, urgent: bool = False) -> None:
        """Has calls made, in their order; ``urgent`` ones before all others. They must not raise."""
        with self._changed:
            if self._closed:
                raise ValueError("these threads have been ended")
            if urgent:
                self._queue.extendleft(reversed(calls))
            else:
                self._queue.extend(calls)
            for _ in range(min(len(self._queue) - self._idle, self._most - len(self._threads))):
                thread = threading.Thread(target=self._serve, name=f"fastload-fetch-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify(len(calls))

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._queue and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if self._closed:
                    return
                call = self._queue.popleft()
            call()
            del call  # an idle thread holds no memory

    def close(self) -> None:
        """Forgets what has not begun and waits for what has. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=_LONGEST_JOIN)
