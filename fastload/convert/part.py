"""Writes one part of a conversion: a shard, its indexes, its rows of the table and its lines of the ledger."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastload.convert.tar import BLOCK, END_OF_ARCHIVE, member
from fastload.convert.transcode import Transcoded
from fastload.dataset.index import number_columns, write_index
from fastload.dataset.listing import printable
from fastload.jpeg.seek_file import write_seek_file


@dataclass(frozen=True, kw_only=True)
class PartAccount:
    """What a finished part holds; written last, so its file says that the part is complete.

    Attributes:
        samples, skipped, reencoded, retiled: How many of the part's entries were written, skipped, encoded anew, and
            rewritten with restart tiles.
        size, crc32: Of the tar file.
    """

    samples: int
    skipped: int
    reencoded: int
    retiled: int = 0
    size: int
    crc32: int


def part_path(folder: str, number: int, extension: str) -> str:
    """Where a file of part ``number`` lies while the conversion runs; extension "tar", "idx", "arrow" and so on."""
    return os.path.join(folder, f"part-{number:06d}.{extension}")


class PartWriter:
    """Writes the samples of one part in order; nothing stands under its own name before ``finish``.

    Args:
        folder: The work folder.
        number: Number of the part.
        extras: Extensions of further members.
        dali_labels: Whether to add a member .lbl to each sample.
        seek_index: Whether to write the seek indexes of the images.
    """

    def __init__(self, folder: str, number: int, *, extras: Sequence[str], dali_labels: bool, seek_index: bool) -> None:
        self._folder = folder
        self._number = number
        self._extras = tuple(extras)
        self._dali_labels = dali_labels
        self._columns: dict[str, list[Any]] = {name: [] for name, _ in number_columns(extras)}
        self._columns |= {"key": [], "source": []}
        self._seek: list[bytes] | None = [] if seek_index else None
        self._index_lines: list[str] = []
        self._ledger_lines: list[str] = []
        self._skipped = 0
        self._reencoded = 0
        self._retiled = 0
        self._size = 0
        self._crc32 = 0
        self._temporary = part_path(folder, number, "tar.tmp")
        self._file = open(self._temporary, "wb", buffering=0)

    def add(self, key: str, source: str, label: int, image: Transcoded, extras: Mapping[str, bytes]) -> None:
        """Appends one sample: KEY.jpg, KEY.cls, [KEY.lbl] and its further members in the order announced."""
        members = [("jpg", image.image)]
        if label >= 0:
            members.append(("cls", b"%d" % label))
            if self._dali_labels:
                members.append(("lbl", label.to_bytes(8, "little")))
        members += [(extension, extras[extension]) for extension in self._extras if extension in extras]
        pieces: list[bytes] = []
        tokens: list[str] = []
        places: dict[str, int] = {}
        offset = self._size
        for extension, data in members:
            name = f"{key}.{extension}"
            places[extension] = offset + BLOCK
            tokens.append(f"{extension} {offset + BLOCK} {len(data)} {name}")
            pieces.append(member(name, data))
            offset += len(pieces[-1])
        self._write(b"".join(pieces))
        self._index_lines.append(" ".join(tokens) + "\n")
        if self._seek is not None:
            self._seek.append(image.seek)
        self._reencoded += image.reencoded
        self._retiled += image.retiled
        if image.reason:
            self._note(key, source, "reencoded", image.reason)
        if image.untiled:
            self._note(key, source, "not tiled", image.untiled)
        row: dict[str, Any] = {
            "shard": 0,
            "offset": places["jpg"],
            "size": len(image.image),
            "width": image.width,
            "height": image.height,
            "label": label,
            "crc32": image.crc32,
            "key": key,
            "source": printable(source),
        }
        for extension in self._extras:
            data = extras.get(extension, b"")
            row[f"{extension}:offset"] = places.get(extension, 0)
            row[f"{extension}:size"] = len(data)
            row[f"{extension}:crc32"] = zlib.crc32(data)
        for name, value in row.items():
            self._columns[name].append(value)

    def skip(self, key: str, source: str, reason: str) -> None:
        """Enters a sample that cannot be read into the ledger."""
        self._skipped += 1
        self._note(key, source, "skipped", reason)

    def _note(self, key: str, source: str, action: str, reason: str) -> None:
        self._ledger_lines.append(ledger_line(source, action, reason, key=key))

    def finish(self) -> PartAccount:
        """Completes every file of the part, each on the disk before the account that vouches for them."""
        self._write(END_OF_ARCHIVE)
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, part_path(self._folder, self._number, "tar"))
        samples = len(self._index_lines)
        self._put("idx", f"v1.2 {samples}\n{''.join(self._index_lines)}".encode("ascii"))
        self._put("jsonl", "".join(self._ledger_lines).encode("ascii"))
        write_index(part_path(self._folder, self._number, "arrow"), self._columns, self._extras)
        if self._seek is not None:
            write_seek_file(part_path(self._folder, self._number, "seek"), self._seek, self._columns["crc32"])
        account = PartAccount(
            samples=samples,
            skipped=self._skipped,
            reencoded=self._reencoded,
            retiled=self._retiled,
            size=self._size,
            crc32=self._crc32,
        )
        write_durably(part_path(self._folder, self._number, "json"), json.dumps(asdict(account)).encode())
        return account

    def abandon(self) -> None:
        """Gives the disk space of an unfinished part back."""
        self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._crc32 = zlib.crc32(data, self._crc32)
        self._size += len(data)

    def _put(self, extension: str, data: bytes) -> None:
        write_durably(part_path(self._folder, self._number, extension), data)


def ledger_line(source: str, action: str, reason: str, *, key: str | None = None) -> str:
    """One line of conversion.jsonl, in ASCII whatever the name of the file."""
    line = {"key": key, "source": printable(source), "action": action, "reason": printable(reason)}
    return json.dumps(line, ensure_ascii=True) + "\n"


def write_durably(path: str, data: bytes) -> None:
    """Writes a file that is either absent or complete, also after a loss of power."""
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def sync_folder(folder: str) -> None:
    """Puts the names in a folder on the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
