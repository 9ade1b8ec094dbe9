"""The checks of an image folder or a .beton file: that all samples can be read and decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.convert.transcode import examine
from fastload.dataset.base import Dataset
from fastload.dataset.beton import BetonDataset
from fastload.dataset.image_folder import ImageFolderDataset
from fastload.dataset.listing import printable
from fastload.dataset.reading import LARGEST_FILE
from fastload.errors import DataError
from fastload.verify.report import Finding, Kind
from fastload.verify.work import Stop, Task, prove, same_seek_index, slices

_OTHER_INDEX: Final = "its seek index is not the one of its image"


class _SeekError(DataError):
    """A seek index that is wrong; its image is not."""


_PIECE: Final = 2048


class PlainCheck:
    """What there is to check.

    Args:
        dataset: The folder or the file, opened.
        stop: Ends the tasks.

    Attributes:
        units: Name, samples and bytes of each directory of a folder, or of the one file.
    """

    def __init__(self, dataset: Dataset, stop: Stop) -> None:
        self._dataset = dataset
        self._stop = stop
        self._is_file = isinstance(dataset, BetonDataset)
        runs = np.array([len(dataset)], np.int64) if self._is_file else dataset.shard_sizes()
        self._bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(runs)])
        self.units = [self._unit(begin, end) for begin, end in pairwise(self._bounds.tolist())]

    def _unit(self, begin: int, end: int) -> tuple[str, int, int]:
        num_bytes = self._dataset.num_bytes(np.arange(begin, end))
        path = self._dataset.path if self._is_file else os.path.dirname(self._dataset.key(begin))
        name = printable(os.path.basename(path) if self._is_file else path)
        return name or ".", end - begin, int(num_bytes.sum())

    def order(self) -> Iterator[NDArray[np.int64]]:
        """The samples in the order in which they are read."""
        for begin in range(0, len(self._dataset), _PIECE):
            yield np.arange(begin, min(begin + _PIECE, len(self._dataset)))

    def tasks(self) -> Iterator[Task]:
        """The seek file of a .beton file, then the images in their order."""
        if isinstance(self._dataset, BetonDataset) and self._dataset.seek.problem:
            name = f"{os.path.basename(self._dataset.path)}.seek"
            finding = Finding(kind="seek", file=name, reason=self._dataset.seek.problem)
            yield Task(unit=0, images=0, num_bytes=0, check=lambda: [finding])
        for unit, (first, last) in enumerate(pairwise(self._bounds.tolist())):
            sizes = np.minimum(self._dataset.num_bytes(np.arange(first, last)), LARGEST_FILE)
            for begin, end, num_bytes in slices(first, last, sizes):
                yield Task(unit=unit, images=end - begin, num_bytes=num_bytes, check=partial(self._images, begin, end))

    def _images(self, begin: int, end: int) -> list[Finding]:
        findings = []
        for number in range(begin, end):
            if self._stop:
                break
            try:
                self._sample(number)
            except DataError as error:
                key = name = printable(self._dataset.key(number))
                if not isinstance(self._dataset, ImageFolderDataset):
                    name = os.path.basename(self._dataset.location(number))
                kind: Kind = "seek" if isinstance(error, _SeekError) else "sample"
                name = f"{name}.seek" if kind == "seek" else name
                findings.append(Finding(kind=kind, file=name, key=key, reason=error.reason, sample=number))
        return findings

    def _sample(self, number: int) -> None:
        dataset = self._dataset
        if isinstance(dataset, ImageFolderDataset):
            examine(dataset[number].image)
            return
        sample = dataset[number]
        if not dataset.is_raw(np.array([number]))[0]:
            height, width = dataset.sizes(np.array([number]))[0].tolist()
            made = prove(sample.image, height, width)
            stored = dataset.seek.stored(number) if isinstance(dataset, BetonDataset) else b""
            if stored != b"" and (stored is None or not same_seek_index(sample.image, stored, made)):
                raise _SeekError("its seek index is damaged" if stored is None else _OTHER_INDEX)
        if not isinstance(dataset, BetonDataset):
            return
        for name, kind in dataset.schema.items():
            if kind == "json":
                dataset.value(number, name)
