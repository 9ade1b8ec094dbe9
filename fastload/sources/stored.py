"""A data set that is one already (converted shards, a .beton file) as a source of convert."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Dataset
from fastload.dataset.beton import BetonDataset
from fastload.dataset.fields import MEMBER_TYPES
from fastload.dataset.remote import RemoteShardedDataset
from fastload.dataset.remote_beton import RemoteBetonDataset
from fastload.dataset.sharded import ShardedDataset
from fastload.errors import DataError
from fastload.remote import is_url
from fastload.sources.base import Item, Source
from fastload.sources.columns import member_endings
from fastload.sources.places import ending

_MOST_CLASSES = 1_000_000
_PIECE = 2048


class DatasetSource(Source):
    """The samples of a data set in its order, their bytes compared with their checksums where it has them.

    Samples keep their bytes, labels, further members and the name of where they came from first. What a .beton file
    stores raw arrives as pixels (a PPM file) and is encoded anew in shards.

    Args:
        path: A folder with dataset.json, a .beton file, or the URL of either.
        image, label: Fields of a .beton file (see BetonDataset); ``label="none"`` takes no labels.

    Raises:
        DataError: It is damaged, or its labels are no class numbers.
        ConfigError: There is no such field, or a choice is needed among several.
    """

    def __init__(self, path: str | os.PathLike[str], *, image: str | None = None, label: str | None = None) -> None:
        self.path = os.fspath(path)
        self._dataset: Dataset
        remote, field = is_url(self.path), None if label == "none" else label
        if ending(self.path) == ".beton":
            self.kind = "beton"
            kind = RemoteBetonDataset if remote else BetonDataset
            beton = kind(self.path, image=image, label=field)
            extras, self._dataset = list(beton.extra_names), beton
        else:
            self.kind = "data set"
            opened = RemoteShardedDataset if remote else ShardedDataset
            shards = opened(self.path, verify="always")
            extras, self._dataset = list(shards.manifest.extras), shards
        self.path = self._dataset.path
        self._expectation = self._dataset.expect(_in_order(len(self._dataset)))
        ids = np.arange(len(self._dataset))
        labels = np.full(len(ids), -1, np.int64) if label == "none" else self._dataset.labels(ids)
        if labels.size and not -1 <= labels.min() <= labels.max() < _MOST_CLASSES:
            raise DataError(
                f"its labels reach from {labels.min()} to {labels.max()}, which are no numbers of classes; choose "
                "another field with label=NAME (--label NAME), or none with label='none'",
                path=self.path,
            )
        self._labels = labels.astype(np.int32)
        self.classes = () if label == "none" else self._dataset.classes
        if not self.classes:
            self.classes = tuple(map(str, range(int(labels.max(initial=-1)) + 1)))
        self._endings = member_endings(extras, self.path)
        forms = self._dataset.extra_forms if isinstance(self._dataset, BetonDataset) else {}
        self.forms = {
            self._endings[name]: form for name, form in forms.items() if form.startswith(("int", "float", "ndarray"))
        }
        self.extras = tuple(self._endings.values())
        self.fields = {
            self._endings.get(name, name): kind for name, kind in self._dataset.schema.items() if kind in MEMBER_TYPES
        }

    def __len__(self) -> int:
        return len(self._dataset)

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def num_bytes(self) -> NDArray[np.int64]:
        ids = np.arange(len(self))
        further = self._dataset.extra_bytes(ids) if isinstance(self._dataset, ShardedDataset) else 0
        num_bytes: NDArray[np.int64] = self._dataset.num_bytes(ids) + further
        return num_bytes

    def name(self, number: int) -> str:
        dataset = self._dataset
        return dataset.source(number) if isinstance(dataset, ShardedDataset) else dataset.key(number)

    def read(self, number: int) -> Item:
        sample = self._dataset[number]
        extras = {self._endings[name]: data for name, data in sample.extras.items()}
        # A .beton file holds no bytes where a sample has no mask.
        return Item(
            image=sample.image,
            extras={name: data for name, data in extras.items() if data or self.fields.get(name) != "mask"},
        )

    def digest(self) -> str:
        return hashlib.sha256(f"{super().digest()} {self._dataset.fingerprint}".encode()).hexdigest()


def _in_order(count: int) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, count, _PIECE):
        yield np.arange(begin, min(begin + _PIECE, count))
