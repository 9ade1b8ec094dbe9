"""CPU time and memory of a process and all its descendants, read from outside so that reading does not disturb it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
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
        peak_allocated: Highest sum seen while watched of what only this tree can have put there: anonymous pages
            (those that forked processes share count once) and shared memory. Pages of mapped files, libraries and data
            alike, are not in it: the page cache holds them whether a loader maps a file or reads it, and how many of
            them count as one process's own depends on who else runs.
    """

    peak_rss: int
    peak_allocated: int


class MemoryWatch:
    """Samples the memory of a tree from a thread while the ``with`` block runs.

    Only ever used in an epoch that is not timed: reading smaps stops the watched process for a moment.
    """

    def __init__(self, pid: int, interval_seconds: float = 0.05) -> None:
        self._pid = pid
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._allocated = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self._allocated = max(self._allocated, allocated(descendants(self._pid)))
            if self._stop.wait(self._interval_seconds):
                return

    def memory(self) -> Memory:
        """The peaks so far."""
        rss = sum(_peak_rss(pid) for pid in descendants(self._pid))
        return Memory(peak_rss=rss, peak_allocated=self._allocated)


def allocated(pids: Iterable[int]) -> int:
    """Bytes of anonymous pages and of shared memory that the processes ``pids`` hold now, each page once."""
    anonymous = mapped = 0
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):  # ended since it was listed
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except FileNotFoundError:  # not Linux
                anonymous += psutil.Process(pid).memory_full_info().uss
                continue
            fields = {name: rest for name, _, rest in (line.partition(":") for line in rollup.splitlines()[1:])}
            anonymous += int(fields["Pss_Anon"].split()[0]) * 1024
            mapped += int(fields["Pss_Shmem"].split()[0]) * 1024
            files |= _shared_files(pid)
    # A batch on its way from a worker is a file in shared memory that nobody maps at that moment.
    return anonymous + max(mapped, sum(files.values()))


def _shared_files(pid: int) -> dict[tuple[int, int], int]:
    """Bytes of each open file in shared memory, by device and inode."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            if os.readlink(entry).startswith(("/dev/shm/", "/memfd:")):
                status = entry.stat()
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found


def _peak_rss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error):
        return 0
