"""The files of a source, here or behind a URL: opened, measured and read in the same way."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

from fastload.dataset.reading import open_regular, read_file, read_range
from fastload.errors import DataError
from fastload.remote import is_url, join, shown, without_query
from fastload.remote.files import RemoteFile, RemoteFiles, RemoteReader

# Either a descriptor or a file behind a URL.
Opened = int | RemoteFile

# Images that are fetched while one is worked on.
FILES_AHEAD: Final = 32
_MEASURED_TOGETHER: Final = 10_000
_MAGIC: Final = re.compile(r"[*?\[]")


class Places:
    """Opens what a path or a URL means. Safe to use from several threads."""

    @cached_property
    def _remote(self) -> RemoteFiles:
        return RemoteFiles()

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[Opened]:
        """A file to read from; DataError if it is not there."""
        if is_url(path):
            yield self._remote.file(path)
            return
        descriptor, _ = open_regular(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def reader(self, path: str) -> io.RawIOBase:
        """The same as Python's files are; the caller closes it."""
        if is_url(path):
            return RemoteReader(self._remote.file(path))
        return io.FileIO(open_regular(path)[0])

    def sizes(self, paths: Sequence[str]) -> Iterator[int]:
        """Bytes of each file, 0 where they cannot be told."""
        for begin in range(0, len(paths), _MEASURED_TOGETHER):
            some = paths[begin : begin + _MEASURED_TOGETHER]
            there = [path for path in some if is_url(path)]
            remote = iter(self._remote.sizes(there)) if there else iter(())
            for path in some:
                yield next(remote) if is_url(path) else size_of(path)

    def read(self, path: str, following: Iterable[str] = ()) -> bytes:
        """A whole image file; those that follow are fetched meanwhile, where they are behind URLs."""
        if is_url(path):
            return self._remote.read(path, [each for each in following if is_url(each)])
        return read_file(path)

    def read_whole(self, path: str, *, most: int) -> bytes:
        """A file of annotations.

        Raises:
            DataError: It cannot be read, or has more than ``most`` bytes.
        """
        with self.reader(path) as file:
            size = file.seek(0, os.SEEK_END)
            if size > most:
                raise DataError(
                    f"expected annotations of at most {most >> 20:,} MiB, but the file has {size:,} bytes",
                    path=shown(path),
                )
            file.seek(0)
            try:
                with io.BufferedReader(file, 1 << 16) as whole:
                    return whole.read(size)
            except OSError as error:
                raise DataError(f"the file cannot be read: {error.strerror}", path=path) from error

    def size(self, url: str) -> int:
        """Bytes of a file behind a URL; DataError if it is not there."""
        return self._remote.file(url).size

    def below(self, url: str) -> dict[str, int]:
        """Names of all files below a folder behind a URL, and their bytes."""
        return self._remote.list(url)

    def top(self, url: str) -> list[str]:
        """Names of the files and folders in a folder behind a URL, those of folders with a "/" at their end."""
        return sorted(self._remote.list(url, deep=False))

    def matching(self, pattern: str) -> list[str]:
        """URLs that a pattern means: ``*``, ``?`` and ``[...]`` after the last ``/``."""
        folder, _, names = pattern.rpartition("/")
        if _MAGIC.search(folder):
            raise DataError("expected * and ? in the names of files only, not of folders", path=shown(pattern))
        found = [name for name in self.top(folder) if not name.endswith("/") and fnmatch.fnmatchcase(name, names)]
        return [join(folder, name) for name in found]


def is_pattern(url: str) -> bool:
    """Whether a URL means several: a query's question mark does not make a pattern."""
    return bool(_MAGIC.search(without_query(url).rpartition("/")[2]))


def read_at(file: Opened, view: memoryview, offset: int) -> int:
    """Fills ``view`` with the bytes from ``offset`` on; returns how many there were, fewer only at the file's end."""
    return file.read_into(view, offset) if isinstance(file, RemoteFile) else read_range(file, view, offset)


def size_of(path: str) -> int:
    """Size of a file in bytes; 0 where it cannot be told."""
    try:
        return os.stat(path).st_size
    except OSError:  # read says what is wrong with it
        return 0


def beside(path: str, name: str) -> str:
    """What a name in a list at ``path`` means: a URL, an absolute path, or a file beside the list."""
    if is_url(name):
        return name
    return join(folder_of(path), name) if is_url(path) else os.path.join(os.path.dirname(path), name)


def folder_of(path: str) -> str:
    """The folder that a file lies in."""
    if is_url(path):
        base = without_query(path)
        return base.rpartition("/")[0] + path[len(base) :]
    return os.path.dirname(os.path.abspath(path))


def within(folder: str, name: str) -> str:
    """The path or the URL of a file in a folder; ``name`` may have several parts, "/" between them."""
    return join(folder, name) if is_url(folder) else os.path.join(folder, name)


def basename(path: str) -> str:
    """The name of a file."""
    return os.path.basename(shown(path) if is_url(path) else path)


def ending(path: str) -> str:
    """The ending of a file's name, in lower case: ".tar"."""
    return os.path.splitext(basename(path))[1].lower()
