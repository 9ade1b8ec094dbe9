"""Files of everything that fsspec has a driver for, by ranges."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem

from fastload.remote.origin import Broken, Patience, Refused
from fastload.remote.urls import shown


class DriverOrigin:
    """See Origin. A driver's own retries stay in force; whatever it raises behind them is one broken request."""

    def __init__(self, url: str, patience: Patience) -> None:
        self._fs, _ = fsspec.url_to_fs(url)
        # A driver may wait for ever; those that are asynchronous can be left waiting.
        self._options = {"timeout": 3 * patience.timeout} if isinstance(self._fs, AsyncFileSystem) else {}

    def open(self, url: str, start: int, stop: int | None) -> DriverBody:
        data = self._call(url, self._fs.cat_file, start=start or None, end=stop, **self._options)
        if stop is not None and len(data) > stop - start:
            raise Broken(f"the driver gave {len(data):,} bytes in place of {stop - start:,}")
        return DriverBody(data)

    def size(self, url: str) -> int:
        size = self._call(url, self._fs.info).get("size")
        if size is None:
            raise Refused("its size is not known", path=shown(url))
        return int(size)

    def list(self, url: str, read: Callable[[str], bytes], *, deep: bool) -> dict[str, int]:
        if deep:
            entries = self._call(url, self._fs.find, detail=True)
        else:
            entries = {entry["name"]: entry for entry in self._call(url, self._fs.ls, detail=True)}
        root = str(self._fs._strip_protocol(url)).rstrip("/") + "/"
        found = {path[len(root) :]: entry for path, entry in entries.items() if path.startswith(root)}
        return {
            f"{name.rstrip('/')}/" if entry.get("type") == "directory" else name: int(entry.get("size") or 0)
            for name, entry in found.items()
            if name
        }

    def _call(self, url: str, method: Callable[..., Any], **options: Any) -> Any:
        path = self._fs._strip_protocol(url)
        if not isinstance(path, str):
            raise Refused("expected one file", path=shown(url))
        try:
            return method(path, **options)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise Refused("there is no such file: check the URL", path=shown(url)) from error
        except PermissionError as error:
            raise Refused(f"it may not be read ({error}); check your credentials", path=shown(url)) from error
        except Exception as error:  # a driver raises whatever the library below it does
            raise Broken(f"{type(error).__name__}: {str(error)[:200]}") from error

    def close(self) -> None:
        """Drivers keep their connections for the whole process."""


class DriverBody:
    """See Body."""

    def __init__(self, data: Any) -> None:
        self.total: int | None = None
        self._data = memoryview(data)

    def read_into(self, view: memoryview) -> int:
        count = min(len(view), len(self._data))
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def __enter__(self) -> DriverBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._data = memoryview(b"")
