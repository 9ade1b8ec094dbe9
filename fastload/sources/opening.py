"""Finds out which kind of source lies at a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from fastload.dataset.listing import SPLITS
from fastload.dataset.manifest import MANIFEST_NAME
from fastload.errors import ConfigError, DataError
from fastload.sources.base import Source
from fastload.sources.image_folder import ImageFolderSource
from fastload.sources.imagenet import ImageNetValSource, find_validation_labels
from fastload.sources.locate import expand
from fastload.sources.merged import MergedSource
from fastload.sources.parquet import ParquetSource
from fastload.sources.stored import DatasetSource
from fastload.sources.table import DELIMITERS, JSON_LINES, TableSource
from fastload.sources.tar_shards import TarSource

_FOLDER: Final = "folder"
_STORED: Final = "stored"
_TABLES: Final = (*DELIMITERS, *JSON_LINES)
# Files of which neighbours are one source.
_SHARDED: Final = {".tar": TarSource, ".parquet": ParquetSource}

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def open_source(paths: Paths, *, image: str | None = None, label: str | None = None) -> Source:
    """Opens what convert is to read.

    Args:
        paths: A folder, a file or a pattern (``shards-{0000..0099}.tar``, ``*.csv``), or several of these, which
            become one source in their order; neighbouring tars are one, and neighbouring Parquet files.
        image, label: Column, member or field with the image and with the label, where a source has a choice.

    Raises:
        DataError: There is nothing at a path that convert reads.
        ConfigError: ``image`` or ``label`` was given and nothing of the source has a choice.
    """
    groups: list[tuple[str, list[str]]] = []
    for text in given_paths(paths):
        for path in expand(text, ""):
            kind, found = _kind(path)
            if groups and kind in _SHARDED and groups[-1][0] == kind:
                groups[-1][1].extend(found)
            else:
                groups.append((kind, found))
    if not groups:
        raise ConfigError("expected at least one path to convert")
    sources = [_open(kind, found, image, label) for kind, found in groups]
    return sources[0] if len(sources) == 1 else MergedSource(sources)


def given_paths(paths: Paths) -> list[str]:
    """One path or several as a list."""
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def _kind(path: str) -> tuple[str, list[str]]:
    """What lies at a path, and the files that this means."""
    if os.path.isdir(path):
        if os.path.lexists(os.path.join(path, MANIFEST_NAME)):
            return _STORED, [path]
        for suffix in _SHARDED:
            if _only_holds(path, suffix):
                return suffix, _refuse_splits(path, expand(path, suffix))
        return _FOLDER, [path]
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".beton":
        return _STORED, [path]
    if suffix in (*_SHARDED, *_TABLES):
        return suffix, [path]
    raise DataError(
        "expected a folder of class folders with images, a list of files (.csv, .tsv, .jsonl), tar shards (.tar), "
        "Parquet files, a data set of fastload or a .beton file; this is none of them",
        path=path,
    )


def _refuse_splits(folder: str, paths: list[str]) -> list[str]:
    """Gives files of one folder back; a folder with those of several splits is not one data set."""
    found = dict.fromkeys(os.path.basename(path).split("-")[0] for path in paths)
    splits = [name for name in found if name.lower() in SPLITS]
    if len(splits) > 1:
        choices = " or ".join(os.path.join(folder, f"{name}-*{os.path.splitext(paths[0])[1]}") for name in splits)
        raise DataError(f"expected one split, but found {', '.join(splits)}; choose one: {choices}", path=folder)
    return paths


def _only_holds(folder: str, suffix: str) -> bool:
    """Whether a folder has files of this suffix, and no folders that could be classes."""
    try:
        with os.scandir(folder) as entries:
            names = [(entry.is_dir(), entry.name) for entry in entries]
    except OSError:  # the image folder says what is wrong
        return False
    return not any(is_dir for is_dir, _ in names) and any(name.endswith(suffix) for _, name in names)


def _open(kind: str, paths: list[str], image: str | None, label: str | None) -> Source:
    if kind in _SHARDED:
        return _SHARDED[kind](paths, image=image, label=label)
    path = paths[0]
    if kind in _TABLES:
        return TableSource(path, image=image, label=label)
    if kind == _STORED and not os.path.isdir(path):
        return DatasetSource(path, image=image, label=label)
    if image is not None or label is not None:
        raise ConfigError(
            f"{path} has its labels already; image and label choose columns of a table, members of foreign shards and "
            "fields of a .beton file"
        )
    if kind == _STORED:
        return DatasetSource(path)
    labels = find_validation_labels(path)
    return ImageFolderSource(path) if labels is None else ImageNetValSource(path, labels)
