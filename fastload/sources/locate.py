"""From what a user types (a folder, a pattern, a path) to the files that are meant, in order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from itertools import islice
from typing import Final

import braceexpand

from fastload.errors import ConfigError, DataError
from fastload.remote import is_url, local_path, shown
from fastload.sources.places import Places, is_pattern

_MOST_FILES: Final = 1_000_000


def expand(text: str, suffix: str) -> list[str]:
    """The paths that ``text`` means.

    Args:
        text: A folder (its files that end in ``suffix``, sorted), a file, a pattern as WebDataset has it
            (``shards-{000000..000009}.tar``) or as a shell has it (``shards-*.tar``, sorted). URLs are taken too; what
            lies there is not looked at, unless it has to be listed.
        suffix: Which files of a folder are meant: ".tar". Empty for the folder itself.

    Raises:
        DataError: A file is missing, or there is none.
        ConfigError: The braces cannot be expanded, or mean more than a million files.
    """
    if is_url(text):
        urls = _braces(text) if "{" in text else [text]
        return [url for name in urls for url in (_matching(name) if is_pattern(name) else [name])]
    text = local_path(text)
    if suffix and os.path.isdir(text):
        return _found(sorted(glob.glob(os.path.join(glob.escape(text), f"*{suffix}"))), text, suffix)
    if os.path.exists(text):
        return [text]
    if "{" in text:
        return [path for name in _braces(text) for path in _one(name, suffix)]
    return _one(text, suffix)


def _matching(pattern: str) -> list[str]:
    return _found(Places().matching(pattern), shown(pattern), "")


def _braces(text: str) -> Iterable[str]:
    # braceexpand makes a list of every range before the first name can be had.
    ranges = re.findall(r"\{(\d+)\.\.(\d+)", text)
    if any(abs(int(last) - int(first)) >= _MOST_FILES for first, last in ranges):
        raise ConfigError(f"{text!r} means more than {_MOST_FILES:,} files")
    try:
        names = list(islice(braceexpand.braceexpand(text), _MOST_FILES + 1))
    except ValueError as error:
        raise ConfigError(f"expected braces as in shards-{{000000..000009}}.tar, not {text!r}") from error
    if len(names) > _MOST_FILES:
        raise ConfigError(f"{text!r} means more than {_MOST_FILES:,} files")
    return names


def _one(text: str, suffix: str) -> list[str]:
    if any(sign in text for sign in "*?[") and not os.path.exists(text):
        return _found(sorted(glob.glob(text)), text, suffix)
    if not os.path.exists(text):
        raise DataError("there is nothing at this path; check it", path=text)
    return [text]


def _found(paths: list[str], text: str, suffix: str) -> list[str]:
    if not paths:
        what = f"files ({suffix})" if suffix else "files"
        raise DataError(f"expected {what} here, found none; check the path", path=text)
    return paths
