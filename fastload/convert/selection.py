"""Which samples of a source are converted: some of its classes, a part of each; pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.convert.plan import permutation
from fastload.dataset.reading import read_file
from fastload.errors import ConfigError, DataError
from fastload.sources.base import Item, Source

_FRACTION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(%?)")


class Selection(Source):
    """Some samples of a source, in its order; its other samples are not counted, what it rejects is.

    Args:
        source: What is selected from.
        part: Where the part of each class begins and ends, as fractions (see ``part_of_classes``); None takes all.
        part_seed: Draws the part.
        classes: Names of the classes that are kept; they are numbered anew, in the order of the source. None keeps
            all, and samples without a class.

    Raises:
        ConfigError: The source has no class of a name, or classes of boxes.
        DataError: Nothing is selected.
    """

    def __init__(
        self, source: Source, *, part: tuple[float, float] | None, part_seed: int, classes: Sequence[str] | None
    ) -> None:
        self._source = source
        self.kind, self.path, self.extras, self.fields = source.kind, source.path, source.extras, source.fields
        self.rejected, self.in_order, self.forms = source.rejected, source.in_order, source.forms
        self.classes = source.classes
        labels = source.labels()
        numbers = np.arange(-1, len(source.classes)).astype(np.int32)  # new numbers of -1, 0, 1 ...
        chosen = np.ones(len(labels), np.bool_)
        if part is not None:
            chosen = part_of_classes(labels, *part, seed=part_seed)
        if classes is not None:
            if "labels" in source.fields.values():
                raise ConfigError(
                    "classes chooses images by their own class, and here boxes have classes: leave it out"
                )
            unknown = [name for name in classes if name not in source.classes]
            if unknown:
                raise ConfigError(f"the source has no class {unknown[0]!r} among its {len(source.classes):,}")
            kept = [name in set(classes) for name in source.classes]
            self.classes = tuple(name for name, keep in zip(source.classes, kept, strict=True) if keep)
            numbers = np.array([-1, *np.where(kept, np.cumsum(kept) - 1, -1)], np.int32)
            chosen &= numbers[labels + 1] >= 0
        self._ids = np.flatnonzero(chosen)
        self._labels = numbers[labels[self._ids] + 1]
        if not len(self._ids):
            raise DataError(
                f"none of the {len(labels):,} samples is selected; choose a larger part, or other classes",
                path=source.path,
            )

    def __len__(self) -> int:
        return len(self._ids)

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def num_bytes(self) -> NDArray[np.int64]:
        return self._source.num_bytes()[self._ids]

    def name(self, number: int) -> str:
        return self._source.name(int(self._ids[number]))

    def read(self, number: int) -> Item:
        return self._source.read(int(self._ids[number]))

    def digest(self) -> str:
        """Of the whole source; the options of the conversion say what is selected."""
        return self._source.digest()


def part_of_classes(labels: NDArray[np.int32], begin: float, end: float, *, seed: int) -> NDArray[np.bool_]:
    """Which samples stand between two fractions of their class, each class shuffled by itself; shape as labels.

    Parts that adjoin (0 to 0.9 and 0.9 to 1) with one seed have no sample in common and leave none out. A class of n
    samples has ``fraction * n`` of them before a fraction, rounded up or down; classes round at points that are spread
    evenly, so that a fraction of all samples is met as well as one of each class.

    Args:
        labels: Class of each sample, -1 for none (a class like the others).
        begin, end: Fractions, 0 <= begin < end <= 1.
        seed: Equal seeds give equal parts.
    """
    count = len(labels)
    num_classes = int(labels.max(initial=-1)) + 2
    shuffled = permutation(count, seed)
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels + 1, minlength=num_classes)
    of_class = labels[grouped] + 1
    place = np.arange(count) - (np.cumsum(sizes) - sizes)[of_class]
    rounding = (np.argsort(permutation(num_classes, seed)) + 0.5) / num_classes
    first, last = (np.floor(fraction * sizes + rounding).astype(np.int64) for fraction in (begin, end))
    chosen = np.zeros(count, np.bool_)
    chosen[grouped] = (place >= first[of_class]) & (place < last[of_class])
    return chosen


def parse_part(text: str) -> tuple[float, float]:
    """Two fractions from ``"0:0.9"``, ``"90%:100%"``, ``":10%"``.

    Raises:
        ConfigError: It is no such pair.
    """
    begin, colon, end = (piece.strip() for piece in str(text).partition(":"))
    found = [_FRACTION.fullmatch(piece) for piece in (begin or "0", end or "1")]
    if colon and all(found):
        values = [float(match[1]) / (100 if match[2] else 1) for match in found if match]
        if 0 <= values[0] < values[1] <= 1:
            return values[0], values[1]
    raise ConfigError(f"expected a part such as 0:0.9 or 90%:100%, between 0 and 1, not {text!r}")


def parse_classes(classes: str | Sequence[str]) -> tuple[str, ...]:
    """Names of classes from a sequence, from ``"cat,dog"``, or from a text file with one in each line.

    Raises:
        ConfigError: There are none.
        DataError: The file cannot be read.
    """
    if not isinstance(classes, str):
        names = tuple(classes)
    elif os.path.isfile(classes):
        try:
            names = tuple(line.strip() for line in read_file(classes).decode("utf-8-sig").splitlines())
        except UnicodeDecodeError as error:
            raise DataError("expected a text file with the name of a class in each line", path=classes) from error
    else:
        names = tuple(name.strip() for name in classes.split(","))
    names = tuple(dict.fromkeys(name for name in names if name))
    if not names:
        raise ConfigError("expected at least one name of a class")
    return names
