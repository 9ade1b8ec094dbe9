"""What a source is to convert: numbered entries whose names, labels and sizes are known before any is read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Item:
    """The bytes of one entry.

    Attributes:
        image: The image file as the source holds it, in any format.
        extras: Further members by extension (``{"json": b"..."}``); only extensions that the source announces.
        size: Height and width in pixels for which boxes and keypoints were made; None where nobody said. An image of
            another size is no sample.
    """

    image: bytes
    extras: Mapping[str, bytes] = field(default_factory=dict)
    size: tuple[int, int] | None = None


class Source(ABC):
    """Entries in a deterministic order; columns in place of objects, so that 100 million of them can be planned.

    Implementations are safe to use from several threads at once.

    Attributes:
        kind: What it is, in words: "image folder".
        path: Where it is, for messages.
        classes: Name of each class in label order; empty where there are none.
        extras: Extensions of the further members that some entries have.
        fields: Types of those members, and of keys of the member "json", where they have one (see
            fastload.dataset.fields). Boxes, areas, keypoints and masks become smaller with their image.
        forms: Of members that are more than bytes: "int", "float" (8 bytes, little-endian) or "ndarray <f4 2x3", as
            which a .beton file stores them.
        rejected: Images that the source holds and that cannot become samples: (name, reason); they are accounted for
            as skipped.
        in_order: Whether reading is slow in any order but this one.
    """

    kind: str
    path: str
    classes: tuple[str, ...]
    extras: tuple[str, ...] = ()
    fields: Mapping[str, str] = MappingProxyType({})
    forms: Mapping[str, str] = MappingProxyType({})
    rejected: Sequence[tuple[str, str]] = ()
    in_order: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    def labels(self) -> NDArray[np.int32]:
        """Class number of each entry, -1 where it has none, as nothing has in a source without classes."""
        return np.full(len(self), -1, np.int32)

    @abstractmethod
    def num_bytes(self) -> NDArray[np.int64]:
        """Size of each entry as the source holds it, all members together; 0 where it cannot be told."""

    @abstractmethod
    def name(self, number: int) -> str:
        """By what name a user finds an entry in the source: a path relative to it, as a rule."""

    @abstractmethod
    def read(self, number: int) -> Item:
        """The bytes of one entry.

        Raises:
            DataError: It cannot be read; the reason goes into the ledger.
        """

    def digest(self) -> str:
        """Hex digest of classes, names, labels and sizes: whether this is the source that it was."""
        digest = hashlib.sha256("\0".join([self.kind, *self.classes, *self.extras]).encode("utf-8", "surrogateescape"))
        digest.update(self.labels().astype("<i4").tobytes())
        digest.update(self.num_bytes().astype("<i8").tobytes())
        for number in range(len(self)):
            digest.update(self.name(number).encode("utf-8", "surrogateescape") + b"\0")
        for name, _ in self.rejected:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()
