"""Fetches a whole file of known size, in parts, several at once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Final

from fastload.errors import DataError
from fastload.remote.blocks import write_at
from fastload.remote.errands import Errands
from fastload.remote.fetch import Fetcher

_PART: Final = 4 << 20


def download(fetcher: Fetcher, errands: Errands, url: str, size: int, descriptor: int) -> None:
    """Fills a file with the ``size`` bytes of another; several threads fetch.

    Raises:
        DataError: It cannot be read.
        OSError: There is no room for it.
    """
    starts = range(0, size, _PART)
    errors: list[BaseException] = []
    left = [len(starts)]
    lock, done = threading.Lock(), threading.Event()

    def fetch(start: int) -> None:
        try:
            if not errors:
                part = memoryview(bytearray(min(_PART, size - start)))
                fetcher.read_range(url, start, part, file_size=size, given_up=lambda: bool(errors))
                write_at(descriptor, part, start)
        except (DataError, OSError) as error:
            errors.append(error)
        except Exception as error:
            errors.append(DataError(f"fetching failed: {type(error).__name__}: {error}"))
        with lock:
            left[0] -= 1
            if not left[0]:
                done.set()

    calls: list[Callable[[], None]] = [functools.partial(fetch, start) for start in starts]
    if calls:
        errands.send(calls)
        try:
            while not done.wait(timeout=0.25):  # so that Ctrl-C is heard
                pass
        except BaseException as error:
            errors.append(error)
            raise
    if errors:
        raise errors[0]
