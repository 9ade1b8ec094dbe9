"""What a data set is to the rest of fastload: numbered samples, their sizes, labels and bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.fields import decode_fields
from fastload.dataset.reads import ReadPlan
from fastload.errors import DataError

_NO_INDEX = np.zeros(0, np.uint8)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample as it is stored.

    Attributes:
        id: Number of the sample in its data set, 0 <= id < len(dataset).
        key: Name of the sample, unique in its data set.
        image: Bytes of the image file.
        label: Class number, or -1 where there is none.
        extras: The sample's other members by extension, bytes as stored (``{"json": b"..."}``).
        types: Type of each field, as in the schema of the data set.
    """

    id: int
    key: str
    image: bytes
    label: int
    extras: Mapping[str, bytes]
    types: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def fields(self) -> Mapping[str, Any]:
        """What ``extras`` hold, decoded by type: ``fields["boxes"]`` is float32 (n, 4), ``fields["mask.png"]`` uint8.

        Types and arrays are listed in fastload.dataset.fields; a member without a type is bytes, as in ``extras``.

        Raises:
            DataError: A member is not what its type says.
        """
        try:
            return decode_fields(self.extras, self.types)
        except DataError as error:
            raise DataError(error.reason, key=self.key) from error


class Expectation:
    """That samples will be read in an order that is known; it holds until it is closed or nobody holds it."""

    def close(self) -> None:
        """Ends it, and whatever is waited for because of it. Safe to call twice, at any moment, in any thread."""


class Dataset(ABC):
    """Numbered image samples on a disk. Implementations are safe to use from several threads at once.

    Attributes:
        path: Where the data set is.
        classes: Name of each class, in label order; empty where it has none.
        schema: Type of each field, as in dataset.json: ``{"image": "image", "label": "label"}``.
        fingerprint: Hex digest that changes whenever samples, their order or their bytes change.
        proven: Whether every image was decoded when the data set was made, and its bytes have checksums since.
    """

    path: str
    classes: tuple[str, ...]
    schema: Mapping[str, str]
    fingerprint: str
    proven: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def labels(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class numbers of samples ``ids``; -1 where a sample has none. Shape as ids."""

    @abstractmethod
    def sizes(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Height and width in pixels, shape (n, 2); (0, 0) for a sample whose header cannot be read."""

    @abstractmethod
    def num_bytes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Size of each image file in bytes, shape as ids."""

    @abstractmethod
    def extents(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Where the bytes of each image lie: number of the file, offset and size in bytes, each of the shape of ids.

        For planning reads that stay local and for engines that read by themselves. Offset and size lie inside the
        file as it was when the data set was opened. Where ``is_raw`` says so they are those of bare pixels.
        """

    def is_raw(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether what lies at the extents of each sample are bare pixels in place of an image file, shape as ids.

        That is RGB, height x width x 3 bytes (see ``sizes``), row by row from the top: an engine may read only the rows
        that it needs. ``read_into`` gives an image file in any case.
        """
        return np.zeros(np.shape(ids), np.bool_)

    @abstractmethod
    def file_path(self, file_index: int) -> str:
        """Path of a file that ``extents`` names."""

    @abstractmethod
    def read_into(self, sample_id: int, buffer: NDArray[np.uint8]) -> int:
        """Reads the image file of one sample to the start of ``buffer`` and returns its size in bytes.

        Releases the interpreter's lock while it waits for the disk. The bytes are checked against the index's crc32
        the first time that this object reads them, or always, or never, as ``verify`` says.

        Raises:
            DataError: The file is missing, shorter than the index says, does not match its checksum, or does not fit
                into ``buffer``; with the sample's key and path.
        """

    def read_rows(self, sample_id: int, first: int, count: int, buffer: NDArray[np.uint8]) -> None:
        """Reads rows of pixels, ``first`` to ``first + count``, of a sample that ``is_raw`` to the start of ``buffer``.

        Raises:
            DataError: The file is shorter than it was, or does not have these rows.
            ValueError: The sample is an image file.
        """
        raise ValueError(f"sample {sample_id} of {self.path} is an image file: read_into reads it")

    def seek_index(self, sample_id: int) -> NDArray[np.uint8]:
        """The seek index of a sample's JPEG (see fastload.jpeg), uint8; empty where there is none."""
        return _NO_INDEX

    def plan_reads(self, ids: NDArray[np.int64]) -> ReadPlan | None:
        """Where an engine's kernel may read samples ``ids`` by itself, in place of ``read_into``; None if nowhere.

        Opens files where that is needed. Descriptors and addresses are good until the data set is closed.
        """
        return None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A class that reads in a way of its own is asked for every image, unless it says otherwise.
        if "read_into" in vars(cls) and "plan_reads" not in vars(cls):
            cls.plan_reads = Dataset.plan_reads  # type: ignore[method-assign]

    def note_checked(self, ids: NDArray[np.int64]) -> None:  # noqa: B027
        """Takes notice that the bytes of samples ``ids`` were compared with their checksums, and equal."""

    def expect(self, pieces: Iterator[NDArray[np.int64]]) -> Expectation:
        """Takes notice of the order in which samples will be read from now on: ids, piece by piece.

        Storage with a long way to it asks for them beforehand, and takes pieces for as long as the answer is held.
        """
        return Expectation()

    def counts(self) -> dict[str, int]:
        """What reading took, since the data set was opened, by name; for the Loader's statistics."""
        return {}

    def tend(self, *, busy: bool) -> bool:
        """Does one small piece (about a millisecond) of work that makes later reads faster; False if there is none.

        An engine calls it from its threads: once for eight images that were delivered (``busy``), and again and again
        while a thread has nothing else to do. It never raises.
        """
        return False

    @abstractmethod
    def key(self, sample_id: int) -> str:
        """Name of a sample."""

    @abstractmethod
    def location(self, sample_id: int) -> str:
        """Where a sample lies, for messages: ``shards/shard-000003.tar`` or ``photos/cat/1.jpg``."""

    @abstractmethod
    def __getitem__(self, sample_id: int) -> Sample: ...

    def extras(self, sample_id: int) -> Mapping[str, bytes]:
        """The sample's members beside its image, by extension, as ``Sample.extras``; does not read the image."""
        return self[sample_id].extras

    def fields(self, sample_id: int) -> Mapping[str, Any]:
        """What ``extras`` hold, decoded, as ``Sample.fields``; does not read the image.

        Raises:
            DataError: A member cannot be read or is not what its type says.
        """
        try:
            return decode_fields(self.extras(sample_id), self.schema)
        except DataError as error:
            path = error.path or self.location(sample_id)
            raise DataError(error.reason, path=path, key=self.key(sample_id)) from error

    @abstractmethod
    def shard_sizes(self) -> NDArray[np.int64]:
        """Samples in each run of neighbouring storage, in order; the sum is len(self). For reads that stay local."""

    @abstractmethod
    def close(self) -> None:
        """Closes every file. Safe to call twice."""

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()
