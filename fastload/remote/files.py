"""Whole files behind URLs, read from anywhere in them; what is read in order is fetched ahead."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Final

from fastload.errors import DataError
from fastload.remote.errands import Errands
from fastload.remote.fetch import Fetcher, Unreachable
from fastload.remote.origin import Patience
from fastload.remote.urls import join, scheme_of, shown

_BLOCK: Final = 2 << 20
# Blocks that are asked for beyond the one that is read, once two were read in order; and kept of each file.
_AHEAD: Final = 8
_KEPT: Final = 24
_CONNECTIONS: Final = 16
# Files that are open at once: workers of convert are seldom in more than two.
_OPEN_FILES: Final = 4
# Small files that were asked for and not taken.
_MOST_WAITING: Final = 256
_LARGEST_FILE: Final = 1 << 30


class RemoteFile:
    """A file behind a URL. Safe to use from several threads.

    Attributes:
        url, size: Where it is, and its bytes.
    """

    def __init__(self, url: str, fetcher: Fetcher, errands: Errands) -> None:
        self.url = url
        self.size = fetcher.size(url)
        self._fetcher = fetcher
        self._errands = errands
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._last = -2

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fills ``view`` with the bytes from ``offset`` on; returns how many there were, fewer only at the end.

        Raises:
            DataError: The file cannot be read.
        """
        done = 0
        while done < len(view) and offset + done < self.size:
            number, begin = divmod(offset + done, _BLOCK)
            data = self._block(number)
            count = min(len(view) - done, len(data) - begin)
            view[done : done + count] = data[begin : begin + count]
            done += count
        return done

    def _block(self, number: int) -> bytes:
        with self._lock:
            wanted = [number]
            if number in (self._last, self._last + 1):
                wanted += range(number + 1, min(number + 1 + _AHEAD, -(-self.size // _BLOCK)))
            self._last = number
            for block in wanted:
                if block not in self._blocks:
                    future: Future[bytes] = Future()
                    self._blocks[block] = future
                    self._errands.send([partial(self._fetch, block, future)])
            found = self._blocks[number]
            self._blocks.move_to_end(number)
            while len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
        try:
            return found.result()
        except DataError:
            with self._lock:  # whoever asks again, tries again
                if self._blocks.get(number) is found:
                    del self._blocks[number]
            raise

    def _fetch(self, number: int, future: Future[bytes]) -> None:
        start = number * _BLOCK
        data = bytearray(min(_BLOCK, self.size - start))
        try:
            self._fetcher.read_range(self.url, start, memoryview(data), file_size=self.size, given_up=lambda: False)
            future.set_result(bytes(data))
        except Exception as error:
            wrong = isinstance(error, DataError)
            future.set_exception(error if wrong else Unreachable(f"fetching failed: {error}", path=shown(self.url)))


class RemoteReader(io.RawIOBase):
    """A RemoteFile as Python's files are, for those who want one."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: object) -> int:
        count = self._file.read_into(memoryview(buffer).cast("B"), self._place)  # type: ignore[arg-type]
        self._place += count
        return count


class RemoteFiles:
    """Files behind URLs, wherever they are: those that are read often stay open. Safe to use from several threads."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._errands = Errands(_CONNECTIONS)
        self._lock = threading.Lock()
        self._fetchers: dict[str, Fetcher] = {}
        self._files: OrderedDict[str, RemoteFile] = OrderedDict()
        self._small: OrderedDict[str, Future[bytes]] = OrderedDict()

    def _fetcher(self, url: str) -> Fetcher:
        with self._lock:
            fetcher = self._fetchers.get(scheme_of(url))
            if fetcher is None:
                fetcher = self._fetchers[scheme_of(url)] = Fetcher(url, self._patience)
            return fetcher

    def file(self, url: str) -> RemoteFile:
        """A file to read from; DataError if it is not there."""
        with self._lock:
            found = self._files.get(url)
            if found is not None:
                self._files.move_to_end(url)
                return found
        found = RemoteFile(url, self._fetcher(url), self._errands)
        with self._lock:
            self._files[url] = found
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
        return found

    def sizes(self, urls: Iterable[str]) -> list[int]:
        """Bytes of each file; 0 for one that cannot be read. Many are asked for at once.

        Raises:
            Unreachable: A server was given up.
        """
        futures: list[Future[int]] = []
        for url in urls:
            future: Future[int] = Future()
            futures.append(future)
            self._errands.send([partial(self._measure, url, future)])
        return [future.result() for future in futures]

    def _measure(self, url: str, future: Future[int]) -> None:
        try:
            future.set_result(self._fetcher(url).size(url))
        except Unreachable as error:
            future.set_exception(error)
        except Exception:
            future.set_result(0)

    def read(self, url: str, following: Iterable[str] = ()) -> bytes:
        """A whole file of up to 1 GiB; those that ``following`` names are fetched meanwhile.

        Raises:
            DataError: It cannot be read.
        """
        with self._lock:
            for each in (url, *following):
                if each not in self._small:
                    future: Future[bytes] = Future()
                    self._small[each] = future
                    self._errands.send([partial(self._fetch, each, future)])
            found = self._small.pop(url)
            while len(self._small) > _MOST_WAITING:
                self._small.popitem(last=False)
        return found.result()

    def _fetch(self, url: str, future: Future[bytes]) -> None:
        try:
            future.set_result(self._fetcher(url).read_file(url, at_most=_LARGEST_FILE))
        except DataError as error:
            future.set_exception(error)
        except Exception as error:
            future.set_exception(DataError(f"fetching failed: {type(error).__name__}: {error}", path=shown(url)))

    def list(self, url: str, *, deep: bool = True) -> dict[str, int]:
        """Names below a folder, "/" between them, and their bytes; not ``deep``: as for Fetcher.list.

        Raises:
            DataError: It cannot be listed.
        """
        found = self._fetcher(url).list(url, deep=deep)
        unknown = [name for name, size in found.items() if size < 0] if deep else []
        return found | dict(zip(unknown, self.sizes(join(url, name) for name in unknown), strict=True))

    def close(self) -> None:
        """Ends what is under way. Safe to call twice."""
        for fetcher in list(self._fetchers.values()):
            fetcher.close()
        self._errands.close()

    def __del__(self) -> None:
        if hasattr(self, "_errands"):
            self.close()
