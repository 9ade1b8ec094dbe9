"""From what a user types (a folder, a pattern, paths) to the tar files that are meant, in order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from fastload.dataset.listing import printable
from fastload.dataset.seek import seek_path
from fastload.errors import ConfigError, DataError
from fastload.sources.locate import expand


def find_shards(shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The tar files that ``shards`` means.

    Args:
        shards: A folder (every .tar in it, sorted), one tar file, a pattern as WebDataset has it
            (``shards-{000000..000009}.tar``) or as a shell has it (``shards-*.tar``, sorted), or a sequence of these.

    Raises:
        DataError: A file is missing, or there is none.
        ConfigError: The braces cannot be expanded, or mean more than a million shards.
    """
    given = [shards] if isinstance(shards, (str, os.PathLike)) else list(shards)
    paths = [path for text in given for path in expand(os.fspath(text), ".tar")]
    if not paths:
        raise DataError("expected at least one tar file, but the list of shards is empty")
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise ConfigError(f"the shard {path} is named twice; name each once")
        seen.add(path)
    return paths


def destination(paths: list[str], output: str | os.PathLike[str] | None) -> str:
    """The folder to write to; refuses shards that cannot lie in one."""
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
    if output is None and len(folders) > 1:
        raise ConfigError(
            f"the shards lie in {len(folders)} folders; give output=FOLDER (--output), which then holds links to them"
        )
    names: dict[str, str] = {}
    for path in paths:
        if "\\" in path or not path.isprintable():
            raise ConfigError(f"dataset.json cannot hold the file name {printable(path)!r}; rename the shard")
        stem = seek_path(os.path.basename(path))
        if stem in names:
            raise ConfigError(f"{names[stem]} and {path} cannot lie in one data set: their names are equal")
        names[stem] = path
    return folders.pop() if output is None else os.fspath(output)


def digest(paths: list[str]) -> str:
    """Whether these are the shards that they were, by name, size and time of change."""
    result = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise DataError(f"the shard cannot be read: {error.strerror}", path=path) from error
        result.update(os.fsencode(os.path.basename(path)) + b"\0")
        result.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
    return result.hexdigest()
