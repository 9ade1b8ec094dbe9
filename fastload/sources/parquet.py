"""Parquet files with a column of images, as Hugging Face's datasets write them, as a source of convert."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastload.dataset.listing import PackedNames, printable
from fastload.dataset.reading import LARGEST_FILE
from fastload.errors import ConfigError, DataError
from fastload.remote import shown
from fastload.sources.base import Item, Source
from fastload.sources.columns import IMAGE_COLUMNS, LABEL_COLUMNS, LabelColumn, choose_column, member_endings
from fastload.sources.parquet_rows import RowGroup, RowReader, damage_told, describe, open_parquet
from fastload.sources.places import Places, basename

_MOST_ROW_BYTES: Final = 1 << 30


class ParquetSource(Source):
    """The rows of Parquet files, file after file.

    The image is a column of bytes, or of structs {bytes, path} as Hugging Face has them; the label a column of class
    numbers (-1 or null for none), whose names come from Hugging Face's features where the file holds them, or of
    names. Other columns of bytes or of such structs become members under their names, all others fields of the member
    .json. Only the footers, the labels and the paths are read when the source is made.

    Args:
        paths: The files, in order; all with the same columns.
        image: Name of the image's column; None takes the only one that can be, or of several the usual one.
        label: Name of the label's column; None takes Hugging Face's only ClassLabel, else the first of
            LABEL_COLUMNS that is there; "none" takes no labels.

    Raises:
        DataError: A file is damaged, or differs in its columns.
        ConfigError: There is no such column, or a choice is needed among several.
    """

    kind = "Parquet"
    in_order = True

    def __init__(self, paths: Sequence[str], *, image: str | None = None, label: str | None = None) -> None:
        self.path = os.path.dirname(shown(paths[0]))
        self._places = Places()
        for path in paths:  # Arrow would wait for a pipe
            with self._places.opened(path):
                pass
        self._paths = list(paths)
        first = open_parquet(paths[0], self._places)
        with damage_told(paths[0], "its columns cannot be read"):
            self._schema = first.schema_arrow
        self._features = _features(self._schema)
        self._image = self._choose_image(image)
        self._label = self._choose_label(label)
        others = [name for name in self._schema.names if name not in (self._image, self._label)]
        members = [name for name in others if _holds_bytes(self._schema.field(name).type)]
        self._endings = member_endings(members, self.path)
        self._fields = [name for name in others if name not in members]
        self.extras = (*(["json"] if self._fields else []), *self._endings.values())
        self.fields = _types(self._schema, self._fields) | ({"json": "json"} if self._fields else {})
        if len(set(self.extras)) < len(self.extras):
            raise DataError("a column of bytes named json cannot lie beside other columns; rename it", path=paths[0])
        self._leaves = [self._leaf(name) for name in (self._image, *members)] + self._fields
        self._groups: list[RowGroup] = []
        self._file_firsts: list[int] = []
        self._names: PackedNames | None = None
        self._number_labels(self._read_tables())
        self._rows_of = RowReader(self._groups, self._leaves, self._places)

    def _choose_image(self, wanted: str | None) -> str:
        names: list[str] = [field.name for field in self._schema if _holds_bytes(field.type)]
        marked = [name for name in names if self._features.get(name, {}).get("_type") == "Image"]
        if wanted is not None and wanted not in names:
            raise ConfigError(f"expected a column of bytes {wanted!r}; there are {', '.join(names) or 'none'}")
        if wanted is not None:
            return wanted
        for found in (marked, names):
            if len(found) == 1:
                return found[0]
            number = choose_column(found, None, IMAGE_COLUMNS)
            if number is not None:
                return found[number]
        if not names:
            raise DataError(
                "expected a column of images (bytes, or structs with a field bytes), but there are "
                f"{', '.join(self._schema.names)[:300]}",
                path=self._paths[0],
            )
        raise ConfigError(
            f"several columns may be the image ({', '.join(names)}); choose one with image=NAME (--image)"
        )

    def _choose_label(self, wanted: str | None) -> str | None:
        if wanted == "none":
            return None
        names: list[str] = [name for name in self._schema.names if name != self._image]
        marked = [name for name in names if self._features.get(name, {}).get("_type") == "ClassLabel"]
        if wanted is None and len(marked) == 1:
            return marked[0]
        number = choose_column(names, wanted, LABEL_COLUMNS)
        if number is None and marked:
            raise ConfigError(
                f"several columns are labels ({', '.join(marked)}); choose one with label=NAME (--label NAME)"
            )
        if number is None:
            return None
        kind = self._schema.field(names[number]).type
        if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return names[number]
        if pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type):
            return names[number]
        raise ConfigError(
            f"the column {names[number]!r} holds {kind} and no labels; choose another with label=NAME (--label NAME), "
            "or none with label='none'"
        )

    def _leaf(self, name: str) -> str:
        return f"{name}.bytes" if pa.types.is_struct(self._schema.field(name).type) else name

    def _read_tables(self) -> list[Any]:
        """Reads the footers, the labels and the paths of all files; the labels of each."""
        kind = self._schema.field(self._image).type
        has_path = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
        wanted = ([self._label] if self._label is not None else []) + ([f"{self._image}.path"] if has_path else [])
        labels: list[Any] = []
        names: list[str] = []
        first = 0
        for path in self._paths:
            self._file_firsts.append(first)
            with damage_told(path, "its columns cannot be read"):
                file = open_parquet(path, self._places)
                self._compare(path, file.schema_arrow)
                first = self._list_groups(path, file.metadata, first)
                if not wanted:
                    continue
                table = file.read(columns=wanted, use_threads=False)
                if table.num_rows != first - self._file_firsts[-1]:
                    raise DataError(f"its footer and its columns have different numbers of rows ({first:,})", path=path)
                if self._label is not None:
                    column = table.column(self._label)
                    numbers = pa.types.is_integer(column.type)
                    labels.append(column.cast(pa.int64()).fill_null(-1).to_numpy() if numbers else column.to_pylist())
                if has_path:
                    names += [(value or {}).get("path") or "" for value in table.column(self._image).to_pylist()]
        self._count = first
        self._names = PackedNames(names) if has_path else None
        return labels

    def _compare(self, path: str, schema: Any) -> None:
        if not schema.equals(self._schema, check_metadata=False):
            raise DataError(f"its columns differ from those of {self._paths[0]}; convert them apart", path=path)
        if _features(schema) != self._features:
            raise DataError(f"its classes differ from those of {self._paths[0]}; convert them apart", path=path)

    def _list_groups(self, path: str, metadata: Any, first: int) -> int:
        """Notes the row groups of a file; the number of the row behind them."""
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            # Of all columns: to ask for those of one ends the process where a footer is damaged (pyarrow 26.0).
            row_bytes = min(max(group.total_byte_size // max(group.num_rows, 1), 1), _MOST_ROW_BYTES)
            if group.num_rows > 0:
                self._groups.append(
                    RowGroup(path=path, number=number, first=first, rows=group.num_rows, row_bytes=row_bytes)
                )
                first += group.num_rows
        return first

    def _number_labels(self, columns: Sequence[Any]) -> None:
        self.rejected = []
        self._rows = np.arange(self._count)
        self._labels = np.full(self._count, -1, np.int32)
        self.classes = ()
        if self._label is None or not columns:
            return
        names = self._features.get(self._label, {}).get("names")
        if not isinstance(columns[0], np.ndarray) or names is None:
            texts = LabelColumn(self.path)
            for number, value in enumerate(value for column in columns for value in column):
                texts.add(None if value is None else str(value), self._place(number))
            self._labels, self.classes = texts.finish()
            return
        labels = np.concatenate(columns)
        self.classes = tuple(map(printable, names))
        wrong = (labels < -1) | (labels >= len(names))
        self.rejected = [
            (self._place(int(row)), f"its label {labels[row]} is none of the {len(names):,} classes")
            for row in np.flatnonzero(wrong)
        ]
        self._rows = np.flatnonzero(~wrong)
        self._labels = labels[self._rows].astype(np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def num_bytes(self) -> NDArray[np.int64]:
        """As the footers have it, on average of each row group: Parquet does not say the size of a row."""
        sizes = np.array([group.row_bytes for group in self._groups], np.int64)
        rows = np.repeat(sizes, [group.rows for group in self._groups])
        num_bytes: NDArray[np.int64] = rows[self._rows]
        return num_bytes

    def name(self, number: int) -> str:
        return self._place(int(self._rows[number]))

    def read(self, number: int) -> Item:
        row = self._rows_of.row(int(self._rows[number]))
        image = self._bytes_of(row[self._image])
        if image is None:
            raise DataError("its image is empty, or only the path of a file, which is not in the Parquet file")
        extras = {}
        if self._fields:
            try:
                values = {name: row[name].as_py() for name in self._fields}
                extras["json"] = json.dumps(_plain(values)).encode("ascii")
            except (ValueError, RecursionError, pa.ArrowException) as error:
                raise DataError(f"its columns cannot become JSON: {describe(error)}") from error
        for name, ending in self._endings.items():
            data = self._bytes_of(row[name])
            if data is not None:
                extras[ending] = data
        return Item(image=image, extras=extras)

    def digest(self) -> str:
        sizes = ",".join(map(str, self._places.sizes(self._paths)))  # what lies in other columns has a part in it
        return hashlib.sha256(f"{super().digest()} {sizes}".encode()).hexdigest()

    def _bytes_of(self, scalar: Any) -> bytes | None:
        if pa.types.is_struct(scalar.type):
            scalar = scalar["bytes"] if scalar.is_valid else None
        if scalar is None or not scalar.is_valid:
            return None
        buffer = scalar.as_buffer()
        if buffer.size > LARGEST_FILE:
            raise DataError(f"it has {buffer.size:,} bytes, more than {LARGEST_FILE:,}")
        return bytes(buffer.to_pybytes()) or None

    def _place(self, row: int) -> str:
        file = int(np.searchsorted(self._file_firsts, row, side="right")) - 1
        name = f"{basename(self._paths[file])}/{row - self._file_firsts[file]}"
        return f"{name}/{self._names[row]}" if self._names is not None and self._names[row] else name


def _holds_bytes(kind: Any) -> bool:
    """Whether a column may hold files."""
    if pa.types.is_struct(kind):
        number = kind.get_field_index("bytes")
        return number >= 0 and _holds_bytes(kind.field(number).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of the columns; empty where the schema holds none that makes sense."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {str(name): feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    for feature in found.values():
        names = feature.get("names")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            del feature["names"]
    return found


def _plain(value: Any) -> Any:
    """What JSON can hold: bytes as base64, times as ISO 8601, numbers that are none as null."""
    if isinstance(value, dict):
        return {printable(str(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _types(schema: pa.Schema, names: Sequence[str]) -> dict[str, str]:
    """Types of the columns that become keys of the member .json, where they have one."""
    types = {}
    for name in names:
        kind = schema.field(name).type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            types[name] = "number"
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            types[name] = "text"
    return types
