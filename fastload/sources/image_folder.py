"""A folder of class folders (or of images alone) as a source of convert."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.listing import list_images
from fastload.dataset.reading import read_file
from fastload.sources.base import Item, Source
from fastload.sources.places import size_of


class ImageFolderSource(Source):
    """Images below a folder, classes and order as torchvision.datasets.ImageFolder has them.

    Args:
        path: The folder.

    Raises:
        DataError: The folder is missing or unreadable, holds no images, or holds splits in place of classes.
    """

    kind = "image folder"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._listing = list_images(self.path)
        self.classes = self._listing.classes
        self.rejected = [(name, "it lies beside the class folders and has no class") for name in self._listing.stray]
        self._num_bytes = np.fromiter((size_of(self._path(number)) for number in range(len(self))), np.int64, len(self))

    def __len__(self) -> int:
        return len(self._listing.names)

    def labels(self) -> NDArray[np.int32]:
        return self._listing.labels

    def num_bytes(self) -> NDArray[np.int64]:
        return self._num_bytes

    def name(self, number: int) -> str:
        return self._listing.names[number]

    def read(self, number: int) -> Item:
        return Item(image=read_file(self._path(number)))

    def _path(self, number: int) -> str:
        return os.path.join(self.path, self._listing.names[number])
