"""Writes the seek indexes of a converted data set that has none, or not for all of its shards."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.seek import seek_path, sweep
from fastload.dataset.sharded import ShardedDataset
from fastload.errors import DataError
from fastload.jpeg.decoder import build_index, warm_up_indexer
from fastload.jpeg.seek_file import SeekFile, write_seek_file
from fastload.processors import available_processors


@dataclass(frozen=True, kw_only=True)
class SeekSummary:
    """What ``write_seek_indexes`` did.

    Attributes:
        path: The data set.
        shards: Shards that now have a seek file.
        written: How many of these were written now; the others had one that fits.
        samples: Samples in the data set.
        indexed: Samples with an index, of the shards written now.
        num_bytes: Size of all seek files.
    """

    path: str
    shards: int
    written: int
    samples: int
    indexed: int
    num_bytes: int


def write_seek_indexes(
    path: str | os.PathLike[str],
    *,
    workers: int | None = None,
    rebuild: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SeekSummary:
    """Writes the seek index of every shard of a converted data set that has none that fits.

    Images are decoded once (about 0.6 ms each); shards and index stay as they are. Equal shards give equal seek files.

    Args:
        path: The data set.
        workers: Threads; None takes one for each core that this process may use.
        rebuild: Write them all anew.
        progress: Called in this thread with (done, total) samples.

    Raises:
        DataError: There is no converted data set, a sample cannot be read, or the files cannot be written.
    """
    dataset = ShardedDataset(path, verify="always")
    with dataset:
        sizes = dataset.shard_sizes()
        starts = np.cumsum(sizes) - sizes
        report = progress or (lambda done, total: None)
        num_bytes = written = indexed = done = 0
        for shard in range(len(sizes)):
            ids = np.arange(starts[shard], starts[shard] + sizes[shard], dtype=np.int64)
            target = seek_path(dataset.file_path(shard))
            if rebuild or not _fits(target, dataset.crc32(ids)):
                warm_up_indexer()
                sweep(target)
                indexes = []
                pool = ThreadPoolExecutor(workers or available_processors(), thread_name_prefix="fastload-index")
                try:
                    for index in pool.map(lambda number: _index_of(dataset, number), ids.tolist()):
                        indexes.append(index)
                        report(done + len(indexes), len(dataset))
                finally:
                    pool.shutdown(cancel_futures=True)
                try:
                    write_seek_file(target, indexes, dataset.crc32(ids).tolist())
                except OSError as error:
                    raise DataError(f"the seek file cannot be written: {error.strerror}", path=target) from error
                written += 1
                indexed += sum(1 for index in indexes if index)
            done += len(ids)
            report(done, len(dataset))
            num_bytes += os.stat(target).st_size
        return SeekSummary(
            path=dataset.path,
            shards=len(sizes),
            written=written,
            samples=len(dataset),
            indexed=indexed,
            num_bytes=num_bytes,
        )


def _fits(path: str, crc32: NDArray[np.uint32]) -> bool:
    try:
        file = SeekFile(path, crc32)
    except (DataError, OSError):
        return False
    with file:
        return file.fits


def _index_of(dataset: ShardedDataset, number: int) -> bytes:
    """The index of one image; empty for a file that our decoder does not take."""
    buffer = np.empty(int(dataset.num_bytes(np.array([number]))[0]), np.uint8)
    dataset.read_into(number, buffer)
    try:
        return build_index(buffer)
    except DataError:  # not a JPEG whose headers we read; libjpeg-turbo or Pillow decodes it
        return b""
