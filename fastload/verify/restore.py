"""Writes a shard of convert's anew: headers from the index, images from the damaged tar or from the original files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from fastload.convert.tar import BLOCK, END_OF_ARCHIVE, member
from fastload.convert.transcode import transcode
from fastload.dataset.index import IndexTable
from fastload.dataset.manifest import Manifest
from fastload.dataset.reading import LARGEST_FILE, open_regular, read_file, read_range
from fastload.errors import DataError


@dataclass
class Restored:
    """A shard as it could be put together.

    Attributes:
        size: Bytes written.
        restored: Samples whose images come from the original files.
        lost: Samples with a member that neither the tar nor the originals have.
    """

    size: int = 0
    restored: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Part:
    name: str
    offset: int | None  # None: not in the index
    size: int
    crc32: int
    data: bytes | None  # None: to be read


class ShardRestorer:
    """One shard.

    Args:
        path: The data set.
        manifest, index: Its dataset.json and index.arrow, both sound.
        number: Number of the shard.
        first: Its first sample.
        source: The folder that was converted; None where it is not at hand.
    """

    def __init__(
        self, path: str, manifest: Manifest, index: IndexTable, number: int, first: int, source: str | None
    ) -> None:
        self._shard = manifest.shards[number]
        self._file = os.path.join(path, self._shard.name)
        self._index = index
        self._rows = range(first, first + self._shard.samples)
        self._source = source
        options = manifest.conversion.get("options")
        self._options = options if isinstance(options, dict) else {}
        self._descriptor = -1

    def write(self, target: str) -> Restored | None:
        """Writes the shard to ``target``, complete on the disk when this returns; None if its layout is not convert's.

        What is lost keeps the bytes that the tar has; where it has none, zeros stand between others, and at the end
        nothing.
        """
        try:
            self._descriptor, _ = open_regular(self._file)
        except DataError:
            self._descriptor = -1
        result = Restored()
        try:
            with open(target, "wb") as file:
                end = 0
                for row in self._rows:
                    found = self._sample(row, file, result)
                    if found is None:
                        return None
                    end = file.tell() if found else end
                file.seek(end)
                file.truncate()
                file.write(END_OF_ARCHIVE)
                file.flush()
                os.fsync(file.fileno())
                result.size = file.tell()
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)
        return result

    def _sample(self, row: int, file: BinaryIO, result: Restored) -> bool | None:
        """Writes the members of one sample; whether there was anything of it, None if it does not belong here."""
        there = False
        for part in self._parts(row):
            if part.offset not in (None, file.tell() + BLOCK) or part.size > LARGEST_FILE:
                return None
            if not part.name.isascii() or len(part.name) > 100 or file.tell() + part.size > self._shard.size:
                return None
            data, sound = (part.data, True) if part.data is not None else self._read(part)
            if not sound and part.name.endswith(".jpg"):
                original = self._original(row)
                if original is not None:
                    data, sound = original, True
                    result.restored.add(row)
            if not sound:
                result.lost.add(row)
            there |= data is not None and part.data is None
            file.write(member(part.name, bytes(part.size) if data is None else data))
        return there

    def _parts(self, row: int) -> Iterator[_Part]:
        index, key, label = self._index, self._index.key[row], int(self._index.label[row])
        yield _Part(f"{key}.jpg", int(index.offset[row]), int(index.size[row]), int(index.crc32[row]), None)
        if label >= 0:
            text = b"%d" % label
            yield _Part(f"{key}.cls", None, len(text), 0, text)
            if self._options.get("dali_labels"):
                yield _Part(f"{key}.lbl", None, 8, 0, label.to_bytes(8, "little"))
        for extension, columns in index.extras.items():
            if columns.offset[row]:
                size, crc32 = int(columns.size[row]), int(columns.crc32[row])
                yield _Part(f"{key}.{extension}", int(columns.offset[row]), size, crc32, None)

    def _read(self, part: _Part) -> tuple[bytes | None, bool]:
        """The bytes that the tar has, None if it has not all of them; and whether they are sound."""
        if self._descriptor < 0 or part.offset is None:
            return None, False
        if part.offset + part.size > os.fstat(self._descriptor).st_size:
            return None, False
        buffer = bytearray(part.size)
        try:
            done = read_range(self._descriptor, memoryview(buffer), part.offset)
        except OSError:  # a sector that cannot be read
            return None, False
        data = bytes(buffer)
        return (data, zlib.crc32(data) == part.crc32) if done == part.size else (None, False)

    def _original(self, row: int) -> bytes | None:
        """The image as convert stored it, from the file that it was made of."""
        name = self._index.source[row]
        if self._source is None or os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
            return None
        wanted = int(self._index.crc32[row])
        try:
            data = read_file(os.path.join(self._source, name))
            if zlib.crc32(data) == wanted:
                return data
            max_side, quality = (_number(self._options.get(name)) for name in ("max_side", "quality"))
            made = transcode(data, max_side=max_side, quality=quality, tiles=self._options.get("tiles") is True)
        except DataError:
            return None
        return made.image if made.crc32 == wanted else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None
