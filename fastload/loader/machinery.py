"""The engine, its slots and the way out of them, for as long as a Loader is being read; and how they end, always."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fastload.augment import Output
from fastload.loader.delivery import Delivery
from fastload.loader.lane import Lane


@dataclass(eq=False, kw_only=True)
class Machinery:
    """What one Loader reads with. Threads and slots live here and nowhere else.

    Attributes:
        lanes: Engines with their slots; one, or two that work beside each other.
        delivery: Makes batches of them.
        output: What it was built for; a Loader that needs another output builds another one.
        values: Whether slots hold finished values, whatever the device could still do to them.
        operates: Whether it was built for more than a resampling with borders in one colour.
        process: The process that built it: threads do not follow into a forked child.
        closed: Whether it was ended.
    """

    lanes: tuple[Lane, ...]
    delivery: Delivery
    output: Output
    values: bool = False
    operates: bool = False
    process: int = field(default_factory=os.getpid)
    closed: bool = False
    _builder: int = field(default_factory=threading.get_ident)

    def lane(self, batch: int) -> Lane:
        """The lane of a batch of the epoch: evenly spread, the same in every epoch."""
        first = self.lanes[0]
        if len(self.lanes) == 1 or int((batch + 1) * first.share) > int(batch * first.share):
            return first
        return self.lanes[1]

    @property
    def num_added(self) -> int:
        """Slots that had to be made because all others were still seen."""
        return sum(lane.slots.num_added for lane in self.lanes)

    @property
    def uses_dali(self) -> bool:
        """Whether some of the images are DALI's."""
        return any(lane.engine.name == "dali" for lane in self.lanes)

    @property
    def usable(self) -> bool:
        """Whether it can be read with, in this process."""
        return not self.closed and self.process == os.getpid()

    def close(self) -> None:
        """Ends the engine's threads and lets go of the slots. In a forked child there is nothing to end."""
        if not self.usable:
            return
        self.closed = True
        with contextlib.ExitStack() as stack:
            stack.callback(self.delivery.close)
            for lane in self.lanes:
                stack.callback(lane.engine.close)

    def close_from_anywhere(self) -> None:
        """As ``close``, for the garbage collector, which runs in any thread: one of the engine's cannot join itself."""
        if not self.usable:
            return
        if threading.get_ident() == self._builder:
            self.close()
            return
        with contextlib.suppress(RuntimeError):  # the interpreter is ending and starts no more threads
            threading.Thread(target=self.close, name="fastload-close", daemon=True).start()


class Keeper:
    """Holds the machinery of a Loader, apart from it, so that it can be ended when the Loader is gone."""

    def __init__(self) -> None:
        self.machinery: Machinery | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._process = 0

    def executor(self, workers: int) -> ThreadPoolExecutor:
        """Threads for what is read beside the images; they exist from the first work on."""
        if self._executor is None or self._process != os.getpid():
            self._executor = ThreadPoolExecutor(workers, thread_name_prefix="fastload-targets")
            self._process = os.getpid()
        return self._executor

    def _end_executor(self, *, wait: bool) -> None:
        executor, self._executor = self._executor, None
        if executor is not None and self._process == os.getpid():
            executor.shutdown(wait=wait, cancel_futures=True)

    @property
    def in_use(self) -> Machinery:
        """The machinery of an iteration that has not ended."""
        assert self.machinery is not None
        return self.machinery

    def close(self) -> None:
        """Ends the machinery, if there is one, and all threads."""
        try:
            self.close_machinery()
        finally:
            self._end_executor(wait=True)

    def close_machinery(self) -> None:
        """Ends the machinery, if there is one, to make room for another."""
        machinery, self.machinery = self.machinery, None
        if machinery is not None:
            machinery.close()

    def close_from_anywhere(self) -> None:
        """As ``close``, from any thread."""
        machinery, self.machinery = self.machinery, None
        if machinery is not None:
            machinery.close_from_anywhere()
        self._end_executor(wait=False)
