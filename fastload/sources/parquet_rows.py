"""Rows of Parquet files handed out one by one, read in order with bounded memory."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastload.errors import DataError, FastloadError
from fastload.remote import is_url
from fastload.sources.places import Places

_BLOCK_BYTES: Final = 8 << 20
_MOST_BLOCK_ROWS: Final = 256
# What tasks of convert that are under way may look back at.
_CACHE_BYTES: Final = 256 << 20
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroup:
    """Rows of one file that are stored together.

    Attributes:
        path, number: The file, and the number of the group in it.
        first, rows: Number of its first row among the rows of all files, and how many there are.
        row_bytes: Size of a row as the footer of the file has it, on average.
    """

    path: str
    number: int
    first: int
    rows: int
    row_bytes: int


def open_parquet(path: str, places: Places) -> pq.ParquetFile:
    """A Parquet file of which nothing but the footer has been read.

    Raises:
        DataError: It cannot be read, or is no Parquet file.
    """
    with damage_told(path, "the file is no Parquet file that can be read"):
        # Buffered: a column of a row group is read in pieces, not whole.
        file = places.reader(path) if is_url(path) else path
        return pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)


@contextlib.contextmanager
def damage_told(path: str, what: str) -> Iterator[None]:
    """Makes a DataError of what Arrow raises (of names that are no UTF-8, a ValueError)."""
    try:
        yield
    except FastloadError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError) as error:
        raise DataError(f"{what}: {describe(error)}", path=path) from error


class RowReader:
    """Blocks of neighbouring rows, the last of them kept, so that threads that read about in order share each.

    Args:
        groups: All row groups, in the order of their rows.
        columns: Names of what is read.
        places: Opens the files.
    """

    def __init__(self, groups: Sequence[RowGroup], columns: Sequence[str], places: Places) -> None:
        self._places = places
        self._groups = list(groups)
        self._firsts = np.array([group.first for group in groups], np.int64)
        self._columns = list(columns)
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, pa.RecordBatch] = OrderedDict()  # by the number of their first row
        self._held = 0
        self._file: tuple[str, pq.ParquetFile] | None = None
        self._current = -1
        self._next = 0
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._broken: dict[int, tuple[int, str]] = {}  # by row group: the first row that cannot be had, and why

    def row(self, number: int) -> dict[str, Any]:
        """The columns of one row as Arrow scalars.

        Raises:
            DataError: The file is damaged.
        """
        with self._lock:
            first, batch = self._find(number) or self._read_to(number)
        return {name: batch.column(name)[number - first] for name in batch.schema.names}

    def _find(self, number: int) -> tuple[int, pa.RecordBatch] | None:
        for first in reversed(self._blocks):
            if first <= number < first + self._blocks[first].num_rows:
                return first, self._blocks[first]
        return None

    def _read_to(self, number: int) -> tuple[int, pa.RecordBatch]:
        which = int(np.searchsorted(self._firsts, number, side="right")) - 1
        group = self._groups[which]
        broken = self._broken.get(which)
        if broken is not None and number >= broken[0]:
            raise DataError(broken[1], path=group.path)
        current, self._current = self._current, -1  # until nothing can go wrong any more
        reason = ""
        try:
            if which != current or number < self._next:
                self._begin(which)
            for batch in self._batches:
                first = self._next
                self._next += batch.num_rows
                self._keep(first, batch)
                if number < self._next:
                    self._current = which
                    return first, batch
        except FastloadError:  # of what is behind a URL
            raise
        except (pa.ArrowException, OSError, ValueError, LookupError) as error:
            reason = f"row group {group.number} is damaged: {describe(error)}"
        found = self._next - group.first
        reason = reason or f"row group {group.number} should have {group.rows:,} rows, and ends after {found:,}"
        self._broken[which] = (self._next, reason)
        raise DataError(reason, path=group.path)

    def _begin(self, which: int) -> None:
        group = self._groups[which]
        if self._file is None or self._file[0] != group.path:
            self._file = (group.path, open_parquet(group.path, self._places))
        rows = max(1, min(_MOST_BLOCK_ROWS, _BLOCK_BYTES // max(1, group.row_bytes)))
        self._batches = self._file[1].iter_batches(
            batch_size=rows, row_groups=[group.number], columns=self._columns, use_threads=False
        )
        self._next = group.first

    def _keep(self, first: int, batch: pa.RecordBatch) -> None:
        if first not in self._blocks:
            self._held += batch.nbytes
        self._blocks[first] = batch
        self._blocks.move_to_end(first)
        while self._held > _CACHE_BYTES and len(self._blocks) > 1:
            self._held -= self._blocks.popitem(last=False)[1].nbytes


def describe(error: Exception) -> str:
    """The first line of what Arrow says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
