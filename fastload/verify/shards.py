"""The checks of a data set of tar shards: manifest, index and ledger at once, files and images as tasks."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.index import IndexTable
from fastload.dataset.manifest import MANIFEST_NAME, Manifest, Shard, read_manifest
from fastload.dataset.reading import LARGEST_FILE, open_regular
from fastload.dataset.seek import seek_path
from fastload.dataset.sharded import index_of
from fastload.errors import DataError
from fastload.jpeg.seek_file import SeekFile
from fastload.verify.ledger import check_ledger
from fastload.verify.report import Finding
from fastload.verify.tars import ShardCheck
from fastload.verify.work import Stop, Task, checksum, fill, prove, same_seek_index, slices

_CANNOT: Final = "the samples cannot be checked without it"


class ShardedCheck:
    """What there is to check.

    Args:
        path: The folder.
        stop: Ends the tasks.

    Attributes:
        manifest: dataset.json; None if it cannot be read, and nothing is checked then.
        index: index.arrow; None if it cannot be used, and only files are checked then.
        findings: What is off about these two, and about the ledger.
        units: Name, samples and bytes of each shard.
    """

    manifest: Manifest | None
    index: IndexTable | None

    def __init__(self, path: str, stop: Stop) -> None:
        self.path = path
        self._stop = stop
        self.findings: list[Finding] = []
        self.manifest = self.index = None
        self._seek: dict[int, SeekFile | None] = {}
        self._left: dict[int, int] = {}  # tasks of each shard that have not ended
        self._lock = threading.Lock()
        try:
            self.manifest = read_manifest(path)
        except DataError as error:
            self.findings.append(Finding(kind="manifest", file=MANIFEST_NAME, reason=error.reason))
            return
        self.findings += check_ledger(path, self.manifest)
        try:
            self.index = self._read_index(self.manifest)
        except DataError as error:
            name = self.manifest.index.name
            self.findings.append(Finding(kind="index", file=name, reason=f"{error.reason} ({_CANNOT})"))

    def _read_index(self, manifest: Manifest) -> IndexTable:
        index = index_of(manifest, os.path.join(self.path, manifest.index.name), check=True)
        samples = [shard.samples for shard in manifest.shards]
        if not np.array_equal(index.shard, np.repeat(np.arange(len(samples), dtype=np.int32), samples)):
            raise DataError("expected the samples of each shard one after the other, as dataset.json counts them")
        return index

    @property
    def units(self) -> list[tuple[str, int, int]]:
        return [(shard.name, shard.samples, shard.size) for shard in self.manifest.shards] if self.manifest else []

    def tasks(self) -> Iterator[Task]:
        """One task for each shard's files, and then those for its images."""
        if self.manifest is None:
            return
        last = 0
        for number, shard in enumerate(self.manifest.shards):
            first, last = last, last + shard.samples
            if self._stop:
                return
            absent = self._arrive(number, shard)
            if absent:
                yield Task(unit=number, images=0, num_bytes=0, check=partial(list, absent))
                continue
            cuts: list[tuple[int, int, int]] = []
            if self.index is not None:
                sizes = np.minimum(self.index.size[first:last].astype(np.int64), LARGEST_FILE)
                cuts = list(slices(first, last, sizes))
            self._left[number] = 1 + len(cuts)
            yield Task(unit=number, images=0, num_bytes=0, check=partial(self._files, number, first))
            for begin, end, num_bytes in cuts:
                images = partial(self._images, number, shard, first, begin, end)
                yield Task(unit=number, images=end - begin, num_bytes=num_bytes, check=images)

    def _place(self, number: int) -> str:
        """The folder that a shard lies in."""
        return self.path

    def _arrive(self, number: int, shard: Shard) -> list[Finding]:
        """Called before the tasks of a shard are made; why there can be none."""
        return []

    def _depart(self, number: int) -> None:
        """Called when the last of them has ended."""

    def _files(self, number: int, first: int) -> list[Finding]:
        assert self.manifest is not None
        try:
            place = self._place(number)
            return ShardCheck(place, self.manifest, self.index, number, first, self._stop).findings()
        finally:
            self._leave(number)

    def _images(self, number: int, shard: Shard, first: int, begin: int, end: int) -> list[Finding]:
        assert self.index is not None
        seek = self._seek_file(number, shard, first)
        findings: list[Finding] = []
        try:
            descriptor, _ = open_regular(os.path.join(self._place(number), shard.name))
        except DataError:  # what checks the file has said so
            self._leave(number)
            return []
        try:
            for row in range(begin, end):
                if self._stop:
                    break
                findings += self._sample(descriptor, shard, seek, row, row - first)
        finally:
            os.close(descriptor)
            self._leave(number)
        return findings

    def _sample(self, descriptor: int, shard: Shard, seek: SeekFile | None, row: int, place: int) -> list[Finding]:
        assert self.index is not None
        key = None
        try:
            key = self.index.key[row]
            made = self._proven(descriptor, row)
        except DataError as error:
            return [Finding(kind="sample", file=shard.name, key=key, reason=error.reason, sample=row)]
        if seek is None or seek.image_crcs[place] != self.index.crc32[row]:
            return []
        stored = seek.stored(place)
        if stored == b"" or (stored is not None and made(stored)):
            return []
        reason = "its seek index is damaged" if stored is None else "its seek index is not the one of its image"
        file = os.path.basename(seek_path(shard.name))
        return [Finding(kind="seek", file=file, key=key, reason=reason, sample=row)]

    def _proven(self, descriptor: int, row: int) -> Callable[[bytes], bool]:
        """Checks the bytes of a sample; returns what compares a seek index with its image."""
        index = self.index
        assert index is not None
        assert self.manifest is not None
        size, label = int(index.size[row]), int(index.label[row])
        if not -1 <= label < max(len(self.manifest.classes), 1):
            raise DataError(f"its label {label} is none of the {len(self.manifest.classes)} classes")
        if size > LARGEST_FILE:
            raise DataError(f"expected an image of at most 1 GiB, but it has {size:,} bytes")
        _inside(descriptor, int(index.offset[row]), size)
        buffer = bytearray(size)
        fill(descriptor, memoryview(buffer), int(index.offset[row]))
        data = bytes(buffer)
        _compare(zlib.crc32(data), int(index.crc32[row]), "the image")
        seek = prove(data, int(index.height[row]), int(index.width[row]))
        for extension, columns in index.extras.items():
            offset, size = int(columns.offset[row]), int(columns.size[row])
            if size:
                found = checksum(descriptor, offset, size, self._stop)
                if not self._stop:
                    _compare(found, int(columns.crc32[row]), f"its member .{extension}")
        return lambda stored: same_seek_index(data, stored, seek)

    def _seek_file(self, number: int, shard: Shard, first: int) -> SeekFile | None:
        assert self.index is not None
        with self._lock:
            if number not in self._seek:
                crcs: NDArray[np.uint32] = self.index.crc32[first : first + shard.samples]
                try:
                    self._seek[number] = SeekFile(seek_path(os.path.join(self._place(number), shard.name)), crcs)
                except (DataError, OSError):  # what checks the file has said so
                    self._seek[number] = None
            return self._seek[number]

    def _leave(self, number: int) -> None:
        """Gives the files of a shard back with the last of its tasks."""
        with self._lock:
            self._left[number] -= 1
            if self._left[number]:
                return
            self._seek[number] = None
        self._depart(number)


def _inside(descriptor: int, offset: int, size: int) -> None:
    """A row that points outside must not ask for its size in memory."""
    end = os.fstat(descriptor).st_size
    if not 0 <= offset <= end - size:
        raise DataError(f"expected {size:,} bytes at offset {offset:,}, but the shard ends after {end:,}")


def _compare(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise DataError(f"expected crc32 {expected:08x} of {what}, as the index says, but the bytes have {found:08x}")
