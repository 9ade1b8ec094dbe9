"""Seek indexes of remote shards: fetched beside the samples, used once they are here."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.seek import SeekFiles, seek_path
from fastload.dataset.supply import Supply
from fastload.errors import DataError
from fastload.jpeg.seek_file import index_sizes, table_end
from fastload.remote import shown, without_query
from fastload.remote.blocks import write_at
from fastload.remote.cache import CacheFolder
from fastload.remote.fetch import Unreachable
from fastload.remote.origin import Refused

logger = logging.getLogger("fastload")

# Of a shard of 1 GB they take 20 MB.
_MOST_BYTES: Final = 256 << 20
# What does not match its checksum is fetched so many times before it counts as damaged.
_ATTEMPTS: Final = 3


class RemoteSeekFiles(SeekFiles):
    """See SeekFiles. Nobody waits for them: until one is here, or where there is none, images are read without.

    Args:
        urls: Of the shards.
        supply: Its threads fetch them.
        folder: Keeps them.
        The others are as for SeekFiles.
    """

    def __init__(
        self,
        urls: Sequence[str],
        supply: Supply,
        folder: CacheFolder,
        shard_sizes: NDArray[np.int64],
        crc32: NDArray[np.uint32],
    ) -> None:
        names = [os.path.basename(seek_path(without_query(url))) for url in urls]
        super().__init__([str(folder.folder / name) for name in names], shard_sizes, crc32)
        self._urls = urls
        self._supply = supply
        self._folder = folder
        self._sent = np.zeros(len(urls), bool)

    def _open(self, shard: int) -> None:
        if os.path.exists(seek_path(self._paths[shard])):
            super()._open(shard)
        elif not self._sent[shard]:
            self._sent[shard] = True
            call: Callable[[], None] = functools.partial(self._fetch, shard)
            self._supply.errands.send([call])

    def settled(self, shards: NDArray[np.int64]) -> bool:
        """Whether the files of these shards are open, or known not to exist; asks for those that are not."""
        for shard in shards[~self._asked[shards]].tolist():
            self._open(shard)
        return bool(self._asked[shards].all())

    def sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of the seek index of each sample, int64 (n,), 0 where there is none; fetches tables and no indexes.

        Raises:
            Unreachable: The server was given up.
        """
        shards = np.searchsorted(self._ends, rows, side="right")
        tables: dict[int, Future[NDArray[np.int64]]] = {shard: Future() for shard in np.unique(shards).tolist()}
        self._supply.errands.send([functools.partial(self._measure, *entry) for entry in tables.items()])
        found = np.zeros(len(rows), np.int64)
        for shard, table in tables.items():
            own = shards == shard
            found[own] = table.result()[rows[own] - int(self._starts[shard])]
        return found

    def _measure(self, shard: int, answer: Future[NDArray[np.int64]]) -> None:
        crcs = self._crc32[int(self._starts[shard]) : int(self._ends[shard])]
        fetcher, url = self._supply.fetcher, self._url(shard)
        try:
            size = fetcher.size(url)
            head = bytearray(table_end(len(crcs)))
            for attempt in range(_ATTEMPTS):
                fetcher.read_range(url, 0, memoryview(head), file_size=size, given_up=lambda: self._supply.closed)
                try:
                    answer.set_result(index_sizes(bytes(head), size, crcs))
                    return
                except DataError:
                    if attempt == _ATTEMPTS - 1:
                        raise
        except Unreachable as error:
            answer.set_exception(error)
        except Exception as error:  # none there, or none that can be used
            if not isinstance(error, Refused):
                logger.warning("%s: seek indexes cannot be read (%s)", shown(url), error)
            answer.set_result(np.zeros(len(crcs), np.int64))

    def _url(self, shard: int) -> str:
        whole = self._urls[shard]
        url = without_query(whole)
        return seek_path(url) + whole[len(url) :]

    def _fetch(self, shard: int) -> None:
        try:
            data = self._supply.fetcher.read_file(self._url(shard), at_most=_MOST_BYTES)
            name = os.path.basename(self._paths[shard])
            if self._folder.store(name, len(data), lambda descriptor: write_at(descriptor, data, 0)) is not None:
                return
        except DataError:
            pass
        except Exception as error:
            logger.warning("seek indexes cannot be fetched (%s); images are read without, more slowly", error)
        self._asked[shard] = True
