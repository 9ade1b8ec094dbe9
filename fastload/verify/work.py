"""The work of verify as tasks for threads: each gives its findings, and ends early when it is told to."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.convert.pipeline import in_order
from fastload.convert.production import quiet_pillow
from fastload.convert.transcode import examine
from fastload.dataset.reading import read_range
from fastload.errors import DataError
from fastload.jpeg.decoder import build_index
from fastload.verify.report import Finding

# A task ends after so many images or bytes: handing one over costs about 100 us.
_TASK_IMAGES: Final = 16
_TASK_BYTES: Final = 4 << 20
# Images in memory, all together.
_MOST_BYTES: Final = 256 << 20
_PIECE: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to check.

    Attributes:
        unit: Number of the shard (or directory) that it belongs to.
        images: How many images it decodes.
        num_bytes: Memory that it takes.
        check: Does it.
    """

    unit: int
    images: int
    num_bytes: int
    check: Callable[[], list[Finding]]


class Stop:
    """Set when the user has given up; tasks look at it between pieces of work of some milliseconds."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Makes every task end."""
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()


def run_tasks(tasks: Iterator[Task], *, workers: int, stop: Stop) -> Iterator[tuple[Task, list[Finding]]]:
    """Each task with its findings, in order."""
    with quiet_pillow():
        results = in_order(
            lambda task: (task, [] if stop else task.check()),
            tasks,
            workers=workers,
            most_bytes=_MOST_BYTES,
            stop=stop.set,
        )
        with contextlib.closing(results):
            yield from results


def slices(begin: int, end: int, sizes: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Cuts samples ``begin`` to ``end`` into tasks: first, end, bytes. ``sizes`` holds those of these samples."""
    first = begin
    while first < end:
        last, num_bytes = first + 1, int(sizes[first - begin])
        while last < end and last - first < _TASK_IMAGES and num_bytes + int(sizes[last - begin]) <= _TASK_BYTES:
            num_bytes += int(sizes[last - begin])
            last += 1
        yield first, last, num_bytes
        first = last


def checksum(descriptor: int, offset: int, size: int, stop: Stop) -> int:
    """crc32 of a range of a file, read in pieces.

    Raises:
        DataError: The file ends within it, or cannot be read.
    """
    buffer, found = memoryview(bytearray(min(size, _PIECE))), 0
    for begin in range(0, size, _PIECE):
        piece = buffer[: size - begin]
        fill(descriptor, piece, offset + begin)
        found = zlib.crc32(piece, found)
        if stop:
            break
    return found


def fill(descriptor: int, view: memoryview, offset: int) -> None:
    """Reads a range of a file; DataError if the file has less."""
    try:
        done = read_range(descriptor, view, offset)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}") from error
    if done != len(view):
        raise DataError(f"expected {len(view):,} bytes at offset {offset:,}, but the file ends after {done:,} of them")


def prove(data: bytes, height: int, width: int) -> bytes:
    """Decodes an image and compares its size; its seek index, if it has one.

    Raises:
        DataError: It cannot be decoded, or has another size in pixels.
    """
    rows, columns, seek = examine(data)
    if (rows, columns) != (height, width):
        raise DataError(f"expected {width} x {height} pixels, as the index says, but it has {columns} x {rows}")
    return seek


def same_seek_index(data: bytes, stored: bytes, made: bytes) -> bool:
    """Whether a stored seek index is the one that this image has; ``made`` is the one of the usual step."""
    if stored == made:
        return True
    try:
        return bool(stored[0]) and stored == build_index(data, step=stored[0])
    except DataError:  # no JPEG
        return False
