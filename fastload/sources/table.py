"""A list of image files as a source of convert: CSV, TSV or JSON lines with paths, labels and whatever else."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.listing import PackedNames, printable
from fastload.errors import DataError
from fastload.sources.base import Item, Source
from fastload.sources.columns import IMAGE_COLUMNS, LABEL_COLUMNS, LabelColumn, PackedBytes, choose_column
from fastload.sources.places import FILES_AHEAD, Places, beside, ending

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
JSON_LINES: Final = (".jsonl", ".ndjson")
_LONGEST_LINE: Final = 16 << 20  # bytes
# A cell that JSON takes as a number as it is.
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LONGEST_NUMBER: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    line: int
    path: str | None
    label: str | None
    further: bytes  # JSON: the object to be, or the list of cells under the header's names; empty for none
    reason: str = ""


class TableSource(Source):
    """The images that a table names, one in each row, with their labels.

    The first line of a .csv or .tsv file names the columns; every line of a .jsonl or .ndjson file is an object. The
    image's column is the first of IMAGE_COLUMNS that is there and holds a path, absolute or relative to the table's
    folder; the label's is the first of LABEL_COLUMNS. Labels are class numbers if all of them are whole numbers,
    otherwise names of classes, which are numbered as they sort; an empty one or -1 is none. Further columns become the
    member .json of each sample; of a CSV file, columns that hold nothing but numbers hold numbers there (null where
    they are empty), others texts.

    Args:
        path: The table, or its URL; it may name URLs.
        image: Name of the column with the paths; None looks for the usual ones.
        label: Name of the column with the labels; None looks for the usual ones, "none" takes none.

    Raises:
        DataError: The file is no such table; with the number of the line.
        ConfigError: There is no such column.
    """

    kind = "list of files"

    def __init__(self, path: str | os.PathLike[str], *, image: str | None = None, label: str | None = None) -> None:
        self.path = os.fspath(path)
        self._places = Places()
        self._choice = (image, label)
        self._header: list[str] = []
        self._numeric: list[bool] = []
        names: list[str] = []
        labels = LabelColumn(self.path)
        self._further = PackedBytes()
        self.rejected = []
        suffix = ending(self.path)
        rows = self._from_json() if suffix in JSON_LINES else self._from_csv(DELIMITERS[suffix])
        for row in rows:
            reason = row.reason or _unusable(row.path)
            if reason or row.path is None:
                self.rejected.append((f"line {row.line}", reason))
                continue
            names.append(row.path)
            labels.add(row.label, f"line {row.line}")
            self._further.append(row.further)
        if not names and not self.rejected:
            raise DataError("expected a line for each image, but there is none; check the file", path=self.path)
        self._names = PackedNames(names)
        self._labels, self.classes = labels.finish()
        further = self._further.sizes
        self.extras = ("json",) if further.any() else ()
        if self.extras:
            kinds = ["number" if numeric else "text" for numeric in self._numeric]
            self.fields = dict(zip(self._header, kinds, strict=True)) | {"json": "json"}
        paths = [self._path(number) for number in range(len(names))]
        sizes = np.fromiter(self._places.sizes(paths), np.int64, len(names))
        self._num_bytes = sizes + further

    def __len__(self) -> int:
        return len(self._names)

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def num_bytes(self) -> NDArray[np.int64]:
        return self._num_bytes

    def name(self, number: int) -> str:
        return self._names[number]

    def read(self, number: int) -> Item:
        following = range(number + 1, min(number + FILES_AHEAD, len(self)))
        image = self._places.read(self._path(number), map(self._path, following))
        further = self._further[number]
        return Item(image=image, extras={"json": self._object(further)} if further else {})

    def digest(self) -> str:
        further = hashlib.sha256(json.dumps([self._header, self._numeric]).encode() + self._further.data)
        return hashlib.sha256(f"{super().digest()} {further.hexdigest()}".encode()).hexdigest()

    def _path(self, number: int) -> str:
        return beside(self.path, self._names[number])

    def _object(self, further: bytes) -> bytes:
        if not self._header:  # JSON lines hold objects already
            return further
        cells = zip(self._header, self._numeric, json.loads(further), strict=True)
        pairs = (
            f"{json.dumps(name)}: {(cell or 'null') if numeric else json.dumps(cell)}" for name, numeric, cell in cells
        )
        return f"{{{', '.join(pairs)}}}".encode("ascii")

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Number and text of each line."""
        with self._places.reader(self.path) as raw, io.BufferedReader(raw, 1 << 20) as file:
            number = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    self._fail(number, f"is longer than {_LONGEST_LINE:,} bytes; check the file")
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    self._fail(number, "is no UTF-8; save the file as UTF-8")
                yield number, text

    def _from_csv(self, delimiter: str) -> Iterator[_Row]:
        reader = csv.reader((text for _, text in self._lines()), delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            path, label = self._columns(header)
            rest = [number for number in range(len(header)) if number not in (path, label)]
            self._header = [header[number] for number in rest]
            twice = next((name for name in self._header if self._header.count(name) > 1), None)
            if twice is not None:
                self._fail(1, f"names the column {twice!r} twice; rename one")
            self._numeric = [True] * len(rest)
            filled = [False] * len(rest)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    self._fail(
                        reader.line_num,
                        f"has {len(cells)} cells in place of {len(header)}; put texts with {delimiter!r} in quotes",
                    )
                further = [cells[number] for number in rest]
                for i, cell in enumerate(further):
                    if cell and self._numeric[i]:
                        filled[i] = True
                        self._numeric[i] = len(cell) <= _LONGEST_NUMBER and bool(_NUMBER.fullmatch(cell))
                yield _Row(
                    line=reader.line_num,
                    path=cells[path],
                    label=None if label is None else cells[label],
                    further=json.dumps(further).encode("ascii") if rest else b"",
                )
            self._numeric = [numeric and some for numeric, some in zip(self._numeric, filled, strict=True)]
        except csv.Error as error:
            self._fail(reader.line_num, f"is no line of a table: {error}")

    def _from_json(self) -> Iterator[_Row]:
        path_name, label_name = "", None
        for number, text in self._lines():
            if not text.strip():
                continue
            try:
                entry = json.loads(text, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                self._fail(number, f"is no JSON ({error})")
            if not isinstance(entry, dict):
                self._fail(number, f'must be an object such as {{"path": "cat/1.jpg"}}, not {text[:60]!r}')
            if not path_name or label_name is None:  # the first lines may lack a label
                names = list(entry)
                path, label = self._columns(names, number, known=path_name)
                path_name = path_name or names[path]
                label_name = None if label is None else names[label]
            yield _json_row(number, entry, path_name, label_name)

    def _columns(self, names: list[str], line: int = 1, known: str = "") -> tuple[int, int | None]:
        """Numbers of the columns with the path (of no meaning if that is ``known``) and with the label."""
        image, label = self._choice
        path = 0 if known else choose_column(names, image, IMAGE_COLUMNS)
        if path is None:
            self._fail(
                line,
                f"must name a column with the path of each image ({', '.join(IMAGE_COLUMNS[:4])} ...), but has "
                f"{printable(', '.join(names))[:200]!r}; choose one with image=NAME (--image NAME)",
            )
        return path, None if label == "none" else choose_column(names, label, LABEL_COLUMNS)

    def _fail(self, line: int, what: str) -> NoReturn:
        raise DataError(f"line {line} {what}", path=self.path)


def _json_row(line: int, entry: dict[str, Any], path_name: str, label_name: str | None) -> _Row:
    path = entry.pop(path_name, None)
    label = None if label_name is None else entry.pop(label_name, None)
    reason = ""
    if isinstance(label, (bool, list, dict)) or (isinstance(label, float) and not label.is_integer()):
        reason = f"its label must be a whole number or a name, not {json.dumps(label)[:60]}"
    elif not isinstance(path, str):
        reason = f"it has no path ({path_name})"
    return _Row(
        line=line,
        path=path if isinstance(path, str) else None,
        label=None if label is None or reason else str(label),
        further=json.dumps(entry).encode("ascii") if entry else b"",
        reason=reason,
    )


def _unusable(path: str | None) -> str:
    """Why a path cannot be opened on any system; empty if it may."""
    if not path:
        return "it has no path"
    try:
        return "its path has a zero byte" if b"\0" in os.fsencode(path) else ""
    except UnicodeEncodeError:
        return "its path is no text"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
