"""Where an engine finds samples by itself: arrays for a kernel that reads files without the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Reads(NamedTuple):
    """One row per sample; a row with neither descriptor nor path can only be read by ``Dataset.read_into``.

    Attributes:
        descriptor: int64 (n,), of the open file that holds the image; -1 where it is to be opened by its path.
        path: int64 (n,), where in ``paths`` the file's path begins; -1 where there is none.
        paths: uint8, paths as the system takes them, a zero byte behind each.
        offset, size: int64 (n,), where in its file the image lies, in bytes. An image that is opened by its path and
            lies at 0 is a whole file, which must have exactly so many bytes.
        crc32: int64 (n,), checksum of the image file.
        check: uint8 (n,), whether the bytes are to be compared with it.
        seek: int64 (n, 4), the seek file in memory (see fastload.jpeg.seek_file): its address (0 where there is none),
            its bytes, its samples, and the sample's number among them.
        raw: int64 (n, 2), height and width where bare pixels lie there and no image file (see ``Dataset.is_raw``), of
            which only the rows that are needed are read; else 0. Their descriptor is open, and they are not checked.
    """

    descriptor: NDArray[np.int64]
    path: NDArray[np.int64]
    paths: NDArray[np.uint8]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    crc32: NDArray[np.int64]
    check: NDArray[np.uint8]
    seek: NDArray[np.int64]
    raw: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """What a data set answers to ``plan_reads``.

    Attributes:
        reads: For the kernel.
        memory: Whatever must stay alive for as long as the addresses in ``reads`` are used.
        ready: Where samples are still on their way: waits for rows ``first`` to ``end``, enters them into ``reads``,
            and gives what must stay alive for as long as those are read.
    """

    reads: Reads
    memory: object
    ready: Callable[[int, int], object] | None = None


def pack_paths(paths: Sequence[bytes | None]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The fields ``path`` and ``paths`` of Reads; None for a sample without a path."""
    starts = np.full(len(paths), -1, np.int64)
    packed = bytearray()
    for number, path in enumerate(paths):
        if path is not None:
            starts[number] = len(packed)
            packed += path
            packed.append(0)
    packed.append(0)  # never empty
    return starts, np.frombuffer(packed, np.uint8)
