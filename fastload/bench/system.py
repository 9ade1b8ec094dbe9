"""What the operating system tells about processes: memory, bytes from the device, waiting; None where it does not."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path


def memory_bytes(pids: Iterable[int]) -> int | None:
    """What these processes have in memory, in bytes: pages that several share are counted once (Linux's PSS).

    Pages of files (libraries, data) do not count: the system may drop them, and how much of a shared library is whose
    depends on what else runs on the machine.
    """
    total = 0
    for pid in pids:
        for name in ("Pss_Anon:", "Pss_Shmem:"):
            found = _field(f"/proc/{pid}/smaps_rollup", name)
            if found is None:
                return None
            total += 1024 * found
    return total


def device_bytes() -> int | None:
    """Bytes that this process has made the system fetch from storage devices so far."""
    return _field("/proc/self/io", "read_bytes:")


def queued_seconds() -> float | None:
    """Seconds for which the calling thread was ready to run and had no processor."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def processor_name() -> str:
    """As the maker calls it, or the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or os.name


def _field(path: str, name: str) -> int | None:
    try:
        for line in Path(path).read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
