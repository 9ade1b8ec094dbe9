"""Finds out which kind of source lies at a path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastload.dataset.listing import SPLITS
from fastload.dataset.manifest import MANIFEST_NAME
from fastload.errors import ConfigError, DataError
from fastload.remote import is_url, join, shown
from fastload.remote.origin import Refused
from fastload.sources.base import Source
from fastload.sources.coco import CocoSource
from fastload.sources.image_folder import ImageFolderSource
from fastload.sources.imagenet import ImageNetValSource, find_validation_labels
from fastload.sources.json_tables import Progress
from fastload.sources.locate import expand
from fastload.sources.mask_pairs import MaskPairSource, are_pair_folders, is_pair_folder
from fastload.sources.merged import MergedSource
from fastload.sources.parquet import ParquetSource
from fastload.sources.places import Places, basename, ending, within
from fastload.sources.remote_folder import RemoteFolderSource
from fastload.sources.stored import DatasetSource
from fastload.sources.table import DELIMITERS, JSON_LINES, TableSource
from fastload.sources.tar_shards import TarSource
from fastload.sources.voc import VocSource, are_voc_folders, find_voc

_FOLDER: Final = "folder"
_STORED: Final = "stored"
_VOC: Final = "voc"
_REMOTE_FOLDER: Final = "remote folder"
_PAIRS: Final = "images and masks"
_COCO: Final = ".json"
_TABLES: Final = (*DELIMITERS, *JSON_LINES)
# Files of which neighbours are one source.
_SHARDED: Final = {".tar": TarSource, ".parquet": ParquetSource}
_CHOICE: Final = (
    "{path} has its labels already; image and label choose columns of a table, members of foreign shards and fields of "
    "a .beton file"
)
_NOT_THERE: Final = {
    "image": _CHOICE,
    "label": _CHOICE,
    "images": "images is for COCO's annotations, and {path} is none",
    "masks": "masks is for COCO's and Pascal VOC's annotations, and {path} is none; a folder of masks is named with "
    "mask_folder (--mask-folder)",
    "mask_folder": "mask_folder is for a folder of images, and {path} is none",
}

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def open_source(
    paths: Paths,
    *,
    image: str | None = None,
    label: str | None = None,
    images: str | os.PathLike[str] | None = None,
    masks: bool = False,
    mask_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Source:
    """Opens what convert is to read.

    Args:
        paths: A folder, a file or a pattern (``shards-{0000..0099}.tar``, ``*.csv``), or several of these, which
            become one source in their order; neighbouring tars are one, and neighbouring Parquet files. URLs of all of
            these are taken too, of folders where the server lists them.
        image, label: Column, member or field with the image and with the label, where a source has a choice.
        images: The folder of images, for a file of COCO's.
        masks: Whether to make masks as well, of COCO's polygons or Pascal VOC's SegmentationClass.
        mask_folder: The folder of masks, for a folder of images.
        progress: Called with (done, total) bytes while a large file of annotations is read.

    Raises:
        DataError: There is nothing at a path that convert reads.
        ConfigError: An option was given that a source does not have.
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
    options = {"image": image, "label": label, "images": images, "masks": masks or None, "mask_folder": mask_folder}
    given = {name: value for name, value in options.items() if value is not None}
    sources = [_open(kind, found, given, progress) for kind, found in groups]
    return sources[0] if len(sources) == 1 else MergedSource(sources)


def given_paths(paths: Paths) -> list[str]:
    """One path or several as a list."""
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def _kind(path: str) -> tuple[str, list[str]]:
    """What lies at a path, and the files that this means."""
    if is_url(path):
        return _kind_behind(path)
    if os.path.isdir(path):
        if os.path.lexists(os.path.join(path, MANIFEST_NAME)):
            return _STORED, [path]
        if find_voc(path, Places()) is not None:
            return _VOC, [path]
        if is_pair_folder(path):
            return _PAIRS, [path]
        for suffix in _SHARDED:
            if _only_holds(path, suffix):
                return suffix, _refuse_splits(path, expand(path, suffix))
        return _FOLDER, [path]
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".beton":
        return _STORED, [path]
    if suffix in (*_SHARDED, *_TABLES, _COCO):
        return suffix, [path]
    if find_voc(path, Places()) is not None:
        return _VOC, [path]
    raise DataError(
        "expected a folder of class folders with images, a list of files (.csv, .tsv, .jsonl), tar shards (.tar), "
        "Parquet files, COCO's .json, a list of Pascal VOC's, a data set of fastload or a .beton file; this is none of "
        "them",
        path=path,
    )


def _kind_behind(url: str) -> tuple[str, list[str]]:
    """The same of a URL."""
    suffix = ending(url)
    if suffix == ".beton":
        return _STORED, [url]
    if suffix in (*_SHARDED, *_TABLES, _COCO):
        return suffix, [url]
    places = Places()
    if suffix == ".txt" and find_voc(url, places) is not None:
        return _VOC, [url]
    try:
        places.size(join(url, MANIFEST_NAME))
        return _STORED, [url]
    except Refused:
        names = places.top(url)
    if are_voc_folders(names):
        return _VOC, [url]
    for suffix in _SHARDED:
        files = [name for name in names if name.endswith(suffix)]
        if files and not any(name.endswith("/") for name in names):
            return suffix, _refuse_splits(url, [join(url, name) for name in files])
    return _PAIRS if are_pair_folders(names) else _REMOTE_FOLDER, [url]


def _refuse_splits(folder: str, paths: list[str]) -> list[str]:
    """Gives files of one folder back; a folder with those of several splits is not one data set."""
    found = dict.fromkeys(basename(path).split("-")[0] for path in paths)
    splits = [name for name in found if name.lower() in SPLITS]
    if len(splits) > 1:
        choices = " or ".join(within(folder, f"{name}-*{ending(paths[0])}") for name in splits)
        raise DataError(f"expected one split, but found {', '.join(splits)}; choose one: {choices}", path=shown(folder))
    return paths


def _only_holds(folder: str, suffix: str) -> bool:
    """Whether a folder has files of this suffix, and no folders that could be classes."""
    try:
        with os.scandir(folder) as entries:
            names = [(entry.is_dir(), entry.name) for entry in entries]
    except OSError:  # the image folder says what is wrong
        return False
    return not any(is_dir for is_dir, _ in names) and any(name.endswith(suffix) for _, name in names)


def _open(kind: str, paths: list[str], given: Mapping[str, Any], progress: Progress | None) -> Source:
    path = paths[0]
    if kind in _SHARDED:
        return _SHARDED[kind](paths, **_take(given, path, "image", "label"))
    if kind in _TABLES:
        return TableSource(path, **_take(given, path, "image", "label"))
    if kind == _COCO:
        return CocoSource(path, progress=progress, **_take(given, path, "images", "masks"))
    if kind == _VOC:
        return VocSource(path, **_take(given, path, "masks"))
    if kind == _STORED:
        return DatasetSource(path, **_take(given, path, *(("image", "label") if ending(path) == ".beton" else ())))
    folder = _take(given, path, "mask_folder").get("mask_folder")
    if folder is not None or kind == _PAIRS:
        return MaskPairSource(path, folder)
    if kind == _REMOTE_FOLDER:
        return RemoteFolderSource(path)
    labels = find_validation_labels(path)
    return ImageFolderSource(path) if labels is None else ImageNetValSource(path, labels)


def _take(given: Mapping[str, Any], path: str, *names: str) -> dict[str, Any]:
    """The options that a source has of those that were given; ConfigError if there are others."""
    for name in sorted(given.keys() - set(names)):
        raise ConfigError(_NOT_THERE[name].format(path=path))
    return dict(given)
