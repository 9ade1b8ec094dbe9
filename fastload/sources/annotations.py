"""What the sources with annotations share: numbers of pixels, the files of a folder, and names that stay inside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from fastload.errors import DataError
from fastload.remote import is_url, shown
from fastload.sources.places import Places

_LARGEST: Final = 2**31  # of any number in pixels


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a finite number that may count pixels."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def is_inside(name: str) -> bool:
    """Whether a relative path stays in the folder that it is relative to."""
    return not os.path.isabs(name) and ".." not in name.replace("\\", "/").split("/") and "\0" not in name


def list_files(folder: str, extensions: tuple[str, ...], places: Places) -> dict[str, str]:
    """The files below a folder whose names end in one of ``extensions``: path without extension -> path, sorted.

    Paths are relative to the folder, with "/"; links to folders are not followed.

    Raises:
        DataError: The folder cannot be listed, or two files differ in their extension alone.
    """
    found: dict[str, str] = {}
    for name in sorted(places.below(folder)) if is_url(folder) else _below(folder):
        stem, extension = os.path.splitext(name)
        if extension.lower() not in extensions:
            continue
        if stem in found:
            raise DataError(f"{found[stem]} and {stem}{extension} have one name; rename one", path=shown(folder))
        found[stem] = stem + extension
    return dict(sorted(found.items()))


def _below(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise DataError(
            f"the folder cannot be listed: {error.strerror}; check the path", path=error.filename
        ) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            yield os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
