"""The samples that a cache has: which lie in which of its files, seen by all processes that share it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError
from fastload.remote.blocks import Block, OpenFile, read_table, write_at, write_table
from fastload.remote.cache import CacheFolder

_PACK: Final = ".pack"
# A file's time of change says when it was last used, to within so many seconds.
_USED_SECONDS: Final = 60.0
_MOST_OPEN: Final = 256


class Packs:
    """The samples of a data set that the cache has.

    Safe to use from several threads. What other processes add is seen by ``refresh``.

    Args:
        folder: Of the data set.
        sizes, crc32: (N,), of each sample's image, as the index says: what a pack says otherwise is not used.
    """

    def __init__(self, folder: CacheFolder, sizes: NDArray[np.uint32], crc32: NDArray[np.uint32]) -> None:
        self._folder = folder
        self._sizes = sizes
        self._crc32 = crc32
        self._lock = threading.Lock()
        self._pack = np.full(len(sizes), -1, np.int32)
        self._offset = np.zeros(len(sizes), np.int64)
        self._paths: list[Path] = []
        self._numbers: dict[str, int] = {}
        self._open: OrderedDict[int, OpenFile] = OrderedDict()
        self._used: dict[int, float] = {}
        self._seen_ns = -1
        self.refresh()

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Looks for packs that have come or gone, if the folder has changed."""
        with self._lock:
            try:
                changed = os.stat(self._folder.folder).st_mtime_ns
                if changed == self._seen_ns:
                    return
                names = {name for name in os.listdir(self._folder.folder) if name.endswith(_PACK)}
            except OSError:
                names, changed = set(), -1
            self._seen_ns = changed
            for name in self._numbers.keys() - names:
                self._drop(self._numbers[name])
            for name in sorted(names - self._numbers.keys()):
                self._learn(name)

    def _learn(self, name: str) -> None:
        path = self._folder.folder / name
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            return
        try:
            table = read_table(descriptor)
        except (OSError, DataError):
            with contextlib.suppress(OSError):
                path.unlink()  # of a loss of power
            return
        finally:
            os.close(descriptor)
        table = table[(table["sample"] >= 0) & (table["sample"] < len(self._sizes))]
        samples = table["sample"]
        fits = (table["size"] == self._sizes[samples]) & (table["crc32"] == self._crc32[samples])
        self._enter(name, samples[fits], table["offset"][fits])

    def _enter(self, name: str, samples: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        number = self._numbers[name] = len(self._paths)
        self._paths.append(self._folder.folder / name)
        new = self._pack[samples] < 0
        self._pack[samples[new]] = number
        self._offset[samples[new]] = offsets[new]

    def _drop(self, number: int) -> None:
        """Forgets a pack that is gone."""
        self._numbers.pop(self._paths[number].name, None)
        self._pack[self._pack == number] = -1
        self._open.pop(number, None)

    def has(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether samples are here, shape as ids."""
        return self._pack[ids] >= 0

    def locate(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[OpenFile]]:
        """Descriptor (-1 where a sample is not here) and offset of each sample.

        Descriptors are good for as long as the files that come with them are held.
        """
        held: list[OpenFile] = []
        descriptors = np.full(len(ids), -1, np.int64)
        with self._lock:
            packs, offsets = self._pack[ids], self._offset[ids]
            for number in np.unique(packs[packs >= 0]).tolist():
                file = self._opened(number)
                if file is not None:
                    held.append(file)
                    descriptors[packs == number] = file.descriptor
        return descriptors, offsets, held

    def _opened(self, number: int) -> OpenFile | None:
        path = self._paths[number]
        now = time.monotonic()
        if now - self._used.get(number, -_USED_SECONDS) >= _USED_SECONDS:
            self._used[number] = now
            try:
                os.utime(path)
            except FileNotFoundError:  # another process took its room, which it has once nobody holds the file
                self._drop(number)
                return None
            except OSError:
                pass  # somebody else's file
        file = self._open.get(number)
        if file is not None:
            self._open.move_to_end(number)
            return file
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                self._drop(number)
            return None
        file = self._open[number] = OpenFile(descriptor)
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return file

    def forget(self, sample: int) -> None:
        """A sample whose bytes turned out to be wrong is fetched again."""
        with self._lock:
            self._pack[sample] = -1

    def add(self, block: Block) -> None:
        """Keeps the samples of a block that has been fetched, if there is room."""
        self.refresh()
        fetched = np.array([sample not in block.failures for sample in block.samples.tolist()], bool)
        new = fetched & ~self.has(block.samples)
        if 2 * np.count_nonzero(new) < len(new) or not new.any():  # another process was faster
            return
        samples, offsets = block.samples[fetched], block.offsets[fetched]
        sizes, crc32 = block.sizes[fetched], self._crc32[block.samples[fetched]]
        # The table has no more rows than the block has samples: there is room for it before the first of them.

        def write(descriptor: int) -> None:
            _copy(block.file.descriptor, descriptor, block.file_bytes)
            write_table(descriptor, samples, offsets, sizes, crc32)

        path = self._folder.store(f"{uuid.uuid4().hex}{_PACK}", block.file_bytes, write)
        if path is not None:
            with self._lock:
                if path.name not in self._numbers:
                    self._enter(path.name, samples, offsets)


def _copy(source: int, target: int, size: int) -> None:
    for begin in range(0, size, 1 << 20):
        write_at(target, os.pread(source, min(1 << 20, size - begin), begin), begin)
