"""A plain folder of images as a data set: classes as torchvision numbers them, nothing converted."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Dataset, Sample
from fastload.dataset.image_size import image_size
from fastload.dataset.listing import Listing, list_images
from fastload.dataset.reading import open_regular, read_range, stamp_of
from fastload.dataset.reads import ReadPlan, Reads, pack_paths
from fastload.dataset.seek import NO_INDEX
from fastload.errors import DataError

if TYPE_CHECKING:
    from fastload.dataset.seek_notes import SeekNotes


class ImageFolderDataset(Dataset):
    """Images in class folders (``FOLDER/<class>/**.jpg``), or in one folder without classes, where labels are -1.

    Samples and classes have the numbers that torchvision.datasets.ImageFolder gives them. Sizes are read from the
    files when they are first asked for, and kept. While an engine reads from it, seek indexes are noted in the user's
    cache (see seek_notes.py; FASTLOAD_SEEK_CACHE_GB=0 switches that off) and used from then on, in later runs too.

    Args:
        path: The folder.

    Raises:
        DataError: The folder is missing, holds no images, or holds the splits of a data set and not its classes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._listing: Listing = list_images(self.path)
        self.classes = self._listing.classes
        self.schema = {"image": "image", "label": "label"} if self.classes else {"image": "image"}
        self._sizes = np.full((len(self), 2), -1, np.int32)
        self._num_bytes = np.full(len(self), -1, np.int64)
        self._stamps = np.zeros(len(self), np.int64)
        self._notes: SeekNotes | None = None
        self._lock = threading.Lock()

    @functools.cached_property
    def fingerprint(self) -> str:  # type: ignore[override]  # computed when first asked for: it looks at every file
        """Digest of the names of the classes and of the path and size of each image.

        A file that is replaced by another of equal size goes unnoticed: reading a million files to open a folder would
        be worse. A converted data set has checksums.
        """
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        sizes = self.num_bytes(np.arange(len(self)))
        digest.update(sizes.astype("<i8").tobytes())
        for name in self._listing.names:
            digest.update(os.fsencode(name) + b"\0")
        return digest.hexdigest()

    @property
    def stray(self) -> tuple[str, ...]:
        """Images that lie beside the class folders and so belong to no class; they are not samples."""
        return self._listing.stray

    def __len__(self) -> int:
        return len(self._listing.names)

    def labels(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._listing.labels[self._checked(ids)].astype(np.int64)

    def sizes(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        ids = self._checked(ids)
        for number in np.unique(ids[self._sizes[ids, 0] < 0]):
            self._sizes[number] = image_size(self.location(number))
        sizes: NDArray[np.int32] = self._sizes[ids]
        return sizes

    def num_bytes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = self._checked(ids)
        for number in np.unique(ids[self._num_bytes[ids] < 0]):
            self._stamps[number], self._num_bytes[number] = _look_at(self.location(number))
        num_bytes: NDArray[np.int64] = self._num_bytes[ids]
        return num_bytes

    def extents(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        ids = self._checked(ids)
        return ids.astype(np.int64), np.zeros(ids.shape, np.int64), self.num_bytes(ids)

    def file_path(self, file_index: int) -> str:
        return self.location(file_index)

    def read_into(self, sample_id: int, buffer: NDArray[np.uint8]) -> int:
        view = memoryview(buffer.data).cast("B")
        path = self.location(sample_id)
        try:
            descriptor, size = open_regular(path)
        except DataError as error:
            raise DataError(error.reason, path=path, key=self.key(sample_id)) from error
        try:
            if size == 0:
                raise DataError("expected an image, but the file is empty", path=path, key=self.key(sample_id))
            if size > len(view):
                raise DataError(
                    f"the image has {size:,} bytes and does not fit into a buffer of {len(view):,}",
                    path=path,
                    key=self.key(sample_id),
                )
            done = read_range(descriptor, view[:size], 0)
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}", path=path, key=self.key(sample_id)) from error
        finally:
            os.close(descriptor)
        if done != size:
            raise DataError(
                f"expected {size:,} bytes, but the file ended after {done:,}; somebody writes to it",
                path=path,
                key=self.key(sample_id),
            )
        return size

    def plan_reads(self, ids: NDArray[np.int64]) -> ReadPlan:
        ids = self._checked(ids)
        count = len(ids)
        root = os.fsencode(os.path.join(self.path, ""))  # joined by hand: 0.5 us an image in place of 1.7
        path, packed = pack_paths([root + self._listing.names.encoded(number) for number in ids.tolist()])
        none, zeros = np.full(count, -1, np.int64), np.zeros(count, np.int64)
        sizes = self.num_bytes(ids)
        seek, memory = self._opened_notes().locate(ids, self._stamps[ids])
        reads = Reads(
            descriptor=none,
            path=path,
            paths=packed,
            offset=zeros,
            size=sizes,
            crc32=self._stamps[ids],  # what an index in the cache is tied to; bytes are not compared with it
            check=np.zeros(count, np.uint8),
            seek=seek,
            raw=np.zeros((count, 2), np.int64),
        )
        return ReadPlan(reads, memory)

    def seek_index(self, sample_id: int) -> NDArray[np.uint8]:
        number = self._number(sample_id)
        self.num_bytes(np.array([number]))
        return NO_INDEX if self._notes is None else self._notes.index(number, int(self._stamps[number]))

    def tend(self, *, busy: bool) -> bool:
        return self._notes is not None and self._notes.tend(busy=busy)

    def _opened_notes(self) -> SeekNotes:
        from fastload.dataset.seek_notes import SeekNotes  # numba takes half a second to import

        with self._lock:
            if self._notes is None:
                self._notes = SeekNotes(self.path, self._listing.names.digest(), len(self), self.location)
            return self._notes

    def key(self, sample_id: int) -> str:
        return self._listing.names[self._number(sample_id)]

    def location(self, sample_id: int) -> str:
        return os.path.join(self.path, self.key(sample_id))

    def __getitem__(self, sample_id: int) -> Sample:
        number = self._number(sample_id)
        image = bytearray(max(int(self.num_bytes(np.array([number]))[0]), 1))
        size = self.read_into(number, np.frombuffer(image, np.uint8))
        return Sample(
            id=number,
            key=self.key(number),
            image=bytes(image[:size]),
            label=int(self._listing.labels[number]),
            extras={},
        )

    def shard_sizes(self) -> NDArray[np.int64]:
        runs: NDArray[np.int64] = self._listing.runs.copy()
        return runs

    def close(self) -> None:
        """Writes the seek indexes that were noted. Safe to call twice."""
        with self._lock:
            if self._notes is not None:
                self._notes.close()
                self._notes = None

    def __reduce__(self) -> tuple[object, ...]:
        return (ImageFolderDataset, (self.path,))

    def _number(self, sample_id: int) -> int:
        number = int(sample_id)
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of a data set of {len(self)}")
        return number

    def _checked(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = np.asarray(ids, np.int64)
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(self):
            raise IndexError(f"samples {ids.min()} .. {ids.max()} of a data set of {len(self)}")
        return ids


def _look_at(path: str) -> tuple[int, int]:
    """Stamp and size of a file."""
    try:
        status = os.stat(path)
    except OSError:  # read_into says what is wrong with it
        return 0, 0
    return stamp_of(status), status.st_size
