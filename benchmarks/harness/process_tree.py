"""CPU time and memory of a process and all its descendants, read from outside so that reading does not disturb it."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil


def descendants(pid: int) -> list[int]:
    """``pid`` and every live process below it."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [pid, *(child.pid for child in children)]


def _own_cpu_seconds(pid: int) -> float:
    """User and system seconds of all threads of one process, ended threads included."""
    try:
        # Linux: the CPU clock of another process (what clock_getcpuclockid gives), in nanoseconds. /proc/PID/stat
        # counts in ticks of 10 ms, too coarse for an epoch that takes 200.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


def cpu_seconds(pid: int) -> float:
    """User and system seconds of the tree: live processes, and children that ended and were waited for."""
    total = 0.0
    for member in descendants(pid):
        # One that ended since it was listed is in its parent's children_* times.
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            times = psutil.Process(member).cpu_times()
            total += _own_cpu_seconds(member) + times.children_user + times.children_system
    return total


def settled_cpu_seconds(pid: int, patience_seconds: float = 2.0) -> float:
    """CPU seconds of the tree once it is idle: what a loader still does ahead for later belongs to what was asked.

    A tree that never idles (spinning threads) is read after ``patience_seconds``.
    """
    deadline = time.monotonic() + patience_seconds
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(0.02)
        now = cpu_seconds(pid)
        if now - before < 0.0005:
            return now
        before = now
    return before


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes, summed over the processes of a tree.

    Attributes:
        peak_rss: Each process's highest resident set since it started (VmHWM), summed. Pages that processes share are
            counted once for each of them, and so are pages of mapped files.
        peak_pss: Highest sum of proportional sets seen while watched: shared pages are counted once.
        peak_uss: Highest sum of private pages seen while watched.
    """

    peak_rss: int
    peak_pss: int
    peak_uss: int


class MemoryWatch:
    """Samples the memory of a tree from a thread while the ``with`` block runs.

    Only ever used in an epoch that is not timed: reading smaps stops the watched process for a moment.
    """

    def __init__(self, pid: int, interval_seconds: float = 0.1) -> None:
        self._pid = pid
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._pss = self._uss = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            pss = uss = 0
            for pid in descendants(self._pid):
                try:
                    full = psutil.Process(pid).memory_full_info()
                except (psutil.Error, OSError):
                    continue
                pss += getattr(full, "pss", full.rss)
                uss += full.uss
            self._pss, self._uss = max(self._pss, pss), max(self._uss, uss)
            if self._stop.wait(self._interval_seconds):
                return

    def memory(self) -> Memory:
        """The peaks so far."""
        rss = sum(_peak_rss(pid) for pid in descendants(self._pid))
        return Memory(peak_rss=rss, peak_pss=self._pss, peak_uss=self._uss)


def _peak_rss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error):
        return 0
