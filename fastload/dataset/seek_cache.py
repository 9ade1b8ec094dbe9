"""The files of the user's cache in which the seek indexes of image folders are kept: who may write, and how much."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from fastload.dataset.seek import sweep
from fastload.errors import ConfigError, DataError
from fastload.jit import file_lock, user_cache_directory
from fastload.jpeg.seek_file import SeekFile, write_seek_file

logger = logging.getLogger("fastload")

VARIABLE: Final = "FASTLOAD_SEEK_CACHE_GB"
# All of ImageNet takes 2.8 GB.
_DEFAULT_GB: Final = 4.0

# Where in the file of what is new an index begins, its bytes, and the stamp of its image.
Notes = dict[int, tuple[int, int, int]]


def cache_limit() -> int:
    """Bytes that the indexes of all image folders may take: $FASTLOAD_SEEK_CACHE_GB, 4 if it is not set, 0 for none.

    Raises:
        ConfigError: The variable is no number.
    """
    text = os.environ.get(VARIABLE, "") or str(_DEFAULT_GB)
    try:
        limit = float(text)
        if not 0 <= limit < 1e9:
            raise ValueError(text)
    except ValueError as error:
        raise ConfigError(f"{VARIABLE} must be a number of gigabytes, 0 for no cache, not {text!r}") from error
    return int(limit * 1e9)


class SeekCache:
    """The cached file of one image folder, and the indexes that are not in it yet.

    What is new lies in a file without a name, so that memory does not grow and a process that is killed leaves
    nothing. The cached file is replaced as a whole, under a lock, together with what other processes put there.

    Args:
        path: The folder.
        names: Digest of the names of its images.
        count: How many there are.

    Attributes:
        usable: Whether there is a cache: a limit above 0, and a folder that can be written to.
    """

    usable: bool

    def __init__(self, path: str, names: str, count: int) -> None:
        self._descriptor = -1
        self._count = count
        self._limit = cache_limit()
        self._folder = user_cache_directory() / "seek"
        key = hashlib.sha256(os.fsencode(os.path.realpath(path)) + b"\0" + names.encode()).hexdigest()[:24]
        self._target = self._folder / f"{key}.seek"
        self._notes: Notes = {}
        self._end = 0
        self.usable = self._limit > 0 and self._prepare()

    def _prepare(self) -> bool:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".new")
            os.unlink(name)
        except OSError:
            return False
        return True

    def open(self) -> SeekFile | None:
        """The cached file, None where there is none that can be used."""
        try:
            file = SeekFile(str(self._target), None)
        except (OSError, DataError):
            return None
        if len(file) != self._count:
            file.close()
            return None
        with contextlib.suppress(OSError):
            os.utime(self._target)  # used last: removed last
        return file

    def add(self, number: int, stamp: int, index: bytes) -> None:
        """Keeps the index of one image, empty if it can have none, until it is merged."""
        written = 0
        while written < len(index):
            written += os.pwrite(self._descriptor, index[written:], self._end + written)
        self._notes[number] = (self._end, len(index), stamp)
        self._end += len(index)

    def take(self) -> Notes:
        """What is new, to be merged."""
        notes, self._notes = self._notes, {}
        return notes

    def merge(self, notes: Notes) -> SeekFile | None:
        """Writes the cached file anew with ``notes``, and opens it; None if it would be larger than all may be.

        Raises:
            OSError: The file cannot be written.
        """
        with file_lock(self._target.with_suffix(".lock")):
            sweep(str(self._target))
            old = self.open()
            size = sum(length for _, length, _ in notes.values()) + (0 if old is None else old.data.size)
            if size + 16 * self._count > self._limit:
                return None
            stamps = np.zeros(self._count, np.uint32) if old is None else old.image_crcs.copy()
            for number, (_, _, stamp) in notes.items():
                stamps[number] = stamp
            write_seek_file(str(self._target), self._merged(notes, old), stamps.tolist())
            if old is not None:
                old.close()
        self._evict()
        return self.open()

    def _merged(self, notes: Notes, old: SeekFile | None) -> Iterator[bytes]:
        for number in range(self._count):
            if number in notes:
                begin, length, _ = notes[number]
                yield os.pread(self._descriptor, length, begin)
            else:
                yield b"" if old is None else old.index(number).tobytes()

    def _evict(self) -> None:
        """Removes the files of the folders that were used longest ago until all take no more than the limit."""
        found = []
        for path in self._folder.glob("*.seek"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((path != self._target, -status.st_mtime_ns, status.st_size, path))
        total = 0
        for _, _, size, path in sorted(found):
            total += size
            if total > self._limit:
                _remove(path)
                _remove(path.with_suffix(".lock"))

    def close(self) -> None:
        """Forgets what has not been merged. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
