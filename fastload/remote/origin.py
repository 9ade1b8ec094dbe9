"""Where remote bytes come from: one request for a range of a file, and what may go wrong with it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol

from fastload.errors import ConfigError, DataError, MissingExtraError
from fastload.remote.urls import scheme_of, shown


class Broken(Exception):
    """A request that may succeed if it is made again; the reason in words.

    Args:
        reason: What happened.
        wait: Seconds that the server asked for before the next try.
    """

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Refused(DataError):
    """A request that need not be made again: there is no such file, or it is not for us."""


class Body(Protocol):
    """The answer to a request.

    Attributes:
        total: Bytes of the whole file, where the answer tells.
    """

    total: int | None

    def read_into(self, view: memoryview) -> int:
        """Fills the beginning of ``view`` with the bytes that come next; 0 at the end, announced or not."""
        ...

    def __enter__(self) -> Body: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Origin(Protocol):
    """Something that answers requests; safe to use from several threads at once."""

    def open(self, url: str, start: int, stop: int | None) -> Body:
        """Asks for bytes ``start`` to ``stop`` (None for the end) of a file; the first that is read is ``start``.

        Raises:
            Refused: There is no such file, or it may not be read.
            Broken: Anything else; OSError and http.client.HTTPException mean the same, here and while reading.
        """
        ...

    def size(self, url: str) -> int:
        """Bytes of a file; raises as ``open`` does."""
        ...

    def list(self, url: str, read: Callable[[str], bytes], *, deep: bool) -> dict[str, int]:
        """Names of all files below a folder, "/" between them, with their bytes, -1 where nobody tells.

        Args:
            read: Reads a whole file, for those who have to read one to know.
            deep: False: files and folders of this folder alone, the names of folders with a "/" at their end.

        Raises:
            Refused: There is no such folder, or nobody can list it.
        """
        ...

    def close(self) -> None:
        """Ends what is under way, which then is Broken. Safe to call twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        attempts: Requests without a single new byte after which a range is given up.
        timeout: Seconds without a byte after which a request is broken off.
        slowest: Bytes per second below which a request is broken off, once ``timeout`` has passed.
        first_wait, longest_wait: Seconds before the second attempt, and at most; between, each is twice the one before,
            and all are shortened by chance, by up to a half, so that many readers do not come back at once.
    """

    attempts: int = 7
    timeout: float = 20.0
    slowest: float = 4096.0
    first_wait: float = 0.25
    longest_wait: float = 8.0


# What fsspec needs for a protocol, and the extra that brings it.
_DRIVERS: Final = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "hf": ("huggingface_hub", "hf"),
}


def open_origin(url: str, patience: Patience) -> Origin:
    """What answers for a URL: http(s) by the standard library, everything else by fsspec.

    Raises:
        MissingExtraError: The driver is not installed.
        ConfigError: Nobody knows this kind of URL.
    """
    scheme = scheme_of(url)
    if scheme in ("http", "https") and "::" not in url:
        from fastload.remote.http import HttpOrigin

        return HttpOrigin(patience)
    package, extra = _DRIVERS.get(scheme, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra=extra, purpose=f"reading {scheme}:// URLs")
    from fastload.remote.driver import DriverOrigin

    try:
        return DriverOrigin(url, patience)
    except ImportError as error:
        name = error.name or scheme
        raise MissingExtraError(name, extra="", purpose=f"reading {scheme}:// URLs", install=name) from error
    except ValueError as error:
        raise ConfigError(f"{shown(url)} cannot be read: {error}; see fsspec.available_protocols()") from error
