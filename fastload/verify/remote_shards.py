"""The checks of tar shards behind a URL: each is fetched whole, looked at as if it had always lain here, removed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from fastload.dataset.manifest import LEDGER_NAME, MANIFEST_NAME, MOST_BYTES, Shard, parse_manifest
from fastload.dataset.reading import open_regular
from fastload.dataset.remote import CONNECTIONS
from fastload.dataset.seek import seek_path
from fastload.errors import DataError
from fastload.remote import Patience, join, shown
from fastload.remote.download import download
from fastload.remote.errands import Errands
from fastload.remote.fetch import Fetcher
from fastload.remote.origin import Refused
from fastload.verify.report import Finding
from fastload.verify.shards import ShardedCheck
from fastload.verify.work import Stop, checksum

# What may have been damaged on its way is fetched so many times before it counts as damaged on the server.
_ATTEMPTS: Final = 4
_MOST_SIDE_BYTES: Final = 1 << 30


class RemoteShardedCheck(ShardedCheck):
    """See ShardedCheck.

    Files that dataset.json has a checksum of are fetched again while they do not match it; others until two answers
    agree. Two or three shards lie here at a time, or more small ones.

    Args:
        url: The folder that holds dataset.json.
        folder: Takes what is fetched; empty.
        stop: Ends the tasks.

    Raises:
        DataError: The server cannot be reached, has no dataset.json, or there is no room for what it has.
    """

    def __init__(self, url: str, folder: str, stop: Stop) -> None:
        self._url = url
        self._fetcher = Fetcher(url, Patience())
        self._errands = Errands(CONNECTIONS)
        try:
            manifest = self._fetch(MANIFEST_NAME, folder, most=MOST_BYTES)
            self._fetch_tables(manifest, folder)
            super().__init__(folder, stop)
        except BaseException:
            self.close()
            raise

    def _fetch_tables(self, data: bytes, folder: str) -> None:
        try:
            manifest = parse_manifest(data, shown(self._url))
        except DataError:  # is a finding, which is made where it is read
            return
        self._fetch_if_there(LEDGER_NAME, folder)
        entry = manifest.index
        self._download(entry.name, folder, {(entry.size, entry.crc32)})

    def _place(self, number: int) -> str:
        return os.path.join(self.path, str(number))

    def _arrive(self, number: int, shard: Shard) -> list[Finding]:
        place = self._place(number)
        os.mkdir(place)
        stem = os.path.splitext(shard.name)[0]
        for name in (f"{stem}.idx", os.path.basename(seek_path(shard.name))):
            self._fetch_if_there(name, place)
        assert self.manifest is not None
        known = {(each.size, each.crc32) for each in self.manifest.shards}  # it may be another one by this name
        size = self._download(shard.name, place, known)
        if size is not None and os.path.exists(os.path.join(place, shard.name)):
            return []
        shutil.rmtree(place)
        said = f"expected a shard of {shard.size:,} bytes, as dataset.json says, but the server "
        said += "does not have it" if size is None else f"has {size:,}"
        return [Finding(kind="shard", file=shard.name, reason=said)]

    def _depart(self, number: int) -> None:
        shutil.rmtree(self._place(number), ignore_errors=True)

    def _fetch_if_there(self, name: str, folder: str) -> None:
        try:
            self._fetch(name, folder, most=_MOST_SIDE_BYTES)
        except Refused:
            return

    def _fetch(self, name: str, folder: str, *, most: int) -> bytes:
        """A file without a checksum, which is also written into ``folder``."""
        seen = None
        for _ in range(_ATTEMPTS):
            data = self._fetcher.read_file(join(self._url, name), at_most=most)
            if data == seen:
                break
            seen = data
        try:
            Path(folder, name).write_bytes(data)
        except OSError as error:
            raise self._no_room(name, error) from error
        return data

    def _download(self, name: str, folder: str, known: set[tuple[int, int]]) -> int | None:
        """Fetches a file which has one of the ``known`` sizes and checksums; its size, None where it is not there.

        One of another size is not fetched.
        """
        url, path, seen = join(self._url, name), os.path.join(folder, name), -1
        try:
            size = self._fetcher.size(url)
            if size not in {entry[0] for entry in known}:
                return size
            for _ in range(_ATTEMPTS):
                with open(path, "wb") as file:
                    os.ftruncate(file.fileno(), size)
                    download(self._fetcher, self._errands, url, size, file.fileno())
                descriptor, _ = open_regular(path)
                try:
                    found = checksum(descriptor, 0, size, self._unstoppable)
                finally:
                    os.close(descriptor)
                if (size, found) in known or found == seen:
                    break
                seen = found
        except Refused:
            return None
        except OSError as error:
            raise self._no_room(name, error) from error
        return size

    _unstoppable = Stop()

    def _no_room(self, name: str, error: OSError) -> DataError:
        advice = "; choose another folder with work_dir (--work-dir)" if error.errno == errno.ENOSPC else ""
        return DataError(
            f"what was fetched cannot be written: {error.strerror}{advice}", path=shown(join(self._url, name))
        )

    def close(self) -> None:
        """Ends what is under way."""
        self._fetcher.close()
        self._errands.close()
