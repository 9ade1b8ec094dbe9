"""index.arrow: one row per sample as Arrow IPC in a single record batch, memory-mapped and read without a copy."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastload.errors import DataError

# Opening checks the whole table against its checksum up to this size (two million samples, 30 ms at 4 GB/s). A larger
# one must open at once: it is checked by size, structure and, sample by sample, by the crc32 of the images.
CHECKED_BYTES: Final = 192 << 20

_NUMBERS: Final[Mapping[str, Any]] = {
    "shard": np.int32,
    "offset": np.int64,
    "size": np.uint32,
    "width": np.int32,
    "height": np.int32,
    "label": np.int32,
    "crc32": np.uint32,
}
_EXTRA_NUMBERS: Final[Mapping[str, Any]] = {"offset": np.int64, "size": np.uint32, "crc32": np.uint32}
_TEXTS: Final = ("key", "source")


class TextColumn:
    """A column of strings over Arrow's two buffers; every offset is checked before it is used."""

    def __init__(self, offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        self._offsets = offsets
        self._data = data

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> str:
        begin, end = int(self._offsets[row]), int(self._offsets[row + 1])
        if not 0 <= begin <= end <= len(self._data):
            raise DataError(f"row {row} of the index has a name that lies outside the table; convert the data again")
        return self._data[begin:end].tobytes().decode("utf-8", "backslashreplace")


@dataclass(frozen=True, kw_only=True)
class ExtraColumns:
    """Where one further member of each sample lies: byte offset in its shard, size (0 where absent), crc32."""

    offset: NDArray[np.int64]
    size: NDArray[np.uint32]
    crc32: NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class IndexTable:
    """Columns of the index, each of n rows, in the order in which the samples are stored.

    Attributes:
        shard: Number of the sample's shard in dataset.json.
        offset, size: Where the image file lies in its shard, in bytes.
        width, height: Size of the image in pixels.
        label: Class number, -1 where there is none.
        crc32: Checksum of the image file.
        key: Name of the sample in its shard.
        source: Where the sample came from, relative to the source of the conversion.
        extras: Columns of each further member, by extension.
    """

    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.uint32]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    label: NDArray[np.int32]
    crc32: NDArray[np.uint32]
    key: TextColumn
    source: TextColumn
    extras: Mapping[str, ExtraColumns]

    def __len__(self) -> int:
        return len(self.shard)


def index_schema(extras: Sequence[str]) -> pa.Schema:
    """The Arrow schema of an index whose samples have further members of the given extensions."""
    fields = [pa.field(name, pa.from_numpy_dtype(kind), nullable=False) for name, kind in _NUMBERS.items()]
    fields += [pa.field(name, pa.large_string(), nullable=False) for name in _TEXTS]
    for extension in extras:
        fields += [
            pa.field(f"{extension}:{name}", pa.from_numpy_dtype(kind), nullable=False)
            for name, kind in _EXTRA_NUMBERS.items()
        ]
    return pa.schema(fields)


def write_index(path: str, columns: Mapping[str, Any], extras: Sequence[str]) -> None:
    """Writes one record batch. ``columns`` holds an array, a list or a pyarrow array for each name of the schema.

    The file is complete on the disk when this returns; equal columns give equal bytes.
    """
    schema = index_schema(extras)
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, type=field.type)
        for field, column in ((field, columns[field.name]) for field in schema)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    with open(path, "wb") as file:
        with pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())


def crc32_of_file(path: str) -> int:
    """Checksum of a whole file, read in pieces."""
    checksum = 0
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def read_index(
    path: str, *, samples: int, size: int, crc32: int, extras: Sequence[str], check: bool | None = None
) -> IndexTable:
    """Maps an index table into memory and checks that it is the one that dataset.json describes.

    Args:
        path: The file.
        samples, size, crc32, extras: What dataset.json says of it.
        check: Whether to compare the checksum; None does it for files of up to CHECKED_BYTES.

    Raises:
        DataError: The file is missing, has another size, checksum, structure or number of rows.
    """
    try:
        found = os.stat(path).st_size
    except OSError as error:
        raise DataError(
            f"the index of the data set cannot be read: {error.strerror}; restore it or convert the data again",
            path=path,
        ) from error
    if found != size:
        raise DataError(
            f"expected an index of {size:,} bytes, as dataset.json says, but the file has {found:,}; "
            "it was cut short, edited or belongs to another data set: restore it or convert the data again",
            path=path,
        )
    if (size <= CHECKED_BYTES if check is None else check) and crc32_of_file(path) != crc32:
        raise DataError(
            "the index does not match its checksum in dataset.json; it was damaged, edited or belongs to another data "
            "set: restore it or convert the data again",
            path=path,
        )
    return _table(map_batch(path, extras, samples), extras)


def map_batch(path: str, extras: Sequence[str], samples: int) -> pa.RecordBatch:
    """The record batch of an index file, memory-mapped, its structure checked; DataError if it is another one."""
    damaged = "expected an Arrow file with the columns of a fastload index; restore it or convert the data again"
    try:
        with pa.memory_map(path) as file:
            batch = _only_batch(file, index_schema(extras))
        if batch is None:
            raise DataError(damaged, path=path)
        batch.validate()
    except (pa.ArrowException, OSError, ValueError, EOFError, struct.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{damaged} ({str(error).splitlines()[0] if str(error) else 'unreadable'})", path=path
        ) from error
    if batch.num_rows != samples:
        raise DataError(
            f"expected {samples:,} rows, as dataset.json says, but the index has {batch.num_rows:,}; "
            "restore it or convert the data again",
            path=path,
        )
    if any(column.null_count or column.offset for column in batch.columns):
        raise DataError(damaged, path=path)
    return batch


def _only_batch(file: pa.NativeFile, schema: pa.Schema) -> pa.RecordBatch | None:
    """The batch of an Arrow file that has one, uncompressed; None if it is not so.

    The file is read as the stream of messages that it holds, because a message can be looked at before anything is made
    of it: 5 KB of compressed columns become 96 MB, a megabyte twenty thousand.
    """
    if file.read(8) != b"ARROW1\0\0":
        return None
    reader = pa.ipc.MessageReader.open_stream(file)
    messages = [message for _, message in zip(range(3), reader, strict=False)]
    if [message.type for message in messages] != ["schema", "record batch"]:
        return None
    found = pa.ipc.read_schema(messages[0])
    if not found.equals(schema) or _is_compressed(messages[1].metadata.to_pybytes()):
        return None
    return pa.ipc.read_record_batch(messages[1], found)


def _is_compressed(metadata: bytes) -> bool:
    """Whether a record batch has the field "compression", from the two nested tables of its flatbuffer."""

    def field(table: int, number: int) -> int:
        entries = table - int(struct.unpack_from("<i", metadata, table)[0])
        place = 4 + 2 * number
        if place >= struct.unpack_from("<H", metadata, entries)[0]:
            return 0
        offset = int(struct.unpack_from("<H", metadata, entries + place)[0])
        return table + offset if offset else 0

    header = field(struct.unpack_from("<I", metadata)[0], 2)
    batch = header + int(struct.unpack_from("<I", metadata, header)[0])
    return field(batch, 3) != 0


def _table(batch: pa.RecordBatch, extras: Sequence[str]) -> IndexTable:
    def number(name: str) -> NDArray[Any]:
        array: NDArray[Any] = batch.column(name).to_numpy(zero_copy_only=True)
        return array

    def text(name: str) -> TextColumn:
        _, offsets, data = batch.column(name).buffers()
        count = batch.num_rows + 1
        if offsets is None or offsets.size < 8 * count:
            empty = np.zeros(count, np.int64)
            return TextColumn(empty, np.zeros(0, np.uint8))
        return TextColumn(
            np.frombuffer(offsets, np.int64, count),
            np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8),
        )

    return IndexTable(
        shard=number("shard"),
        offset=number("offset"),
        size=number("size"),
        width=number("width"),
        height=number("height"),
        label=number("label"),
        crc32=number("crc32"),
        key=text("key"),
        source=text("source"),
        extras={
            extension: ExtraColumns(**{name: number(f"{extension}:{name}") for name in _EXTRA_NUMBERS})
            for extension in extras
        },
    )


def number_columns(extras: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Name and numpy type of every column of numbers of an index, in the order of its schema."""
    yield from _NUMBERS.items()
    for extension in extras:
        for name, kind in _EXTRA_NUMBERS.items():
            yield f"{extension}:{name}", kind
