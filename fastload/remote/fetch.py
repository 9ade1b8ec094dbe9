"""Fetches bytes until they are here: attempts, resumption, back-off, and the moment to give a server up."""

from __future__ import annotations

import functools
import http.client
import logging
import random
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from fastload.errors import DataError
from fastload.remote.origin import Broken, Origin, Patience, Refused, open_origin
from fastload.remote.urls import shown

logger = logging.getLogger("fastload")

Result = TypeVar("Result")

# A read returns within this many bytes, so that a slow server is seen.
_PIECE: Final = 1 << 18
# An attempt that brought so many bytes has not failed, even if it broke off. All that came are kept in any case.
_PROGRESS: Final = 1 << 10
# A server asks for patience (Retry-After); for more than this nobody waits.
_LONGEST_ASKED_WAIT: Final = 60.0
# After a server was given up, whoever asks next is told so at once for this long.
_DOWN_SECONDS: Final = 30.0
# How often bytes that do not match their checksum are fetched again before they count as damaged.
_CHECKED_ATTEMPTS: Final = 5
# A web page that lists a folder; one of a million files has 150 MB.
_LARGEST_PAGE: Final = 512 << 20


class Unreachable(DataError):
    """A server that was tried as often as patience allows; no file of it is worth another try now."""


class Fetcher:
    """Reads ranges and files of one place. Safe to use from several threads at once.

    Args:
        url: The place.
        patience: How long it is waited for.

    Attributes:
        counts: "requests", "bytes", and "retries", requests that had to be made again.
    """

    def __init__(self, url: str, patience: Patience) -> None:
        self._origin: Origin = open_origin(url, patience)
        self._patience = patience
        self._closed = threading.Event()
        self._down: tuple[float, Unreachable] | None = None
        self._counting = threading.Lock()
        self.counts: Counter[str] = Counter()

    def read_range(
        self, url: str, start: int, target: memoryview, *, file_size: int | None = None, given_up: Callable[[], bool]
    ) -> None:
        """Fills ``target`` with the bytes of a file from ``start`` on.

        Where the connection breaks off, it goes on behind the last byte that came.

        Args:
            file_size: What the whole file should have; an answer that says otherwise is none.
            given_up: Whether nobody waits for the bytes any more.

        Raises:
            Refused: There is no such file, or it may not be read.
            Unreachable: All attempts failed.
        """
        stop = start + len(target)
        done = 0

        def attempt() -> bool:
            nonlocal done
            before = done
            try:
                with self._origin.open(url, start + done, stop) as body:
                    if file_size is not None and body.total is not None and body.total != file_size:
                        raise Broken(f"the file has {body.total:,} bytes in place of {file_size:,}")
                    watch = _Watch(self._patience)
                    while done < len(target):
                        count = body.read_into(target[done : done + _PIECE])
                        if not count:
                            raise Broken(f"the connection broke off {len(target) - done:,} bytes before the end")
                        done += count
                        watch.see(count)
            except Exception:
                if done >= before + _PROGRESS:
                    raise _Progress from None
                raise
            finally:
                self._count("bytes", done - before)
            return True

        self._persist(attempt, url, f"bytes {start:,} to {stop:,}", given_up)

    def read_file(self, url: str, *, at_most: int) -> bytes:
        """A whole file, of a size that only the server knows.

        Raises:
            DataError: It has more than ``at_most`` bytes; or as for ``read_range``.
        """

        data = bytearray()
        total: int | None = None

        def attempt() -> bytes:
            nonlocal total
            before = len(data)
            try:
                with self._origin.open(url, before, None) as body:
                    if before and body.total != total:
                        raise Broken("the file has changed")
                    total = body.total
                    watch, room = _Watch(self._patience), memoryview(bytearray(_PIECE))
                    while count := body.read_into(room):
                        data.extend(room[:count])
                        watch.see(count)
                        if max(len(data), total or 0) > at_most:
                            raise Refused(f"expected at most {at_most:,} bytes, but there are more", path=shown(url))
                if total is not None and len(data) != total:
                    raise Broken(f"the connection broke off after {len(data):,} of {total:,} bytes")
                return bytes(data)
            except Exception as error:
                if isinstance(error, Refused) or len(data) < before + _PROGRESS or total is None:
                    data.clear()  # what came may be of another file, or not what was announced: from the beginning
                    raise
                raise _Progress from None

        return self._persist(attempt, url, "the file", lambda: False)

    def size(self, url: str) -> int:
        """Bytes of a file; raises as ``read_range``."""
        return self._persist(lambda: self._origin.size(url), url, "the size of the file", lambda: False)

    def list(self, url: str, *, deep: bool = True) -> dict[str, int]:
        """Names below a folder, "/" between them, and their bytes, -1 where nobody tells; raises as ``read_range``.

        Not ``deep``: files and folders of this folder alone, the names of folders with a "/" at their end.
        """
        read = functools.partial(self.read_file, at_most=_LARGEST_PAGE)
        return self._persist(lambda: self._origin.list(url, read, deep=deep), url, "the folder", lambda: False)

    def read_checked(
        self,
        url: str,
        start: int,
        target: memoryview,
        crc32: int,
        *,
        file_size: int | None = None,
        given_up: Callable[[], bool],
    ) -> None:
        """As ``read_range``; bytes that do not match their checksum are fetched again.

        Raises:
            DataError: They do not match it time after time; or as for ``read_range``.
        """
        for _ in range(_CHECKED_ATTEMPTS):
            self.read_range(url, start, target, file_size=file_size, given_up=given_up)
            found = zlib.crc32(target)
            if found == crc32:
                return
        raise DataError(
            f"expected crc32 {crc32:08x}, as the index says, but the bytes {start:,} to {start + len(target):,} have "
            f"{found:08x}, {_CHECKED_ATTEMPTS} times in a row; the file was damaged or edited: upload it again",
            path=shown(url),
        )

    def _count(self, name: str, number: int = 1) -> None:
        with self._counting:
            self.counts[name] += number

    def forgive(self) -> None:
        """A server that was given up is tried again."""
        self._down = None

    def _persist(self, attempt: Callable[[], Result], url: str, what: str, given_up: Callable[[], bool]) -> Result:
        patience, failures, begin = self._patience, 0, time.monotonic()
        while True:
            if given_up() or self._closed.is_set():
                raise Unreachable("nobody waits for it any more", path=shown(url))
            down = self._down
            if down is not None and time.monotonic() < down[0]:
                raise down[1]
            asked = 0.0
            self._count("requests")
            try:
                return attempt()
            except _Progress:
                failures = 0
                self._count("retries")
                continue
            except Broken as error:
                reason, asked = str(error), min(error.wait, _LONGEST_ASKED_WAIT)
            except (OSError, http.client.HTTPException) as error:
                reason = _in_words(error)
            except ValueError as error:
                if isinstance(error, DataError):
                    raise
                reason = _in_words(error)  # a driver's or http.client's complaint of what came
            failures += 1
            self._count("retries")
            if failures >= patience.attempts:
                seconds = time.monotonic() - begin
                failure = Unreachable(
                    f"{what} could not be read: {reason}; tried {failures} times in {seconds:.0f} s; check that the "
                    "server is up and can be reached from here, and start again: a Loader goes on from its state",
                    path=shown(url),
                )
                self._down = (time.monotonic() + _DOWN_SECONDS, failure)
                raise failure
            logger.debug("%s: %s: %s; attempt %d of %d", shown(url), what, reason, failures, patience.attempts)
            wait = min(patience.longest_wait, patience.first_wait * 2 ** (failures - 1))
            self._closed.wait(max(wait * random.uniform(0.5, 1.0), asked))

    def close(self) -> None:
        """Ends what is under way. Safe to call twice."""
        self._closed.set()
        self._origin.close()


class _Progress(Exception):
    """An attempt that broke off after some bytes: the next one goes on behind them."""


class _Watch:
    """Breaks a request off whose bytes come, but so slowly that it could last for ever."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._begin = time.monotonic()
        self._count = 0

    def see(self, count: int) -> None:
        self._count += count
        seconds = time.monotonic() - self._begin
        if seconds > self._patience.timeout and self._count < seconds * self._patience.slowest:
            raise Broken(f"only {self._count:,} bytes came in {seconds:.0f} s")


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    return f"{type(error).__name__}: {str(error)[:200]}" if str(error) else type(error).__name__
