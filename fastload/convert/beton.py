"""Writes a conversion as one .beton file, as FFCV's DatasetWriter lays it out, part by part."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from fastload.convert.options import Options
from fastload.convert.part import PartAccount, ledger_line, part_path, sync_folder, write_durably
from fastload.convert.publish import count, rejected_lines, write_ledger
from fastload.convert.transcode import MOST_PIXELS, Transcoded
from fastload.convert.workspace import Workspace, describe_difference
from fastload.dataset.beton import BetonDataset
from fastload.dataset.beton_layout import (
    ALLOCATION,
    DESCRIPTOR,
    HEADER,
    INT,
    JPEG_MODE,
    RAW_MODE,
    RGB,
    VERSION,
    Field,
    described,
    row_type,
)
from fastload.dataset.beton_notes import Notes, dump_notes, notes_path, read_notes
from fastload.dataset.beton_seek import beton_seek_path, write_beton_seek
from fastload.dataset.listing import printable
from fastload.errors import ConfigError, DataError
from fastload.jpeg.seek_file import SeekFile, write_seek_file
from fastload.sources.base import Source

_PAGE_BYTES: Final = 8 << 20  # FFCV's default
_LARGEST_PAGE: Final = 1 << 31
_LONGEST_NAME: Final = 16


class BetonFile:
    """The file while it is made: one file in the work folder, in which every byte lies where it will lie.

    Samples follow each other in the order of the plan, each in one page with all that belongs to it, so that equal
    sources and options give equal bytes. The rows are written when their number is known; room is left for all.

    Args:
        workspace: The work folder, held alone.
        source: What is converted.
        options: How.
        seek_index: Whether to write the seek indexes of the images beside the file.
    """

    def __init__(self, workspace: Workspace, source: Source, options: Options, *, seek_index: bool) -> None:
        self._workspace = workspace
        self.seek_index = seek_index
        self._source = source
        self._raw = options.raw
        self._path = os.path.join(workspace.folder, "file.beton")
        self.extras = tuple(source.extras)
        names = ["image", "label", *self.extras]
        for name in names:
            if len(name) > _LONGEST_NAME or not name.isascii() or names.count(name) > 1:
                raise ConfigError(f"a .beton file cannot have a field {name!r}: rename it in the source, 16 letters")
        forms = {name: "json" if name == "json" else source.forms.get(name, "bytes") for name in self.extras}
        described_extras = [described(name, form) for name, form in forms.items()]
        self.fields = tuple(field for _, field, _ in described_extras)
        self._types = [RGB, INT, *(code for code, _, _ in described_extras)]
        self._arguments = [b"", b"", *(arguments for _, _, arguments in described_extras)]
        self._names = names
        self.row_type = row_type(self._types)
        self.page_size = _page_size(options, source)
        self._rows_begin = HEADER.itemsize + DESCRIPTOR.itemsize * len(names)
        self._data_begin = _round_up(self._rows_begin + self.row_type.itemsize * len(source), self.page_size)
        self._position = self._data_begin
        self._samples = 0

    def resume(self, num_parts: int) -> dict[int, PartAccount]:
        """Accounts of the parts that an earlier run completed: each lies behind the one before it."""
        found = self._workspace.finished_parts(num_parts)
        accounts = {}
        for number in range(num_parts):
            if number not in found:
                break
            accounts[number] = found[number]
        for number in found.keys() - accounts.keys():  # what follows a part that has vanished is written over
            os.unlink(part_path(self._workspace.folder, number, "json"))
        self._position = self._data_begin + sum(account.size for account in accounts.values())
        self._samples = sum(account.samples for account in accounts.values())
        return accounts

    def writer(self, number: int) -> BetonPartWriter:
        """Begins the part behind those that are done."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(self._path, flags, 0o644), "r+b", buffering=0)
        file.truncate(self._position)  # what an interrupted run left behind
        return BetonPartWriter(self, file, part_path(self._workspace.folder, number, ""))

    def publish(self, accounts: Mapping[int, PartAccount], conversion: Mapping[str, Any]) -> Notes:
        """Completes the file and gives it its name; may be interrupted anywhere and called again.

        The seek indexes, the ledger and the notes come first: with the file they are there.
        """
        rows, allocations = bytearray(), bytearray()
        for number in sorted(accounts):
            with open(part_path(self._workspace.folder, number, "tables"), "rb") as file:
                data = file.read()
            split = accounts[number].samples * self.row_type.itemsize
            rows += data[:split]
            allocations += data[split:]
        destination = self._workspace.destination
        size = self._complete(rows, allocations)
        if self.seek_index:
            self._write_seek(sorted(accounts))
        write_ledger(self._workspace, rejected_lines(self._source), len(accounts), f"{destination}.jsonl")
        notes = Notes(
            size=size,
            classes=tuple(printable(name) for name in self._source.classes),
            fields=dict(self._source.fields),
            counts=count(self._source, accounts),
            conversion=dict(conversion),
        )
        write_durably(notes_path(destination), dump_notes(notes))
        os.replace(self._path, destination)
        sync_folder(os.path.dirname(destination))
        return notes

    def _complete(self, rows: bytearray, allocations: bytearray) -> int:
        """Writes the tables around the pages; the size of the file."""
        table = _round_up(self._position, self.page_size)
        descriptors = np.zeros(len(self._names), DESCRIPTOR)
        descriptors["type"] = self._types
        descriptors["name"] = [name.encode("ascii") for name in self._names]
        descriptors["arguments"] = [arguments.ljust(1024, b"\0") for arguments in self._arguments]
        header = np.array([(VERSION, len(self._names), self.page_size, self._samples, table)], HEADER)
        with open(self._path, "r+b") as file:
            file.truncate(self._position)
            file.write(header.tobytes() + descriptors.tobytes() + rows)
            file.seek(table)
            file.write(allocations)
            file.flush()
            os.fsync(file.fileno())
        return table + len(allocations)

    def _write_seek(self, numbers: list[int]) -> None:
        """Puts the seek files of the parts together."""
        parts = [part_path(self._workspace.folder, number, "seek") for number in numbers]
        crcs = np.zeros(self._samples + 1, np.uint32)

        def indexes() -> Iterator[bytes]:
            begin = 0
            for path in parts:
                with SeekFile(path, None) as part:
                    crcs[begin : begin + len(part)] = part.image_crcs
                    begin += len(part)
                    for number in range(len(part)):
                        yield part.index(number).tobytes()

        written = BetonDataset(self._path, image="image", label="label", verify="never")
        with written:
            tables = written.tables_crc32
        made = os.path.join(self._workspace.folder, "indexes")
        write_beton_seek(made, indexes(), crcs, tables)
        os.replace(beton_seek_path(made), beton_seek_path(self._workspace.destination))

    def row(self, image: Transcoded, pointers: list[int], label: int, extras: list[bytes]) -> NDArray[np.void]:
        """The record of one sample, its ``pointers`` those of the image and of each extra; numbers have none."""
        row = np.zeros(1, self.row_type)
        row["0"] = (RAW_MODE if self._raw else JPEG_MODE, image.width, image.height, pointers[0])
        row["1"] = label
        for number, (field, data) in enumerate(zip(self.fields, extras, strict=True), 1):
            if field.kind in ("int", "float"):
                row[str(1 + number)] = np.frombuffer(data, "<i8" if field.kind == "int" else "<f8")[0]
            elif field.kind == "ndarray":
                row[str(1 + number)] = pointers[number]
            else:
                row[str(1 + number)] = (pointers[number], len(data))
        return row

    def advance(self, position: int, samples: int) -> None:
        """Takes notice that a part is complete."""
        self._position = position
        self._samples += samples

    @property
    def place(self) -> tuple[int, int]:
        """First free byte of the file, and samples before it."""
        return self._position, self._samples


class BetonPartWriter:
    """Appends the samples of one part to the file.

    Args:
        target: The file that it belongs to.
        file: That file, open for writing, as long as what is done.
        prefix: Path of the files of the part, up to their extension.
    """

    def __init__(self, target: BetonFile, file: BinaryIO, prefix: str) -> None:
        self._target = target
        self._file = file
        self._prefix = prefix
        self._begin, self._first = target.place
        self._position = self._begin
        self._rows: list[bytes] = []
        self._allocations: list[tuple[int, int, int]] = []
        self._ledger_lines: list[str] = []
        self._seek: list[tuple[bytes, int]] = []
        self._skipped = 0
        self._reencoded = 0

    def add(self, key: str, source: str, label: int, image: Transcoded, extras: Mapping[str, bytes]) -> None:
        """Appends one sample; DataError if it is larger than a page."""
        members = [_member(field, extras.get(field.name)) for field in self._target.fields]
        inline = [field.kind in ("int", "float") for field in self._target.fields]
        pieces = [image.image, *(data for data, within in zip(members, inline, strict=True) if not within)]
        # FFCV looks sizes up by pointer: what follows an empty piece must not share its pointer, or FFCV's Loader finds
        # nothing there and waits for ever, as it does for some files of its own.
        size = sum(len(piece) or 1 for piece in pieces)
        page = self._target.page_size
        if size > page:
            raise DataError(
                f"its {size:,} bytes do not fit into a page of {page:,}, chosen for the largest file of the source; "
                "convert with max_side"
            )
        if self._position // page != (self._position + size - 1) // page:
            self._position = _round_up(self._position, page)
        number = self._first + len(self._rows)
        pointers = []
        begin = self._position
        for piece in pieces:
            pointers.append(self._position)
            self._allocations.append((number, self._position, len(piece)))
            self._position += len(piece) or 1
        self._file.seek(begin)
        for place, within in enumerate(inline, 1):
            if within:  # it stands in the row
                pointers.insert(place, 0)
        view = memoryview(b"".join(piece or b"\0" for piece in pieces))
        while view:
            view = view[self._file.write(view) :]
        self._rows.append(self._target.row(image, pointers, label, members).tobytes())
        self._seek.append((image.seek, image.crc32))
        self._reencoded += image.reencoded
        if image.reason:
            self._ledger_lines.append(ledger_line(source, "reencoded", image.reason, key=f"{number:09d}"))

    def skip(self, key: str, source: str, reason: str) -> None:
        """Enters a sample that cannot be read, or is too large, into the ledger."""
        self._skipped += 1
        self._ledger_lines.append(ledger_line(source, "skipped", reason))

    def finish(self) -> PartAccount:
        """Completes the part, each of its files on the disk before the account that vouches for them."""
        self._file.truncate(self._position)
        os.fsync(self._file.fileno())
        self._file.close()
        write_durably(f"{self._prefix}jsonl", "".join(self._ledger_lines).encode("ascii"))
        tables = b"".join(self._rows) + np.array(self._allocations, ALLOCATION).tobytes()
        write_durably(f"{self._prefix}tables", tables)
        if self._target.seek_index:
            write_seek_file(f"{self._prefix}seek", (index for index, _ in self._seek), [crc for _, crc in self._seek])
        account = PartAccount(
            samples=len(self._rows),
            skipped=self._skipped,
            reencoded=self._reencoded,
            size=self._position - self._begin,
            crc32=0,
        )
        write_durably(f"{self._prefix}json", json.dumps(asdict(account)).encode())
        self._target.advance(self._position, len(self._rows))
        return account

    def abandon(self) -> None:
        """Gives the disk space of an unfinished part back."""
        with contextlib.suppress(OSError):
            self._file.truncate(self._begin)
        self._file.close()


def finished_beton(workspace: Workspace, conversion: Mapping[str, Any]) -> Notes | None:
    """The notes of the destination if this very conversion has been completed there.

    Raises:
        DataError: Another file lies there.
    """
    path = workspace.destination
    if not os.path.lexists(path):
        return None
    notes = read_notes(path, os.stat(path).st_size) if os.path.isfile(path) else None
    before = {name: notes.conversion.get(name) for name in conversion} if notes is not None else {}
    if notes is not None and before == conversion:
        return notes
    workspace.remove_if_empty()
    what = f"differs in {describe_difference(before, dict(conversion))}" if notes is not None else "is not from here"
    raise DataError(f"a file lies here that {what}; choose another name or remove it", path=path)


def _member(field: Field, data: bytes | None) -> bytes:
    """What is stored of a further member; FFCV wants something that it can parse where a sample has none.

    Raises:
        DataError: A number or an array has another size than its field.
    """
    if field.kind == "json":
        return (b"null" if data is None else data) + b"\0"
    size = 8 if field.kind in ("int", "float") else field.array_bytes
    if size and len(data or b"") != size:
        raise DataError(f"expected {size:,} bytes of its field {field.name!r}, got {len(data or b''):,}")
    return data or b""


def _page_size(options: Options, source: Source) -> int:
    """FFCV's default, or the first power of two that holds the largest sample of the source."""
    largest = int(source.num_bytes().max(initial=0)) + 1
    if options.raw:
        assert options.max_side is not None
        largest += 3 * min(options.max_side**2, MOST_PIXELS)
    page = _PAGE_BYTES
    while page < min(largest, _LARGEST_PAGE):
        page *= 2
    return page


def _round_up(offset: int, page: int) -> int:
    return -(-offset // page) * page
