"""A process that reads a data set behind a URL, over and over, until it is killed or has read enough."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from fastload.dataset import supply
from fastload.dataset.remote import RemoteShardedDataset
from fastload.remote import Patience

# A test must not wait as long as a user would, and wants many small files in the cache.
QUICK = Patience(attempts=8, timeout=60.0, first_wait=0.002, longest_wait=0.05)
_BLOCK = 200_000


def small_blocks() -> None:
    """Many requests and many files of a few samples."""
    supply._FIRST_BLOCK = supply._LARGEST_BLOCK = _BLOCK
    supply._GAP = 0


def read_all(dataset: RemoteShardedDataset, seed: int) -> int:
    """Reads every sample in random order and gives a checksum of all of them, in theirs."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    expectation = dataset.expect(iter(np.array_split(order, 3)))
    found: dict[int, int] = {}
    buffer = np.zeros(int(dataset.num_bytes(order).max()), np.uint8)
    for sample in order.tolist():
        size = dataset.read_into(sample, buffer)
        found[sample] = zlib.crc32(buffer[:size])
    expectation.close()
    return zlib.crc32(np.array([found[sample] for sample in sorted(found)], np.uint32).tobytes())


def read_for_ever(url: str, cache: Path, limit: int, seed: int) -> None:
    """Until somebody ends it."""
    small_blocks()
    while True:
        with RemoteShardedDataset(url, cache_dir=cache, cache_bytes=limit, patience=QUICK) as dataset:
            read_all(dataset, seed)
        seed += 1


def read_epochs(url: str, cache: Path, limit: int, seeds: list[int], answers) -> None:
    """Puts the checksum of each epoch into ``answers``."""
    small_blocks()
    with RemoteShardedDataset(url, cache_dir=cache, cache_bytes=limit, patience=QUICK) as dataset:
        for seed in seeds:
            answers.put(read_all(dataset, seed))
