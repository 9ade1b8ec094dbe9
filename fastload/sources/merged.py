"""Several sources as one, one behind the other, with the classes of all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fastload.errors import ConfigError
from fastload.sources.base import Item, Source


class MergedSource(Source):
    """The entries of several sources; classes of the same name are one.

    The classes of the first source keep their numbers; those that later sources add follow in their order. A name that
    one source has for several classes (ImageNet has two cranes) stands for as many.

    Args:
        sources: At least one.

    Raises:
        ConfigError: The same field has several types, or boxes have classes of other numbers.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self.kind = " + ".join(source.kind for source in sources)
        self.path = ""  # the names of entries begin with the paths of their sources
        numbers: dict[tuple[str, int], int] = {}
        tables = []
        for source in sources:
            names = _numbered(source.classes)
            for name in names:
                numbers.setdefault(name, len(numbers))
            tables.append(np.array([*(numbers[name] for name in names), -1], np.int32))  # label -1 takes the last
        self.classes = tuple(name for name, _ in numbers)
        self.fields = self._fields([table[:-1] for table in tables])
        # Only a member that every entry has is stored as more than bytes.
        self.forms = {
            ending: form
            for ending, form in self._sources[0].forms.items()
            if all(source.forms.get(ending) == form for source in sources)
        }
        self.extras = tuple(dict.fromkeys(ending for source in sources for ending in source.extras))
        self.rejected = [(os.path.join(source.path, name), why) for source in sources for name, why in source.rejected]
        self.in_order = any(source.in_order for source in sources)
        self._ends = np.cumsum([len(source) for source in sources])
        self._labels = np.concatenate(
            [table[source.labels()] for table, source in zip(tables, sources, strict=True)], dtype=np.int32
        )

    def _fields(self, tables: Sequence[NDArray[np.int32]]) -> Mapping[str, str]:
        """The types of all, which must agree; those of boxes and masks hold class numbers that stay as they are."""
        fields: dict[str, str] = {}
        for source, table in zip(self._sources, tables, strict=True):
            other = next((name for name, kind in source.fields.items() if fields.get(name, kind) != kind), None)
            if other is not None:
                raise ConfigError(f"{source.path} has a field {other!r} of another type than the sources before it")
            if "labels" in source.fields.values() and not np.array_equal(table, np.arange(len(table))):
                raise ConfigError(
                    f"the classes of the boxes in {source.path} have other numbers than in the sources before it; give "
                    "them the same classes, or convert it alone"
                )
            fields |= source.fields
        return fields

    def __len__(self) -> int:
        return int(self._ends[-1])

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def num_bytes(self) -> NDArray[np.int64]:
        return np.concatenate([source.num_bytes() for source in self._sources])

    def name(self, number: int) -> str:
        source, inner = self._find(number)
        return os.path.join(source.path, source.name(inner))

    def read(self, number: int) -> Item:
        source, inner = self._find(number)
        return source.read(inner)

    def digest(self) -> str:
        parts = "\0".join([self.kind, *(source.digest() for source in self._sources)])
        return hashlib.sha256(parts.encode()).hexdigest()

    def _find(self, number: int) -> tuple[Source, int]:
        which = int(np.searchsorted(self._ends, number, side="right"))
        source = self._sources[which]
        return source, number - int(self._ends[which]) + len(source)


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Each name with how often it has come before."""
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        numbered.append((name, seen.get(name, 0)))
        seen[name] = seen.get(name, 0) + 1
    return numbered
