"""Which column of a table is what, and what its labels mean; shared by every source that has columns."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.listing import printable
from fastload.errors import ConfigError, DataError

IMAGE_COLUMNS: Final = (
    *("path", "image", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image_file"),
    *("img", "img_path", "image_name", "jpg", "png"),
)
LABEL_COLUMNS: Final = ("label", "class", "target", "category", "class_name", "label_name", "class_id", "label_id", "y")

# What convert writes itself, and endings that tar, DALI's index and WebDataset take.
_OWN_MEMBERS: Final = ("jpg", "cls", "lbl")
_ENDING: Final = re.compile(r"[a-z0-9_+-][a-z0-9_.+-]{0,79}")

# Class names become "0" to the largest where labels are numbers.
_MOST_CLASSES: Final = 1_000_000
# pandas writes whole numbers as 3.0 where others of the column are missing.
_NUMBER: Final = re.compile(r"(-?[1-9][0-9]{0,17}|0)(\.0+)?")


def choose_column(names: Sequence[str], wanted: str | None, usual: Sequence[str]) -> int | None:
    """Number of the column named ``wanted``, or of the first of the ``usual`` that is there; None if there is none.

    Raises:
        ConfigError: There is no column ``wanted``, or two.
    """
    if wanted is not None:
        if list(names).count(wanted) != 1:
            raise ConfigError(f"expected one column {wanted!r}; there are {', '.join(map(printable, names))[:300]}")
        return list(names).index(wanted)
    lower = [name.strip().lower() for name in names]
    return next((lower.index(name) for name in usual if name in lower), None)


def member_endings(names: Sequence[str], place: str) -> dict[str, str]:
    """Under which ending each further member is kept: its own in lower case, ``original.cls`` for cls (jpg, lbl).

    Raises:
        DataError: A name cannot be an ending, or two would have the same.
    """
    endings: dict[str, str] = {}
    for name in names:
        ending = f"original.{name.lower()}" if name.lower() in _OWN_MEMBERS else name.lower()
        if not _ENDING.fullmatch(ending) or ending.endswith(".") or ending in endings.values():
            raise DataError(
                f"{printable(name)[:90]!r} cannot be the ending of a member beside {list(endings.values())[:10]}: "
                "expected letters, digits, dots and _+-; rename it in the source",
                path=place,
            )
        endings[name] = ending
    return endings


class LabelColumn:
    """Labels as texts on their way to numbers: whole numbers stay, anything else is the name of a class.

    Args:
        place: Path of the source, for messages.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._codes = array("i")
        self._code_of: dict[str, int] = {}
        self._first: list[str] = []

    def add(self, text: str | None, where: str) -> None:
        """Appends the label of one entry; None, an empty text or -1 for none.

        Raises:
            DataError: There are more than a million different ones.
        """
        text = printable((text or "").strip())
        if text in ("", "-1"):
            self._codes.append(-1)
            return
        code = self._code_of.setdefault(text, len(self._first))
        if code == len(self._first):
            if code == _MOST_CLASSES:
                raise DataError(
                    f"{where} has the {code + 1:,}th different label ({printable(text)[:60]!r}): is this the column of "
                    "labels? choose it with label=NAME (--label NAME)",
                    path=self._place,
                )
            self._first.append(where)
        self._codes.append(code)

    def finish(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """Class number of each entry, and the names of the classes.

        If every label is a whole number they are the classes "0" to the largest; otherwise the classes are the
        different labels, sorted.

        Raises:
            DataError: Labels are whole numbers, and one is negative, or a million or more.
        """
        texts = list(self._code_of)
        matches = [_NUMBER.fullmatch(text) for text in texts]
        classes: tuple[str, ...]
        if texts and all(matches):
            numbers = [int(match[1]) for match in matches if match]
            for number, where in zip(numbers, self._first, strict=True):
                if not 0 <= number < _MOST_CLASSES:
                    expected = f"expected a label from 0 to {_MOST_CLASSES - 1:,}, -1 for none, or names"
                    raise DataError(f"{where}: {expected}; got {number}", path=self._place)
            classes = tuple(map(str, range(max(numbers) + 1)))
        else:
            classes = tuple(sorted(texts))
            number_of = {name: number for number, name in enumerate(classes)}
            numbers = [number_of[text] for text in texts]
        table = np.array([*numbers, -1], np.int32)  # code -1 takes the last
        return table[np.frombuffer(self._codes, np.int32)] if self._codes else np.zeros(0, np.int32), classes


class PackedBytes:
    """Many byte strings in two arrays."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("q", [0])

    def append(self, data: bytes) -> None:
        """Appends one."""
        self._data += data
        self._ends.append(len(self._data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> bytes:
        return bytes(self._data[self._ends[number] : self._ends[number + 1]])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each."""
        ends = np.array(self._ends, np.int64)
        return ends[1:] - ends[:-1]

    @property
    def data(self) -> bytearray:
        """All of them, one behind the other."""
        return self._data
