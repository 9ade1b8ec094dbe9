"""Seek indexes of remote shards: fetched beside the samples, used once they are here."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.seek import SeekFiles, seek_path
from fastload.dataset.supply import Supply
from fastload.errors import DataError
from fastload.remote import without_query
from fastload.remote.blocks import write_at
from fastload.remote.cache import CacheFolder

logger = logging.getLogger("fastload")

# Of a shard of 1 GB they take 20 MB.
_MOST_BYTES: Final = 256 << 20


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

    def _fetch(self, shard: int) -> None:
        whole = self._urls[shard]
        url = without_query(whole)
        try:
            data = self._supply.fetcher.read_file(seek_path(url) + whole[len(url) :], at_most=_MOST_BYTES)
            name = os.path.basename(self._paths[shard])
            if self._folder.store(name, len(data), lambda descriptor: write_at(descriptor, data, 0)) is not None:
                return
        except DataError:
            pass
        except Exception as error:
            logger.warning("seek indexes cannot be fetched (%s); images are read without, more slowly", error)
        self._asked[shard] = True
