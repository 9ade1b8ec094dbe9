"""A .beton file behind a URL: its tables fetched once, its samples by ranges before they are asked for."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Expectation
from fastload.dataset.beton import BetonDataset, Images
from fastload.dataset.beton_layout import read_contents
from fastload.dataset.beton_notes import MOST_NOTES_BYTES, Notes, notes_path, parse_notes
from fastload.dataset.beton_seek import BetonSeek, beton_seek_path
from fastload.dataset.reads import ReadPlan
from fastload.dataset.remote import AHEAD_BYTES, CONNECTIONS, check_cache, side_folder
from fastload.dataset.sharded import Verify
from fastload.dataset.supplied import plan_supplied, read_supplied
from fastload.dataset.supply import Extents, Supply
from fastload.errors import ConfigError, DataError
from fastload.remote import Patience, shown, without_query
from fastload.remote.cache import CacheFolder
from fastload.remote.download import download
from fastload.remote.errands import Errands
from fastload.remote.fetch import Fetcher, Unreachable
from fastload.remote.files import RemoteFile
from fastload.remote.origin import Refused
from fastload.remote.packs import Packs

# Tables have a checksum in x.beton.seek alone: where it does not fit, they are fetched so many times before it is told.
_ATTEMPTS: Final = 3
# Who reads sample after sample, perhaps in several threads, is so many samples ahead or behind at most.
_NEAR: Final = 256
_CONNECTIONS_IN_ORDER: Final = 8


class RemoteBetonDataset(BetonDataset):
    """Samples of a .beton file behind a URL; see BetonDataset.

    Opening fetches the tables (24 bytes and more of each sample) and, where they are there, x.beton.json and
    x.beton.seek, which is kept in the cache for side files. Images come by ranges, as those of remote shards do. Those
    of which x.beton.seek has the checksum are compared with it and fetched again where they differ; others (raw pixels,
    or a file without x.beton.seek) are taken as they come: lengths are compared, bytes cannot be.

    Args:
        url: The file: http(s), or what fsspec has a driver for.
        image, label: As for BetonDataset.
        verify: As for BetonDataset, so that one call opens either; what comes from elsewhere is always compared.
        cache_dir: Folder that keeps the samples that were fetched; of a file whose images have checksums only.
        cache_bytes, connections, ahead_bytes, patience: As for RemoteShardedDataset.

    Raises:
        DataError: The server cannot be reached, or what it holds is no such file.
        ConfigError: An argument is wrong, or the cache cannot be written to.
        MissingExtraError: The driver for such URLs is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        image: str | None = None,
        label: str | None = None,
        verify: Verify = "first",
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
        connections: int = CONNECTIONS,
        ahead_bytes: int = AHEAD_BYTES,
        patience: Patience | None = None,
    ) -> None:
        if verify not in get_args(Verify):
            raise ConfigError(f"verify must be 'first', 'always' or 'never', not {verify!r}")
        check_cache(cache_dir, cache_bytes)
        self._options = {name: value for name, value in locals().items() if name not in ("self", "url", "__class__")}
        self._url = url
        self.path = shown(url)
        self._chosen = (image, label, verify)
        self._verify = "always"
        self._descriptor = -1
        self._temporary: str | None = None
        make_fetcher = functools.partial(Fetcher, url, patience or Patience())
        fetcher, errands = make_fetcher(), Errands(connections)
        try:
            size = fetcher.size(url)
            folder = self._fetch_tables(fetcher, errands, size, cache_dir, cache_bytes)
        finally:
            fetcher.close()
            errands.close()
        self._supply = Supply(
            self._extents(size),
            make_fetcher,
            self._packs(cache_dir, folder),
            connections=connections,
            ahead_bytes=ahead_bytes,
        )
        self._in_order: tuple[Fetcher, Errands, RemoteFile] | None = None
        self._near = -_NEAR

    def _fetch_tables(
        self,
        fetcher: Fetcher,
        errands: Errands,
        size: int,
        cache_dir: str | os.PathLike[str] | None,
        cache_bytes: int | None,
    ) -> CacheFolder:
        """Sets up all but what reads samples."""

        def read(view: memoryview, offset: int) -> int:
            fetcher.read_range(self._url, offset, view, file_size=size, given_up=lambda: False)
            return len(view)

        notes = self._fetch_notes(fetcher, size)
        for _ in range(_ATTEMPTS):
            for name in ("fingerprint", "tables_crc32"):
                vars(self).pop(name, None)
            try:
                contents = read_contents(read, size, self.path)
            except MemoryError as error:  # of a server that says of itself how much it has
                raise DataError("its tables, as its header has them, do not fit into memory", path=self.path) from error
            self._set_up(contents, notes)
            folder, self._temporary = side_folder(cache_dir, self.fingerprint[:32], cache_bytes)
            self.seek = self._fetch_seek(fetcher, errands, folder)
            if not self.seek.problem:
                break
        return folder

    def _beside(self, url: str) -> str:
        """The URL of a file beside this one; ``url`` has what stands before the query."""
        return url + self._url[len(without_query(self._url)) :]

    def _fetch_notes(self, fetcher: Fetcher, size: int) -> Notes | None:
        url = self._beside(notes_path(without_query(self._url)))
        try:
            return parse_notes(fetcher.read_file(url, at_most=MOST_NOTES_BYTES), size, shown(url))
        except Refused:
            return None

    def _fetch_seek(self, fetcher: Fetcher, errands: Errands, folder: CacheFolder) -> BetonSeek:
        url = self._beside(beton_seek_path(without_query(self._url)))
        place = folder.folder / "images"
        kept = beton_seek_path(str(place))
        if os.path.exists(kept):
            found = BetonSeek(str(place), len(self), self.tables_crc32)
            if not found.problem:
                with contextlib.suppress(OSError):
                    os.utime(kept)
                return found
            os.unlink(kept)
        with contextlib.suppress(Refused):
            size = fetcher.size(url)
            folder.store(os.path.basename(kept), size, functools.partial(download, fetcher, errands, url, size))
        return BetonSeek(str(place), len(self), self.tables_crc32)

    def _extents(self, size: int) -> Extents:
        places, crc32 = self._places, self.seek.crc32
        count = len(self)
        return Extents(
            shard=np.zeros(count, np.int32),
            offset=places.offsets,
            size=places.sizes,
            crc32=np.zeros(count, np.uint32) if crc32 is None else crc32,
            urls=[self._url],
            shard_bytes=np.array([size], np.int64),
            checked=(places.headers == 0) & (crc32 is not None),
        )

    def _packs(self, cache_dir: str | os.PathLike[str] | None, folder: CacheFolder) -> Packs | None:
        if cache_dir is None:
            return None
        if self.seek.crc32 is None or self._places.headers.any():
            raise ConfigError(
                f"cache_dir keeps images whose checksums are known, and {self.path} has pixels or JPEGs without: "
                "convert it into shards, or add seek indexes (fastload index) to a file of JPEGs"
            )
        return Packs(folder, self._places.sizes.astype(np.uint32), self.seek.crc32)

    def counts(self) -> dict[str, int]:
        """Requests that were made, bytes that they brought, and requests that had to be made again."""
        return {f"remote.{name}": number for name, number in sorted(self._supply.fetcher.counts.items())}

    def expect(self, pieces: Iterator[NDArray[np.int64]]) -> Expectation:
        return self._supply.expect(pieces)

    def file_descriptor(self, file_index: int) -> int:
        raise ValueError(f"{self.file_path(file_index)} is not a file of this machine")

    def plan_reads(self, ids: NDArray[np.int64]) -> ReadPlan:
        """See Dataset. Samples are waited for when the plan is asked whether they are ready.

        That raises DataError where the server was tried as often as ``patience`` allows.
        """
        rows = np.ascontiguousarray(self._checked(ids), np.int64)
        _, offsets, sizes = self.extents(rows)
        raw = np.where(self.is_raw(rows)[:, None], self.sizes(rows), 0).astype(np.int64)
        crc32 = np.zeros(len(rows), np.int64) if self.seek.crc32 is None else self.seek.crc32[rows].astype(np.int64)
        return plan_supplied(self._supply, rows, offsets, sizes, crc32, raw, lambda own: self.seek.locate(rows[own]))

    def _read_image(self, row: int, places: Images, view: memoryview) -> None:
        if places is not self._places or not places.sizes[row]:
            super()._read_image(row, places, view)
            return
        header = places.header(row)
        view[: len(header)] = header
        try:
            crc32 = 0 if self.seek.crc32 is None else int(self.seek.crc32[row])
            read_supplied(self._supply, row, view[len(header) :], crc32)
        except Unreachable:
            raise
        except DataError as error:
            raise DataError(error.reason, path=self.path, key=self.key(row)) from error

    def _check(self, row: int, image: memoryview) -> None:
        """It was compared when it came."""

    def _read(self, row: int, offset: int, view: memoryview) -> None:
        """Further fields: by a request of their own, or, for who reads sample after sample, in large pieces."""
        fetcher, near = self._supply.fetcher, self._near
        self._near = row
        if abs(row - near) >= _NEAR:
            fetcher.read_range(self._url, offset, view, given_up=lambda: self._supply.closed)
            return
        if self._in_order is None or self._in_order[0] is not fetcher:
            errands = Errands(_CONNECTIONS_IN_ORDER)
            self._in_order = fetcher, errands, RemoteFile(self._url, fetcher, errands)
        self._in_order[2].read_into(view, offset)

    def close(self) -> None:
        """Ends what is under way and every thread. Safe to call twice."""
        if hasattr(self, "_supply"):
            self._supply.close()
            if self._in_order is not None:
                self._in_order[1].close()
        super().close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, (self._url, self._options))


def _reopen(url: str, options: dict[str, Any]) -> RemoteBetonDataset:
    return RemoteBetonDataset(url, **options)
