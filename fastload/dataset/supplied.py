"""Samples of a Supply as an engine reads them: a plan whose rows are entered when they have come, and single files."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.reading import read_range
from fastload.dataset.reads import ReadPlan, Reads, pack_paths
from fastload.dataset.supply import Supply


def plan_supplied(
    supply: Supply,
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    crc32: NDArray[np.int64],
    raw: NDArray[np.int64],
    locate: Callable[[slice], tuple[NDArray[np.int64], object]],
) -> ReadPlan:
    """What ``Dataset.plan_reads`` answers for samples ``rows`` (int64 (n,)).

    Args:
        offsets, sizes, crc32, raw: As in Reads.
        locate: Gives ``Reads.seek`` of a part of the rows, and what must stay alive for it.
    """
    count = len(rows)
    path, packed = pack_paths([None] * count)
    reads = Reads(
        descriptor=np.full(count, -1, np.int64),
        path=path,
        paths=packed,
        offset=offsets,
        size=sizes,
        crc32=crc32,
        check=np.ones(count, np.uint8),
        seek=np.zeros((count, 4), np.int64),
        raw=raw,
    )

    def ready(first: int, end: int) -> object:
        own = slice(first, end)
        taken = supply.take(rows[own])
        reads.descriptor[own], reads.offset[own], reads.check[own] = taken.descriptor, taken.offset, taken.check
        reads.seek[own], maps = locate(own)
        return taken.held, maps

    return ReadPlan(reads, None, ready)


def read_supplied(supply: Supply, row: int, view: memoryview, crc32: int) -> int:
    """Fills ``view`` with one sample; its bytes.

    Args:
        crc32: What the bytes must have where they come from the cache; they were compared when they were fetched.

    Raises:
        DataError: It cannot be fetched.
    """
    while True:
        taken = supply.take(np.array([row]))
        if row in taken.failures:
            raise taken.failures[row]
        done = read_range(int(taken.descriptor[0]), view, int(taken.offset[0]))
        if not taken.check[0] or (done == len(view) and zlib.crc32(view) == crc32):
            return len(view)
        supply.distrust(row)  # the cache's file is damaged
