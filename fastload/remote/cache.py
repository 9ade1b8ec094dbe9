"""The folder that keeps what was fetched: shared by processes, bounded, and never believed without a checksum.

One folder per data set, named by its fingerprint, holds files of samples ("packs") and side files such as the index.
Each is written under another name and renamed when it is complete, so that a process may be killed at any moment; none
is ever changed, so that whoever has one open may read it even after another process has removed it. Nothing is
flushed to the disk: what a loss of power leaves behind does not match its checksum.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastload.errors import ConfigError
from fastload.jit import file_lock

logger = logging.getLogger("fastload")

_TEMPORARY: Final = ".tmp"
# Where no limit was given, this share of the disk stays free.
_FREE_SHARE: Final = 0.05
# A cache that was full is not looked at again for so long: to find out takes 2 us for each of its files.
_FULL_SECONDS: Final = 30.0


class CacheFolder:
    """The files of one data set in a cache.

    Args:
        root: The cache; it is made if it is not there.
        key: Name of the data set's folder in it.
        limit: Bytes of all files in the cache together; None leaves a twentieth of the disk free.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """

    def __init__(self, root: str | os.PathLike[str], key: str, *, limit: int | None) -> None:
        self.root = Path(root).expanduser()
        self.folder = self.root / key
        self._limit = limit
        self._full_until = 0.0
        self._warned = False
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.folder / f"{uuid.uuid4().hex}.{os.getpid()}{_TEMPORARY}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._warn(error)
                return
            raise ConfigError(
                f"the cache {self.root} cannot be written to: {error.strerror}; choose another folder with cache_dir"
            ) from error

    def store(self, name: str, size: int, write: Callable[[int], None]) -> Path | None:
        """Writes a file of ``size`` bytes, and gives its path; None where there is no room for it.

        Args:
            name: In the data set's folder; a file that is there is replaced.
            write: Called with a descriptor.
        """
        temporary = self.folder / f"{uuid.uuid4().hex}.{os.getpid()}{_TEMPORARY}"
        target = self.folder / name
        try:
            descriptor = self._reserve(temporary, size)
            if descriptor is None:
                return None
            try:
                write(descriptor)
            finally:
                os.close(descriptor)
            # A listing may miss a file that gets its name meanwhile, and so leave its bytes out of the limit.
            with file_lock(self.root / ".lock"):
                os.rename(temporary, target)
            return target
        except OSError as error:
            self._warn(error)
            self._full_until = time.monotonic() + _FULL_SECONDS
            with contextlib.suppress(OSError):
                temporary.unlink()
            return None
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("the cache %s cannot be written to (%s); going on without", self.root, error.strerror)

    def _reserve(self, temporary: Path, size: int) -> int | None:
        """An empty file of ``size`` bytes that the disk has and the limit allows; None if there are not so many."""
        if time.monotonic() < self._full_until:
            return None
        with file_lock(self.root / ".lock"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._make_room(size):
                self._full_until = time.monotonic() + _FULL_SECONDS
                return None
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, max(size, 1))
                os.ftruncate(descriptor, size)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def _make_room(self, size: int) -> bool:
        """Removes what was used longest ago, until ``size`` bytes more may be there.

        But nothing of this data set: an epoch comes to each sample once, so that what lies there is worth as much as
        what has just come. A cache of half the data set then has half of each epoch; if the oldest made room for the
        newest, it would have a fifth.
        """
        found = []
        total = 0
        for path, status in _files(self.root):
            if path.suffix == _TEMPORARY and not _is_written(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            total += status.st_size
            if path.parent != self.folder and path.suffix != _TEMPORARY:
                found.append((status.st_mtime_ns, status.st_size, path))
        excess = total + size - self._limit if self._limit is not None else self._excess_on_disk(size)
        if excess > sum(length for _, length, _ in found):
            return False
        for _, length, path in sorted(found):
            if excess <= 0:
                break
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            excess -= length
            with contextlib.suppress(OSError):  # the last one of a data set
                path.parent.rmdir()
        return True

    def _excess_on_disk(self, size: int) -> int:
        usage = shutil.disk_usage(self.root)
        return size + int(_FREE_SHARE * usage.total) - usage.free


def _files(root: Path) -> list[tuple[Path, os.stat_result]]:
    """All files of all data sets in a cache; those that vanish meanwhile are left out."""
    found = []
    with os.scandir(root) as entries:
        folders = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
    return found


def _is_written(name: str) -> bool:
    """Whether the process that made a temporary file still lives."""
    writer = name.split(".")[-2]
    if not writer.isdecimal():
        return False
    try:
        os.kill(int(writer), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
