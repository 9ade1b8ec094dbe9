"""Seek indexes beside the shards (shard-000000.seek), where a data set has them."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import threading
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError
from fastload.jpeg.seek_file import SeekFile

logger = logging.getLogger("fastload")

NO_INDEX: Final = np.zeros(0, np.uint8)


def seek_path(shard_path: str) -> str:
    """Where the seek indexes of a shard lie: ``shard-000000.seek`` beside ``shard-000000.tar``."""
    return f"{os.path.splitext(shard_path)[0]}.seek"


def sweep(target: str) -> None:
    """Removes what processes that were killed while they wrote this file left behind."""
    for path in glob.glob(f"{glob.escape(target)}.*.tmp"):
        writer = path.split(".")[-2]
        if not (writer.isdecimal() and _lives(int(writer))):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class SeekFiles:
    """The seek files of a data set's shards, each opened when one of its samples is first asked for.

    Safe to use from several threads at once. A file that is missing, damaged or of other images is not used: it costs
    speed, and one line in the log where it is not simply missing.

    Args:
        shard_paths: The shards.
        shard_sizes: Samples in each, int64.
        crc32: Checksum of each image file of the data set, in order, uint32.
    """

    def __init__(self, shard_paths: list[str], shard_sizes: NDArray[np.int64], crc32: NDArray[np.uint32]) -> None:
        self._paths = shard_paths
        self._ends = np.cumsum(shard_sizes)
        self._starts = self._ends - shard_sizes
        self._crc32 = crc32
        self._files: list[SeekFile | None] = [None] * len(shard_paths)
        self._asked = np.zeros(len(shard_paths), bool)
        self._lock = threading.Lock()
        self._table = np.zeros((len(shard_paths), 3), np.int64)
        self._maps: list[NDArray[np.uint8]] = []

    def locate(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], object]:
        """For ``Reads.seek``: address, bytes and samples of each row's seek file, and its number there; int64 (n, 4).

        The addresses are good for as long as the second thing returned is held.
        """
        maps = self._maps
        for shard in np.unique(shards[~self._asked[shards]]):
            self._open(int(shard))
        starts, ends = self._starts[shards], self._ends[shards]
        found = np.empty((len(shards), 4), np.int64)
        found[:, :3] = self._table[shards]
        found[:, 3] = rows - starts
        found[(rows < starts) | (rows >= ends)] = 0
        return found, maps

    def index(self, shard: int, row: int) -> NDArray[np.uint8]:
        """The seek index of sample ``row`` of the data set, which lies in ``shard``; empty where there is none."""
        if not self._asked[shard]:
            self._open(shard)
        file, start = self._files[shard], int(self._starts[shard])
        if file is None or not start <= row < int(self._ends[shard]):
            return NO_INDEX
        return file.index(row - start)

    def _open(self, shard: int) -> None:
        """Opens the file of a shard, or finds that there is none; a subclass may put it off."""
        with self._lock:
            if self._asked[shard]:
                return
            path = seek_path(self._paths[shard])
            try:
                file = SeekFile(path, self._crc32[int(self._starts[shard]) : int(self._ends[shard])])
                self._files[shard] = file
                self._maps.append(file.data)
                self._table[shard] = file.data.ctypes.data, file.data.size, len(file)
            except FileNotFoundError:
                pass
            except (DataError, OSError) as error:
                logger.warning("%s; images are read without it, more slowly", error)
            self._asked[shard] = True

    def close(self) -> None:
        """Closes every file. Reads that run in other threads must have ended."""
        self._maps = []
        self._table[:] = 0
        for shard, file in enumerate(self._files):
            if file is not None:
                self._files[shard] = None
                file.close()
