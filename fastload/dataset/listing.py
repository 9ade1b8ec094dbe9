"""Finds the images of a folder and numbers their classes, in the order of torchvision.datasets.ImageFolder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError

# torchvision.datasets.folder.IMG_EXTENSIONS
IMAGE_EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

SPLITS: Final = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})


class PackedNames:
    """Many strings in two arrays: a million paths take 40 MB in place of 150."""

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(name) for name in encoded], out=self._offsets[1:])
        self._data = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> str:
        return os.fsdecode(self.encoded(number))

    def encoded(self, number: int) -> bytes:
        """One of them as the system takes it."""
        return self._data[int(self._offsets[number]) : int(self._offsets[number + 1])]

    def digest(self) -> str:
        """Hex digest of all of them, in their order."""
        return hashlib.sha256(self._offsets.tobytes() + self._data).hexdigest()

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))


def printable(text: str) -> str:
    """A name as text: bytes of a file's name that are no UTF-8 appear as ``\\xff``, so do JSON's halves of pairs."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
    return data.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images below a folder.

    Attributes:
        root: The folder.
        classes: Names of the class folders in label order; empty for a folder without any.
        names: Path of each image relative to root.
        labels: Class number of each image, -1 in a folder without classes.
        runs: How many images each directory holds, in order; the sum is len(names).
        stray: Images that lie beside the class folders and therefore have no class; not in names.
    """

    root: str
    classes: tuple[str, ...]
    names: PackedNames
    labels: NDArray[np.int32]
    runs: NDArray[np.int64]
    stray: tuple[str, ...]


def list_images(root: str) -> Listing:
    """Lists a folder of class folders, or a flat folder of images without classes.

    Class folders are numbered in sorted order, empty ones included; within a class, directories and then files are
    sorted. Links to folders are followed; one that leads back to a folder above it is not.

    Raises:
        DataError: The folder is missing or cannot be read, has no images, or is the root of several splits.
    """
    folders, files = _scan(root)
    classes = tuple(folders)
    if not classes:
        if not files:
            raise DataError(_nothing_found(root), path=root)
        return Listing(
            root=root,
            classes=(),
            names=PackedNames(files),
            labels=np.full(len(files), -1, np.int32),
            runs=np.array([len(files)], np.int64),
            stray=(),
        )
    _refuse_splits(root, classes)
    names: list[str] = []
    labels: list[int] = []
    runs: list[int] = []
    for label, name in enumerate(classes):
        for found in _walk(root, name):
            names += found
            labels += [label] * len(found)
            runs.append(len(found))
    if not names:
        raise DataError(_nothing_found(root), path=root)
    return Listing(
        root=root,
        classes=classes,
        names=PackedNames(names),
        labels=np.array(labels, np.int32),
        runs=np.array(runs, np.int64),
        stray=tuple(files),
    )


def _nothing_found(root: str) -> str:
    extensions = ", ".join(extension[1:] for extension in IMAGE_EXTENSIONS)
    return f"expected images ({extensions}) in {os.path.basename(root) or root} or in its class folders, found none"


def _refuse_splits(root: str, classes: tuple[str, ...]) -> None:
    """ImageNet's root is not a data set of the classes "train" and "val"."""
    if not all(name.lower() in SPLITS for name in classes):
        return
    for name in classes:
        if _scan(os.path.join(root, name))[0]:
            choices = " or ".join(os.path.join(root, each) for each in classes)
            raise DataError(
                f"expected class folders, but found the splits {', '.join(classes)}; choose one of them: {choices}",
                path=root,
            )


def _walk(root: str, top: str) -> list[list[str]]:
    """Image paths (relative to root) of each directory at or below root/top that has any, in sorted order."""
    found: list[tuple[str, list[str]]] = []
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while pending:
        directory, above = pending.pop()
        status = os.stat(os.path.join(root, directory))
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # a link that leads back to where we came from
            continue
        folders, files = _scan(os.path.join(root, directory))
        if files:
            found.append((directory, [os.path.join(directory, name) for name in files]))
        pending += [(os.path.join(directory, name), above | {identity}) for name in folders]
    return [files for _, files in sorted(found)]


def _scan(directory: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the images in one directory, each sorted."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if _is_folder(entry):
                    folders.append(entry.name)
                elif entry.name.lower().endswith(IMAGE_EXTENSIONS):
                    files.append(entry.name)
    except OSError as error:
        advice = "check the path" if isinstance(error, FileNotFoundError) else "its images would be missing"
        raise DataError(f"the folder cannot be listed: {error.strerror}; {advice}", path=directory) from error
    return sorted(folders), sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
