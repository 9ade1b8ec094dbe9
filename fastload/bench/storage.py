"""Reading without decoding: how fast storage delivers the images, and which of their pages memory holds already."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset import Dataset, RemoteBetonDataset, RemoteShardedDataset
from fastload.errors import DataError

# Images that are looked at, or read, to say something about all of them.
_SAMPLE: Final = 2000
_PAGE: Final = mmap.PAGESIZE


def sample_ids(dataset: Dataset, count: int = _SAMPLE, seed: int = 0) -> NDArray[np.int64]:
    """Up to ``count`` different samples in random order, int64."""
    chance = np.random.default_rng(seed)
    if len(dataset) <= count:
        return chance.permutation(len(dataset))
    return np.array(list(dict.fromkeys(chance.integers(0, len(dataset), 2 * count).tolist()))[:count], np.int64)


def share_in_memory(dataset: Dataset, ids: NDArray[np.int64]) -> float | None:
    """Share of the pages of these images that the page cache holds, 0 to 1; None where the system does not say."""
    if isinstance(dataset, (RemoteBetonDataset, RemoteShardedDataset)):
        return None
    files, offsets, sizes = dataset.extents(ids)
    held = total = 0
    for file, offset, size in zip(files.tolist(), offsets.tolist(), sizes.tolist(), strict=True):
        if size == 0:
            continue
        found = _pages_in_memory(dataset.file_path(file), offset, size)
        if found is None:
            return None
        held += found[0]
        total += found[1]
    return held / total if total else None


def _pages_in_memory(path: str, offset: int, size: int) -> tuple[int, int] | None:
    """(pages held, pages) of a range of a file, by mincore(2)."""
    try:
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            # The kernel calls every page of somebody else's file held, so that nobody spies on what others read.
            if status.st_uid != os.geteuid() and os.geteuid() != 0 and not os.access(path, os.W_OK):
                return None
            start = offset - offset % mmap.ALLOCATIONGRANULARITY
            with mmap.mmap(file.fileno(), offset + size - start, access=mmap.ACCESS_READ, offset=start) as pages:
                view = np.frombuffer(pages, np.uint8)
                held = np.zeros(-(-len(view) // _PAGE), np.uint8)
                failed = mincore(
                    ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(len(view)), held.ctypes.data_as(ctypes.c_void_p)
                )
                del view  # a mapping that is still seen cannot be closed
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    if failed:
        return None
    held = held[(offset - start) // _PAGE :]
    return int((held & 1).sum()), len(held)


def drop_pages(dataset: Dataset) -> None:
    """Asks the system to forget the pages of the data set's image files or shards.

    Raises:
        DataError: A file is gone, or the system cannot be asked.
    """
    if not hasattr(os, "posix_fadvise"):
        raise DataError("this system cannot be asked to forget pages: leave --cold out", path=dataset.path)
    for start in range(0, len(dataset), 1 << 16):
        ids = np.arange(start, min(start + (1 << 16), len(dataset)), dtype=np.int64)
        for file in np.unique(dataset.extents(ids)[0]).tolist():
            path = dataset.file_path(file)
            try:
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise DataError(f"its pages cannot be dropped: {error.strerror}", path=path) from error


def measure_reading(dataset: Dataset, *, threads: int, seconds: float) -> dict[str, Any]:
    """Reads images in random order with several threads until all of a sample, or ``seconds``, have passed.

    Returns:
        ``threads``, ``reads``, ``num_bytes``, wall ``seconds``, ``cpu_seconds`` of the threads together, and
        ``in_memory``, the share of the pages that memory held before.
    """
    ids = sample_ids(dataset, seed=1)
    in_memory = share_in_memory(dataset, ids)
    sizes = dataset.num_bytes(ids)
    buffers = [np.zeros(max(1, int(sizes.max())), np.uint8) for _ in range(threads)]
    totals: list[tuple[int, int, float]] = []
    # Nothing is left to other threads but to take the next number: a list's iterator gives each of them once.
    numbers = iter(ids.tolist())
    begin = time.perf_counter()
    deadline = begin + seconds

    def read(buffer: NDArray[np.uint8]) -> None:
        reads = num_bytes = 0
        cpu = time.thread_time()
        for number in numbers:
            try:
                num_bytes += dataset.read_into(number, buffer)
                reads += 1
            except DataError:
                pass  # the Loader counts what cannot be read; here it is only time
            if time.perf_counter() >= deadline:
                break
        totals.append((reads, num_bytes, time.thread_time() - cpu))

    workers = [threading.Thread(target=read, args=(buffer,)) for buffer in buffers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall = time.perf_counter() - begin
    reads, num_bytes, cpu_seconds = (sum(column) for column in zip(*totals, strict=True))
    return {
        "threads": threads,
        "reads": reads,
        "num_bytes": num_bytes,
        "seconds": wall,
        "cpu_seconds": cpu_seconds,
        "in_memory": in_memory,
    }
