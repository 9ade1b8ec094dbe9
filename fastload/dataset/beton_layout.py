"""FFCV's file format, version 2: its records, and the tables of a file read with every number checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError

VERSION: Final = 2
HEADER: Final = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page_size", "<u4"), ("samples", "<u8"), ("allocations", "<u8")]
)
DESCRIPTOR: Final = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "V1024")])
ALLOCATION: Final = np.dtype([("sample", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
IMAGE: Final = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")])
SPAN: Final = np.dtype([("pointer", "<u8"), ("size", "<u8")])
JPEG_MODE: Final = 0
RAW_MODE: Final = 1

# Fills a buffer with the bytes from an offset on; returns how many there were.
Read = Callable[[memoryview, int], int]
Kind = Literal["float", "int", "image", "bytes", "ndarray", "json"]
FLOAT, INT, RGB, BYTES, NDARRAY, JSON, TENSOR = range(7)
_KINDS: Final[dict[int, tuple[Kind, np.dtype[Any]]]] = {
    FLOAT: ("float", np.dtype("<f8")),
    INT: ("int", np.dtype("<i8")),
    RGB: ("image", IMAGE),
    BYTES: ("bytes", SPAN),
    NDARRAY: ("ndarray", np.dtype("<u8")),
    JSON: ("json", SPAN),
    TENSOR: ("ndarray", np.dtype("<u8")),  # a tensor is stored as the array that it holds
}
# What a header may ask for before it is taken for something else than a file of FFCV's.
_MOST_FIELDS: Final = 256
_NUMBER: Final = re.compile(r"[<>|][biufcSUmM]\d{1,6}(\[\w{1,8}\])?")
_NDARRAY_HEADER: Final = np.dtype([("shape", "<u8", (32,)), ("length", "<u8")])


@dataclass(frozen=True)
class Field:
    """One column of the samples.

    Attributes:
        name: As FFCV has it, at most 16 ASCII characters.
        kind: What it holds.
        dtype, shape: Of each array of an "ndarray" field; None and () elsewhere.
    """

    name: str
    kind: Kind
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()

    @property
    def array_bytes(self) -> int:
        """Size of each array of an "ndarray" field."""
        return math.prod(self.shape) * self.dtype.itemsize if self.dtype is not None else 0


@dataclass(frozen=True)
class Contents:
    """The tables of a file.

    Attributes:
        fields: In the order of the file; column i of ``rows`` is named ``f"{i}"``.
        rows: Structured (n,), numbers as they stand in the file: unchecked.
        page_size: Bytes of a page.
        data: First byte behind the rows and first byte of the allocation table: all that a pointer may point to.
        pointers, sizes: uint64, allocations inside ``data``, sorted by pointer and then size.
    """

    fields: tuple[Field, ...]
    rows: NDArray[np.void]
    page_size: int
    data: tuple[int, int]
    pointers: NDArray[np.uint64]
    sizes: NDArray[np.uint64]

    def allocated(self, pointers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Bytes that were allocated at each pointer, shape as pointers; -1 where nothing was.

        Empty allocations share the pointer of the next one: the largest counts.
        """
        if not len(self.pointers):
            return np.full(pointers.shape, -1, np.int64)
        place = np.maximum(np.searchsorted(self.pointers, pointers, side="right") - 1, 0)
        sizes = self.sizes[place].astype(np.int64)
        return np.where(self.pointers[place] == pointers, sizes, -1)


def row_type(types: Sequence[int]) -> np.dtype[np.void]:
    """The record of one sample. Numbers are aligned to 8 bytes, the packed records of images and spans to 1."""
    return np.dtype([(str(number), _KINDS[code][1]) for number, code in enumerate(types)], align=True)


def read_contents(read: Read, size: int, path: str) -> Contents:
    """Reads the tables of a file of ``size`` bytes by ``read``; ``path`` is for messages.

    Nothing is allocated for a number of the file before that many bytes are known to be there.

    Raises:
        DataError: The file is of another format, was not finished, was cut short, or has fields that cannot be read.
    """
    header = _records(read, HEADER, 1, 0, size, path)[0]
    if int(header["version"]) != VERSION:
        raise DataError(
            f"expected FFCV's file format in version {VERSION}, but the file begins with {int(header['version'])}; "
            "it is damaged or no .beton file",
            path=path,
        )
    count, num_samples, table = int(header["fields"]), int(header["samples"]), int(header["allocations"])
    if not 1 <= count <= _MOST_FIELDS:
        raise DataError(
            f"expected 1 to {_MOST_FIELDS} fields, but the header says {count}; restore the file", path=path
        )
    page_size = int(header["page_size"])
    if page_size == 0 or page_size & (page_size - 1):
        raise DataError(f"expected pages of a power of two, but they have {page_size:,} bytes; restore it", path=path)
    descriptors = _records(read, DESCRIPTOR, count, HEADER.itemsize, size, path)
    fields = tuple(_field(each, path) for each in descriptors)
    names = [field.name for field in fields]
    if len(set(names)) != count:
        raise DataError(f"expected fields of different names, not {', '.join(names)}; write the file anew", path=path)
    if table == 0:
        raise DataError("the file has no allocation table: writing it was interrupted; write it again", path=path)
    begin = HEADER.itemsize + descriptors.nbytes
    rows = _records(read, row_type(descriptors["type"].tolist()), num_samples, begin, size, path)
    data = (begin + rows.nbytes, table)
    if not data[0] <= table <= size or (size - table) % ALLOCATION.itemsize:
        raise DataError(
            f"expected the allocation table between the samples and the end of the file ({size:,} bytes), but the "
            f"header places it at {table:,}; the file was cut short or edited: restore it",
            path=path,
        )
    allocations = _records(read, ALLOCATION, (size - table) // ALLOCATION.itemsize, table, size, path)
    sizes = np.minimum(allocations["size"], np.uint64(table))  # so that no subtraction wraps round
    inside = (allocations["pointer"] >= data[0]) & (allocations["pointer"] <= np.uint64(table) - sizes)
    kept = allocations[inside & (allocations["size"] <= table) & (allocations["sample"] < num_samples)]
    kept = kept[np.lexsort((kept["size"], kept["pointer"]))]
    return Contents(
        fields=fields,
        rows=rows,
        page_size=page_size,
        data=data,
        pointers=np.ascontiguousarray(kept["pointer"]),
        sizes=np.ascontiguousarray(kept["size"]),
    )


def _records(read: Read, dtype: np.dtype[Any], count: int, begin: int, size: int, path: str) -> NDArray[np.void]:
    """``count`` records from byte ``begin`` on, once the file is known to be long enough."""
    end = begin + count * dtype.itemsize
    if end > size:
        raise DataError(
            f"expected at least {end:,} bytes, as its header says, but the file has {size:,}; it was cut short or is "
            "no .beton file: restore it",
            path=path,
        )
    records = np.empty(count, dtype)
    if count and read(memoryview(records.view(np.uint8).data), begin) != records.nbytes:
        raise DataError("the file became shorter while it was read; somebody writes to it", path=path)
    return records


def _field(record: np.void, path: str) -> Field:
    code = int(record["type"])
    raw_name = bytes(record["name"]).split(b"\0")[0]
    name = raw_name.decode("ascii", "backslashreplace")
    if not raw_name.isascii() or not name.isprintable() or not name:
        raise DataError(f"expected a field name in ASCII, not {raw_name!r}; restore the file", path=path)
    if code not in _KINDS:
        raise DataError(
            f"the field {name!r} has FFCV's type {code}, a custom one, whose size only the program that wrote it "
            "knows; write the file without it",
            path=path,
        )
    kind, _ = _KINDS[code]
    if kind != "ndarray":
        return Field(name, kind)
    try:
        dtype, shape = _array_form(bytes(record["arguments"]))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise DataError(f"the shape and type of the field {name!r} are damaged; restore the file", path=path) from error
    return Field(name, kind, dtype, shape)


def _array_form(arguments: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of the arrays of a field; ValueError for structured types and Python objects."""
    header = np.frombuffer(arguments[: _NDARRAY_HEADER.itemsize], _NDARRAY_HEADER)[0]
    shape = [int(length) for length in header["shape"]]
    while shape and shape[-1] == 0:
        shape.pop()
    length = int(header["length"])
    if length > len(arguments) - _NDARRAY_HEADER.itemsize or 0 in shape:
        raise ValueError("a length out of range")
    ((name, code),) = json.loads(arguments[_NDARRAY_HEADER.itemsize :][:length])
    if name != "" or not isinstance(code, str):
        raise ValueError("a structured type")
    if not _NUMBER.fullmatch(code):
        raise ValueError("no type of numbers or strings")
    return np.dtype(code), tuple(shape)


def describe(field: Field) -> str:
    """The type of a field as a data set's schema has it: "int", "json", "ndarray <f4 3x4"."""
    if field.dtype is None:
        return field.kind
    return f"{field.kind} {field.dtype.str} {'x'.join(map(str, field.shape)) or 'scalar'}"


def described(name: str, form: str) -> tuple[int, Field, bytes]:
    """FFCV's type, the field, and the arguments of its descriptor, of what ``describe`` says of one.

    Args:
        form: "int", "float", "bytes", "json" or "ndarray <f4 3x4".
    """
    kind, _, rest = form.partition(" ")
    if kind != "ndarray":
        return {"int": INT, "float": FLOAT, "bytes": BYTES, "json": JSON}[kind], Field(name, kind), b""  # type: ignore[arg-type]
    code, _, sides = rest.partition(" ")
    shape = () if sides == "scalar" else tuple(map(int, sides.split("x")))
    text = json.dumps([["", code]]).encode("ascii")
    header = np.zeros(1, _NDARRAY_HEADER)
    header["shape"][0, : len(shape)] = shape
    header["length"] = len(text)
    return NDARRAY, Field(name, "ndarray", np.dtype(code), shape), header.tobytes() + text
