"""ImageNet's validation images as they are distributed: a flat folder, and the labels in a file beside it."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.reading import read_file
from fastload.errors import DataError
from fastload.sources.image_folder import ImageFolderSource

_SYNSETS: Final = "imagenet_2012_validation_synset_labels.txt"
_SOLUTION: Final = "LOC_val_solution.csv"
_MAPPING: Final = "LOC_synset_mapping.txt"
_IMAGE: Final = re.compile(r"ILSVRC2012_val_\d+\.[^.]+")
_WNID: Final = re.compile(r"n\d{8}")
_LARGEST_TABLE: Final = 64 << 20  # bytes; Kaggle's has 2 MB
_LEVELS_UP: Final = 4  # from Kaggle's ILSVRC/Data/CLS-LOC/val to what holds ILSVRC and the tables


class ImageNetValSource(ImageFolderSource):
    """Images ``ILSVRC2012_val_*`` of one folder, with the classes of a file of labels.

    The file is ``imagenet_2012_validation_synset_labels.txt`` in the folder or beside it (one wnid per line, in the
    order of the files), or Kaggle's ``LOC_val_solution.csv`` in it or up to four levels above. Classes are numbered as
    the folders of the sibling ``train`` sorted, else as the wnids of ``LOC_synset_mapping.txt`` (next to the solution
    or in the same places) sorted, else as those of the labels sorted.

    Args:
        path: The folder of images.
        labels: The file of labels.

    Raises:
        DataError: Images and labels do not belong together, or a label is no class of the training split.
    """

    kind = "ImageNet validation folder"

    def __init__(self, path: str | os.PathLike[str], labels: str) -> None:
        super().__init__(path)
        names = list(self._listing.names)
        kaggle = os.path.basename(labels) == _SOLUTION
        wnids = _from_solution(labels, names, self.path) if kaggle else _from_lines(labels, names)
        self.classes, where = _classes(self.path, wnids)
        number_of = {wnid: number for number, wnid in enumerate(self.classes)}
        unknown = sorted(set(wnids) - number_of.keys())
        if unknown:
            raise DataError(
                f"its class {unknown[0]} is none of the {len(self.classes)} classes of {where}", path=labels
            )
        self._labels = np.fromiter((number_of[wnid] for wnid in wnids), np.int32, len(wnids))

    def labels(self) -> NDArray[np.int32]:
        return self._labels


def find_validation_labels(path: str) -> str | None:
    """The file with the labels of a flat folder of ImageNet's validation images; None where it is not such a folder.

    Raises:
        DataError: The folder cannot be listed.
    """
    folders, files = _scan(path)
    if folders or not any(_IMAGE.fullmatch(name) for name in files):
        return None
    return _find(_SYNSETS, path, 1) or _find(_SOLUTION, path, _LEVELS_UP)


def _find(name: str, path: str, levels_up: int) -> str | None:
    """The nearest file of this name in the folder or above it."""
    folder = os.path.abspath(path)
    for _ in range(levels_up + 1):
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
        folder = os.path.dirname(folder)
    return None


def _classes(path: str, wnids: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Names of the classes in label order, and what they come from."""
    train = os.path.join(os.path.dirname(os.path.abspath(path)), "train")
    if os.path.isdir(train) and (folders := _scan(train)[0]):
        return tuple(sorted(folders)), train
    mapping = _find(_MAPPING, path, _LEVELS_UP)
    if mapping is None:
        return tuple(sorted(set(wnids))), "its labels"
    known = [_wnid(line, mapping, number) for number, line in enumerate(_lines(mapping), 1)]
    _refuse_twice(known, "class", mapping)
    return tuple(sorted(known)), mapping


def _from_lines(path: str, names: Sequence[str]) -> list[str]:
    """The wnid of each image from a file with one in each line, in the order of the images."""
    wnids = [_wnid(line, path, number) for number, line in enumerate(_lines(path), 1)]
    if len(wnids) != len(names):
        raise DataError(
            f"expected one line for each of the {len(names):,} images, but it has {len(wnids):,}; restore the folder, "
            "or take this file away to convert the images without labels",
            path=path,
        )
    return wnids


def _from_solution(path: str, names: Sequence[str], folder: str) -> list[str]:
    """The wnid of each image from Kaggle's table: ImageId, and boxes that each begin with a wnid."""
    try:
        header, *rows = csv.reader(io.StringIO("\n".join(_lines(path))), strict=True)
    except csv.Error as error:
        raise DataError(f"expected a table of comma-separated values: {error}; restore the file", path=path) from error
    if header != ["ImageId", "PredictionString"]:
        raise DataError(f"expected the columns ImageId,PredictionString, not {','.join(header)[:60]!r}", path=path)
    wnid_of: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != 2:
            raise DataError(f"line {number} has {len(row)} columns in place of 2; restore the file", path=path)
        wnid_of[row[0]] = _wnid(row[1], path, number)
    _refuse_twice([row[0] for row in rows], "image", path)
    images = [os.path.splitext(name)[0] for name in names]
    _refuse_twice(images, "image", folder)
    missing, unknown = sorted(wnid_of.keys() - set(images)), sorted(set(images) - wnid_of.keys())
    if missing or unknown:
        what = (
            f"holds {len(unknown):,} images without a line ({unknown[0]})"
            if unknown
            else (f"lacks {len(missing):,} of its {len(wnid_of):,} images ({missing[0]})")
        )
        raise DataError(f"the folder {what}; restore the folder or this file", path=path)
    return [wnid_of[image] for image in images]


def _lines(path: str) -> list[str]:
    """The lines of a small text file, without empty ones at its end."""
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path=path) from error
    if not 0 < size <= _LARGEST_TABLE:
        raise DataError(f"expected a file of labels of at most 64 MiB, but it has {size:,} bytes", path=path)
    try:
        text = read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"expected a text file, but byte {error.start:,} is no UTF-8; restore it", path=path) from error
    lines = text.rstrip().splitlines()
    if not lines:
        raise DataError("expected labels, but the file is blank; restore it", path=path)
    return lines


def _wnid(text: str, path: str, line: int) -> str:
    """The wnid that a line or a cell begins with."""
    first = text[:200].split()[:1]
    if not first or not _WNID.fullmatch(first[0]):
        raise DataError(f"line {line} must begin with a wnid such as n01440764, not {text[:60]!r}", path=path)
    return first[0]


def _refuse_twice(names: Sequence[str], what: str, path: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"the {what} {name} is there twice; remove one", path=path)
        seen.add(name)


def _scan(path: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of all else in a folder."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                (folders if os.path.isdir(entry.path) else files).append(entry.name)
    except OSError as error:
        raise DataError(f"the folder cannot be listed: {error.strerror}; check the path", path=path) from error
    return folders, files
