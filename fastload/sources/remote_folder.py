"""A folder of class folders (or of images alone) behind a URL that can be listed, as a source of convert."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.listing import IMAGE_EXTENSIONS, SPLITS, PackedNames
from fastload.errors import DataError
from fastload.remote import join, shown
from fastload.sources.base import Item, Source
from fastload.sources.places import FILES_AHEAD, Places


class RemoteFolderSource(Source):
    """Images below a folder; classes and order as those of ImageFolderSource, but that empty folders are not seen.

    Args:
        url: The folder: in a bucket, or wherever else fsspec can list one.

    Raises:
        DataError: It cannot be listed, holds no images, or holds splits in place of classes.
    """

    kind = "image folder"

    def __init__(self, url: str) -> None:
        self.path = shown(url)
        self._url = url
        self._places = Places()
        found = {
            name: size for name, size in self._places.below(url).items() if name.lower().endswith(IMAGE_EXTENSIONS)
        }
        if not found:
            raise DataError("expected images in it or in its class folders, found none", path=self.path)
        self.classes = tuple(sorted({name.split("/")[0] for name in found if "/" in name}))
        if self.classes and all(name.lower() in SPLITS for name in self.classes):
            choices = " or ".join(f"{self.path}/{name}" for name in self.classes)
            raise DataError(
                f"expected class folders, but found the splits {', '.join(self.classes)}; choose one: {choices}",
                path=self.path,
            )
        # By folder, and in each by name, as a walk through folders comes to them.
        names = sorted(found, key=lambda name: (name.split("/")[0], *name.rpartition("/")[::2]))
        if self.classes:
            self.rejected = [
                (name, "it lies beside the class folders and has no class") for name in names if "/" not in name
            ]
            names = [name for name in names if "/" in name]
        numbers = {name: number for number, name in enumerate(self.classes)}
        self._labels = np.array([numbers.get(name.split("/")[0], -1) for name in names], np.int32)
        self._num_bytes = np.array([found[name] for name in names], np.int64)
        self._names = PackedNames(names)

    def __len__(self) -> int:
        return len(self._names)

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def num_bytes(self) -> NDArray[np.int64]:
        return self._num_bytes

    def name(self, number: int) -> str:
        return self._names[number]

    def read(self, number: int) -> Item:
        following = range(number + 1, min(number + FILES_AHEAD, len(self)))
        return Item(image=self._places.read(self._at(number), map(self._at, following)))

    def _at(self, number: int) -> str:
        return join(self._url, self._names[number])
