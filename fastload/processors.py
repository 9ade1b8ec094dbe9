"""How many processors this process may use: its affinity, and where a container limits its time, that too."""

from __future__ import annotations

import os


def available_processors() -> int:
    """Processors that this process may run on at the same time, at least 1.

    Its affinity mask where the system has one, else all that the machine has; never more than a cgroup (version 2)
    grants it, rounded up: a container with half of a 64-core machine's time gains nothing from 64 threads.
    """
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, min(processors, _granted("/sys/fs/cgroup/cpu.max") or processors))


def _granted(path: str) -> int | None:
    """Processors that a cgroup's cpu.max ("quota period" in microseconds, or "max period") grants; None: no limit."""
    try:
        with open(path, encoding="ascii") as file:
            quota, period = file.read(100).split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
