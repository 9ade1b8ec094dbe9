"""What the sources with annotations share: their files read whole, and names that stay inside their folder."""

from __future__ import annotations

import os
from typing import Any, Final

from fastload.dataset.reading import open_regular, read_range
from fastload.errors import DataError

_LARGEST: Final = 2**31  # of any number in pixels


def read_annotations(path: str, *, most: int) -> bytes:
    """The bytes of a file of annotations.

    Raises:
        DataError: It cannot be read, or has more than ``most`` bytes.
    """
    descriptor, size = open_regular(path)
    try:
        if size > most:
            raise DataError(
                f"expected annotations of at most {most >> 20:,} MiB, but the file has {size:,} bytes", path=path
            )
        data = bytearray(size)
        done = read_range(descriptor, memoryview(data), 0)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path=path) from error
    finally:
        os.close(descriptor)
    return bytes(data[:done])


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a finite number that may count pixels."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def is_inside(name: str) -> bool:
    """Whether a relative path stays in the folder that it is relative to."""
    return not os.path.isabs(name) and ".." not in name.replace("\\", "/").split("/") and "\0" not in name


def file_size(path: str) -> int:
    """Size of a file in bytes; 0 where it cannot be told, and whoever reads it says why."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def list_files(folder: str, extensions: tuple[str, ...]) -> dict[str, str]:
    """The files below a folder whose names end in one of ``extensions``: path without extension -> path, sorted.

    Paths are relative to the folder, with "/"; links to folders are not followed.

    Raises:
        DataError: The folder cannot be listed, or two files differ in their extension alone.
    """

    def refuse(error: OSError) -> None:
        raise DataError(
            f"the folder cannot be listed: {error.strerror}; check the path", path=error.filename
        ) from error

    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            stem, extension = os.path.splitext(os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/"))
            if extension.lower() not in extensions:
                continue
            if stem in found:
                raise DataError(f"{found[stem]} and {stem}{extension} have one name; rename one", path=folder)
            found[stem] = stem + extension
    return dict(sorted(found.items()))
