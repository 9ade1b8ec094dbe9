"""A converted data set behind a URL: its tables fetched once, its samples by ranges before they are asked for."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Expectation
from fastload.dataset.index import ExtraColumns, IndexTable
from fastload.dataset.manifest import MANIFEST_NAME, MOST_BYTES, Manifest, parse_manifest
from fastload.dataset.reads import ReadPlan
from fastload.dataset.remote_seek import RemoteSeekFiles
from fastload.dataset.sharded import ShardedDataset, Verify, index_of
from fastload.dataset.supplied import plan_supplied, read_supplied
from fastload.dataset.supply import Extents, Supply
from fastload.errors import ConfigError, DataError
from fastload.jit import user_cache_directory
from fastload.remote import Patience, join, shown
from fastload.remote.cache import CacheFolder
from fastload.remote.download import download
from fastload.remote.errands import Errands
from fastload.remote.fetch import Fetcher, Unreachable
from fastload.remote.packs import Packs

# Random images of 110 KB from 50 ms away come at 640 a second.
CONNECTIONS: Final = 32
AHEAD_BYTES: Final = 256 << 20
# Index and seek indexes of data sets whose samples are not cached. All of ImageNet takes 3 GB.
_SIDE_BYTES: Final = 8 << 30
# What can be damaged on its way without anybody's noticing is fetched so many times before it counts as damaged.
_ATTEMPTS: Final = 3


class RemoteShardedDataset(ShardedDataset):
    """Samples in tar shards behind a URL, as ``fastload convert`` writes them and any server or bucket hands them out.

    Opening fetches dataset.json, and index.arrow where the local cache does not have it. Samples come by ranges of the
    shards' bytes, merged where they are neighbours, several requests at once: those that ``expect`` announced before
    they are asked for, so that nobody waits. What breaks off is resumed, what fails is tried again with growing pauses,
    and every image and member is compared with its crc32 and fetched again where it differs.

    Args:
        url: The folder that holds dataset.json: http(s), or what fsspec has a driver for.
        verify: As for ShardedDataset, so that one call opens either; what comes from elsewhere is always compared.
        cache_dir: Folder that keeps the samples that were fetched, for this and other processes; None keeps none.
        cache_bytes: What all files there may take together; None leaves a twentieth of the disk free.
        connections: Requests at once, at most.
        ahead_bytes: Bytes that are fetched and not read yet, at most.
        patience: How long the server is waited for.

    Raises:
        DataError: The server cannot be reached, or what it holds is no data set.
        ConfigError: An argument is wrong, or the cache cannot be written to.
        MissingExtraError: The driver for such URLs is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
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
        self._options = {
            "verify": verify,
            "cache_dir": cache_dir,
            "cache_bytes": cache_bytes,
            "connections": connections,
            "ahead_bytes": ahead_bytes,
            "patience": patience,
        }
        self._url = url
        self.path = shown(url)
        self._temporary: str | None = None
        make_fetcher = functools.partial(Fetcher, url, patience or Patience())
        fetcher = make_fetcher()
        errands = Errands(connections)
        try:
            manifest = self._fetch_manifest(fetcher)
            key = manifest.fingerprint[:32]
            folder, self._temporary = side_folder(cache_dir, key, cache_bytes)
            index = self._fetch_index(fetcher, errands, manifest, folder)
        finally:
            fetcher.close()
            errands.close()
        self._set_up(manifest, index, verify)
        self.proven = True
        packs = None
        if cache_dir is not None:
            packs = Packs(folder, index.size, index.crc32)
        urls = [join(url, shard.name) for shard in manifest.shards]
        extents = Extents(
            shard=index.shard,
            offset=index.offset,
            size=index.size,
            crc32=index.crc32,
            urls=urls,
            shard_bytes=self._shard_bytes[:-1],
        )
        self._supply = Supply(extents, make_fetcher, packs, connections=connections, ahead_bytes=ahead_bytes)
        self._seek: RemoteSeekFiles = RemoteSeekFiles(urls, self._supply, folder, self.shard_sizes(), index.crc32)

    def _fetch_manifest(self, fetcher: Fetcher) -> Manifest:
        url = join(self._url, MANIFEST_NAME)
        seen, failure = b"", DataError("expected a dataset.json of fastload, but it is empty", path=shown(url))
        for _ in range(_ATTEMPTS):  # it has no checksum: what cannot be read may be so because of the way it came
            data = fetcher.read_file(url, at_most=MOST_BYTES)
            try:
                return parse_manifest(data, shown(url))
            except DataError as error:
                if data == seen:
                    raise
                seen, failure = data, error
        raise failure

    def _fetch_index(self, fetcher: Fetcher, errands: Errands, manifest: Manifest, folder: CacheFolder) -> IndexTable:
        entry = manifest.index
        name = f"index-{entry.crc32:08x}-{entry.size}.arrow"
        url = join(self._url, entry.name)
        path: Path | None = folder.folder / name
        for attempt in range(_ATTEMPTS + 1):
            if path is not None and path.exists():
                with contextlib.suppress(OSError):
                    os.utime(path)
                try:
                    return index_of(manifest, str(path), check=True)
                except DataError as error:
                    with contextlib.suppress(OSError):
                        path.unlink()
                    if attempt == _ATTEMPTS:
                        raise DataError(error.reason, path=shown(url)) from error
            write = functools.partial(download, fetcher, errands, url, entry.size)
            path = folder.store(name, entry.size, write)
            if path is None and self._temporary is None:
                folder, self._temporary = temporary_folder()
                path = folder.store(name, entry.size, write)
        raise DataError(
            f"there is no room for its index of {entry.size:,} bytes: make room in {folder.root}, or choose another "
            "cache with cache_dir or $FASTLOAD_CACHE_DIR",
            path=shown(url),
        )

    def counts(self) -> dict[str, int]:
        """Requests that were made, bytes that they brought, and requests that had to be made again."""
        return {f"remote.{name}": number for name, number in sorted(self._supply.fetcher.counts.items())}

    def await_seek_indexes(self, ids: NDArray[np.int64], seconds: float) -> None:
        """Waits until the seek indexes of the shards of these samples are here, or it is known that there are none."""
        shards = np.unique(self.extents(ids)[0])
        deadline = time.monotonic() + seconds
        while not self._seek.settled(shards) and time.monotonic() < deadline:
            time.sleep(0.01)

    def seek_index_bytes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Size of each sample's seek index, int64, shape as ids; 0 where there is none. No index is fetched for it.

        Raises:
            DataError: The server was given up.
        """
        rows = np.ascontiguousarray(self._checked(ids), np.int64)
        return self._seek.sizes(rows)

    def file_path(self, file_index: int) -> str:
        return shown(join(self._url, self.manifest.shards[file_index].name))

    def file_descriptor(self, file_index: int) -> int:
        raise ValueError(f"{self.file_path(file_index)} is not a file of this machine")

    def expect(self, pieces: Iterator[NDArray[np.int64]]) -> Expectation:
        return self._supply.expect(pieces)

    def plan_reads(self, ids: NDArray[np.int64]) -> ReadPlan:
        """See Dataset. Samples are waited for when the plan is asked whether they are ready.

        That raises DataError where the server was tried as often as ``patience`` allows.
        """
        rows = np.ascontiguousarray(self._checked(ids), np.int64)
        shards, offsets, sizes = self.extents(rows)
        crc32 = self._index.crc32[rows].astype(np.int64)

        def locate(own: slice) -> tuple[NDArray[np.int64], object]:
            return self._seek.locate(shards[own], rows[own])

        return plan_supplied(self._supply, rows, offsets, sizes, crc32, np.zeros((len(rows), 2), np.int64), locate)

    def read_into(self, sample_id: int, buffer: NDArray[np.uint8]) -> int:
        row = self._row(sample_id)
        view = self._room(row, buffer)
        self.extents(np.array([row]))
        try:
            return read_supplied(self._supply, row, view, int(self._index.crc32[row]))
        except Unreachable:
            raise
        except DataError as error:
            raise DataError(error.reason, path=self.location(row), key=self.key(row)) from error

    def _read_member(self, row: int, columns: ExtraColumns, view: memoryview) -> None:
        shard, offset = int(self.extents(np.array([row]))[0][0]), int(columns.offset[row])
        file = self.manifest.shards[shard]
        if not 0 <= offset <= file.size - len(view):
            raise self._misplaced(row)
        try:
            self._supply.fetcher.read_checked(
                join(self._url, file.name),
                offset,
                view,
                int(columns.crc32[row]),
                file_size=file.size,
                given_up=lambda: self._closed,
            )
        except Unreachable:
            raise
        except DataError as error:
            raise DataError(error.reason, path=self.location(row), key=self.key(row)) from error

    def close(self) -> None:
        """Ends what is under way and every thread. Safe to call twice."""
        if hasattr(self, "_supply"):
            self._supply.close()
        super().close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, (self._url, self._options))


def side_folder(
    cache_dir: str | os.PathLike[str] | None, key: str, cache_bytes: int | None
) -> tuple[CacheFolder, str | None]:
    """Where tables and seek indexes of a data set are kept; and its path, where it ends with the data set."""
    if cache_dir is not None:
        return CacheFolder(cache_dir, key, limit=cache_bytes), None
    try:
        return CacheFolder(user_cache_directory() / "remote", key, limit=_SIDE_BYTES), None
    except ConfigError:  # a home that is read-only
        return temporary_folder()


def temporary_folder() -> tuple[CacheFolder, str]:
    """A folder of no other process, and its path."""
    path = tempfile.mkdtemp(prefix="fastload-")
    return CacheFolder(path, "tables", limit=None), path


def _reopen(url: str, options: dict[str, object]) -> RemoteShardedDataset:
    return RemoteShardedDataset(url, **options)  # type: ignore[arg-type]


def check_cache(cache_dir: object, cache_bytes: object) -> None:
    """Raises ConfigError unless these can be ``cache_dir`` and ``cache_bytes``."""
    if cache_dir is not None and not isinstance(cache_dir, (str, os.PathLike)):
        raise ConfigError(f"cache_dir must be a folder or None, not {cache_dir!r}")
    if cache_bytes is None:
        return
    if isinstance(cache_bytes, bool) or not isinstance(cache_bytes, int) or cache_bytes < 1:
        raise ConfigError(f"cache_bytes must be a number of bytes of at least 1 or None, not {cache_bytes!r}")
    if cache_dir is None:
        raise ConfigError("cache_bytes limits the folder cache_dir: give that as well")
