"""Seek indexes of an image folder, noted while its loader has time to spare and kept in the user's cache."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.reading import LARGEST_FILE, open_regular, read_range, stamp_of
from fastload.dataset.seek import NO_INDEX
from fastload.dataset.seek_cache import SeekCache
from fastload.errors import DataError
from fastload.jpeg.decoder import Indexer
from fastload.jpeg.seek_file import SeekFile

logger = logging.getLogger("fastload")

# What a sample is to this process: not asked for yet; asked for, its index is to be noted; asked for again before that
# was done; noted, or the file in the cache has it.
_NEW, _WANTED, _DUE, _NOTED = range(4)
# A file that was written a moment ago may be written again within the same tick of its file system's clock.
_SETTLED_NS: Final = 2_000_000_000
# The file in the cache is written anew when so many indexes are new, or as many as it has: twice the bytes in all.
_FEWEST_NEW: Final = 256


class SeekNotes:
    """Notes the seek index of each image once, and finds it again. Safe to use from several threads at once.

    An index costs 0.6 ms and saves 0.15 ms each time that a crop is decoded. Whether an epoch will be followed by four
    more nobody knows. So it is made in time that costs nothing, while a thread of the engine has no batch to work on;
    and from an image's second reading on, which promises more, also beside other work: one for every eight images that
    are delivered, which adds less than a fifth to them.

    Args:
        path: The folder, for its name in the cache.
        names: Digest of the names of its images.
        count: How many there are.
        location: Path of an image by its number.
    """

    def __init__(self, path: str, names: str, count: int, location: Callable[[int], str]) -> None:
        self._location = location
        self._cache = SeekCache(path, names, count)
        self._indexer = Indexer()
        self._state = np.zeros(count, np.uint8)
        self._wanted: deque[int] = deque()
        self._due: deque[int] = deque()
        self._new = 0
        self._kept = 0
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._active = self._cache.usable
        self._file: SeekFile | None = self._cache.open() if self._active else None
        if self._file is not None:
            self._kept = int(np.count_nonzero(self._file.image_crcs))

    def locate(self, ids: NDArray[np.int64], stamps: NDArray[np.int64]) -> tuple[NDArray[np.int64], object]:
        """For ``Reads.seek``: address, bytes and samples of the file in the cache, and the number of each image there.

        Whether the index that is there fits the stamp, the kernel sees. What has none is remembered, to be noted.
        """
        found = np.zeros((len(ids), 4), np.int64)
        file = self._file
        if file is not None:
            found[:, :3] = file.data.ctypes.data, file.data.size, len(file)
            found[:, 3] = ids
        if self._active:
            self._want(ids, stamps, file)
        return found, file.data if file is not None else None

    def index(self, number: int, stamp: int) -> NDArray[np.uint8]:
        """The index of one image; empty where there is none."""
        file = self._file
        return NO_INDEX if file is None or int(file.image_crcs[number]) != stamp else file.index(number)

    def _want(self, ids: NDArray[np.int64], stamps: NDArray[np.int64], file: SeekFile | None) -> None:
        with self._lock:
            state = self._state[ids]
            if file is not None:
                fits = (state == _NEW) & (file.image_crcs[ids] == stamps)
                self._state[ids[fits]] = _NOTED
                state[fits] = _NOTED
            self._wanted.extend(ids[state == _NEW].tolist())
            self._due.extend(ids[state == _WANTED].tolist())
            self._state[ids[state == _NEW]] = _WANTED
            self._state[ids[state == _WANTED]] = _DUE

    def tend(self, *, busy: bool) -> bool:
        """Notes one index, or writes the file; False if there was nothing to do. See Dataset.tend."""
        if not self._active:
            return False
        try:
            if not self._indexer.ready(start=not busy and bool(self._wanted or self._due)):
                return False
            number = self._next(busy)
            if number is not None:
                self._note(number)
            return number is not None
        except Exception as error:  # whatever it is, an epoch does not end because of what only makes it faster
            self._active = False
            logger.warning("no more seek indexes are noted for this folder: %s", error)
            return False

    def _next(self, busy: bool) -> int | None:
        with self._lock:
            queues = (self._due,) if busy else (self._due, self._wanted)
            for queue in queues:
                while queue:
                    number = queue.popleft()
                    if self._state[number] != _NOTED:
                        self._state[number] = _NOTED
                        return number
        return None

    def _note(self, number: int) -> None:
        found = self._read(number)
        if found is None:
            return
        data, stamp = found
        index = self._indexer.index(data)
        due = False
        with self._lock:
            if self._active:
                self._cache.add(number, stamp, index)
                self._new += 1
                due = self._new + self._kept >= len(self._state) or self._new >= max(_FEWEST_NEW, self._kept)
        if due:
            self.flush()

    def _read(self, number: int) -> tuple[NDArray[np.uint8], int] | None:
        """An image file and its stamp; None for one that cannot be read or that somebody may be writing."""
        try:
            descriptor, size = open_regular(self._location(number))
        except DataError:
            return None
        try:
            before = os.fstat(descriptor)
            if size > LARGEST_FILE or time.time_ns() - before.st_mtime_ns < _SETTLED_NS:
                return None
            data = np.empty(size, np.uint8)
            done = read_range(descriptor, memoryview(data.data), 0)
            stamp = stamp_of(before)
            return (data, stamp) if done == size and stamp_of(os.fstat(descriptor)) == stamp else None
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def flush(self) -> bool:
        """Writes what is new into the cache and uses it from then on; False if another thread does."""
        if not self._flushing.acquire(blocking=False):
            return False
        try:
            with self._lock:
                new = self._cache.take()
                self._new = 0
            file = self._cache.merge(new)
            if file is None:  # larger than the cache may be
                self._active = False
            else:
                self._kept = int(np.count_nonzero(file.image_crcs))
                self._file = file
            return True
        finally:
            self._flushing.release()

    def close(self) -> None:
        """Writes what is new, if it is an eighth of what is kept, and lets go of everything."""
        try:
            if self._active and self._new and 8 * self._new >= self._kept:
                self.flush()
        except OSError as error:
            logger.warning("the cache of seek indexes cannot be written (%s)", error)
        self._active = False
        self._indexer.close()
        self._cache.close()
        self._file = None
