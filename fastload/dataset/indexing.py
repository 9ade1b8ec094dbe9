"""Writes the seek indexes of a converted data set or a .beton file that has none, or not for all of its shards."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Dataset
from fastload.dataset.beton import BetonDataset
from fastload.dataset.beton_seek import beton_seek_path, write_beton_seek
from fastload.dataset.seek import seek_path, sweep
from fastload.dataset.sharded import ShardedDataset
from fastload.errors import DataError
from fastload.jpeg.decoder import build_index, warm_up_indexer
from fastload.jpeg.seek_file import SeekFile, write_seek_file
from fastload.processors import available_processors

# Images of a .beton file that are in memory at a time, at most.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class SeekSummary:
    """What ``write_seek_indexes`` did.

    Attributes:
        path: The data set.
        shards: Shards that now have a seek file; a .beton file is one.
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
    """Writes the seek index of every shard of a converted data set, or of a .beton file, that has none that fits.

    Images are decoded once (about 0.6 ms each); shards and index stay as they are. Equal shards give equal seek files.
    The one of a .beton file has the crc32 of each of its JPEGs besides, as they are now.

    Args:
        path: The data set, or the .beton file.
        workers: Threads; None takes one for each core that this process may use.
        rebuild: Write them all anew.
        progress: Called in this thread with (done, total) samples.

    Raises:
        DataError: There is no converted data set, a sample cannot be read, or the files cannot be written.
    """
    if os.path.isfile(path):
        return _write_beton_indexes(os.fspath(path), workers, rebuild, progress)
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


def _write_beton_indexes(
    path: str, workers: int | None, rebuild: bool, progress: Callable[[int, int], None] | None
) -> SeekSummary:
    dataset = BetonDataset(path, verify="never")
    with dataset:
        count, report = len(dataset), progress or (lambda done, total: None)
        ids = np.arange(count)
        jpegs = ~dataset.is_raw(ids) & (dataset.num_bytes(ids) > 0)
        crcs = np.zeros(count + 1, np.uint32)
        indexed = 0
        written = rebuild or dataset.seek.crc32 is None

        def indexes(pool: ThreadPoolExecutor) -> Iterator[bytes]:
            nonlocal indexed
            for begin in range(0, count, _BLOCK):
                numbers = ids[begin : begin + _BLOCK][jpegs[begin : begin + _BLOCK]].tolist()
                made = dict(zip(numbers, pool.map(lambda number: _indexed(dataset, number), numbers), strict=True))
                for number in range(begin, min(begin + _BLOCK, count)):
                    index, crcs[number] = made.get(number, (b"", 0))
                    indexed += bool(index)
                    yield index
                report(min(begin + _BLOCK, count), count)

        if written:
            warm_up_indexer()
            sweep(beton_seek_path(path))
            pool = ThreadPoolExecutor(workers or available_processors(), thread_name_prefix="fastload-index")
            try:
                write_beton_seek(path, indexes(pool), crcs, dataset.tables_crc32)
            except OSError as error:
                reason = f"the seek file cannot be written: {error.strerror}"
                raise DataError(reason, path=beton_seek_path(path)) from error
            finally:
                pool.shutdown(cancel_futures=True)
        num_bytes = os.stat(beton_seek_path(path)).st_size
    return SeekSummary(path=path, shards=1, written=int(written), samples=count, indexed=indexed, num_bytes=num_bytes)


def _indexed(dataset: BetonDataset, number: int) -> tuple[bytes, int]:
    """Index and checksum of one JPEG."""
    data = _read(dataset, number)
    return _index(data), zlib.crc32(data.data)


def _index_of(dataset: ShardedDataset, number: int) -> bytes:
    return _index(_read(dataset, number))


def _read(dataset: Dataset, number: int) -> NDArray[np.uint8]:
    buffer = np.empty(int(dataset.num_bytes(np.array([number]))[0]), np.uint8)
    dataset.read_into(number, buffer)
    return buffer


def _index(data: NDArray[np.uint8]) -> bytes:
    """The index of one image; empty for a file that our decoder does not take."""
    try:
        return build_index(data)
    except DataError:  # not a JPEG whose headers we read; libjpeg-turbo or Pillow decodes it
        return b""
