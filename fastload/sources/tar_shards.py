"""WebDataset shards of any origin as a source of convert: their samples, written anew."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.listing import PackedNames
from fastload.dataset.reading import LARGEST_FILE
from fastload.errors import DataError
from fastload.remote import shown
from fastload.sources.base import Item, Source
from fastload.sources.columns import member_endings
from fastload.sources.places import Opened, Places, basename
from fastload.sources.tar_members import Member, TarScan, read_member
from fastload.sources.tar_samples import LARGEST_LABEL_MEMBER, Choice, Group, check_extras, group_members


class TarSource(Source):
    """Samples of uncompressed tars as WebDataset groups them, shard after shard.

    The headers of all shards are read when it is made, and the members that hold labels; images when they are asked
    for. Labels are whole numbers, which become the classes "0" to the largest. Every member beside image and label is
    kept under its ending (see member_endings); what cannot be a sample is rejected with the reason.

    Args:
        paths: The tars, in order.
        image: Ending of the member that is the image; None takes the only one that has the ending of an image.
        label: Where the label is (see Choice).

    Raises:
        DataError: A tar is missing or compressed, or a member cannot be kept under its name.
        ConfigError: Samples have several images, and ``image`` does not say which is meant.
    """

    kind = "tar shards"

    def __init__(self, paths: Sequence[str], *, image: str | None = None, label: str | None = None) -> None:
        self.path = os.path.dirname(shown(paths[0]))  # names of entries begin with the names of their tars
        self._paths = list(paths)
        self._files = Places()
        self._choice = Choice(image=image, label=label)
        self._rejected: list[tuple[str, str]] = []
        self.rejected = self._rejected
        self._keys: list[str] = []
        self._labels_found = array("i")
        self._places: dict[str, array[int]] = {}  # by ending, "" for the image: number of the entry, offset, size
        self._shard_ends: list[int] = []
        for path in self._paths:
            self._scan(path)
            self._shard_ends.append(len(self._keys))
        self._names = PackedNames(self._keys)
        self._keys.clear()
        self._columns = {ending: np.array(place, np.int64).reshape(-1, 3) for ending, place in self._places.items()}
        self._places.clear()
        self._labels = np.array(self._labels_found, np.int32)
        self.classes = tuple(map(str, range(int(self._labels.max(initial=-1)) + 1)))
        self._endings = member_endings(sorted(self._columns.keys() - {""}), self.path)
        self.extras = tuple(self._endings.values())

    def _scan(self, path: str) -> None:
        shard = basename(path)
        scan = TarScan(path, self._files)
        with self._files.opened(path) as file:
            for group in group_members(scan):
                if isinstance(group, Member):  # no sample has it: neither does WebDataset read it
                    continue
                try:
                    self._enter(file, group)
                except DataError as error:
                    self._rejected.append((f"{shard}/{group.key}", error.reason))
        check_extras(sorted(self._places.keys() - {""}), path)
        if scan.damage:
            self._rejected.append((shard, scan.damage))

    def _enter(self, file: Opened, group: Group) -> None:
        if group.problem:
            raise DataError(group.problem)
        choice = self._choice
        suffix = choice.image_of(group)
        for name, member in group.members.items():
            if member.problem:
                raise DataError(f"its member .{name} {member.problem}")
            if member.size > LARGEST_FILE:
                raise DataError(f"its member .{name} has {member.size:,} bytes, more than {LARGEST_FILE:,}")
        found = group.members.get(choice.label_suffix)
        label = choice.read_label(None if found is None else read_member(file, found, LARGEST_LABEL_MEMBER))
        for name, member in group.members.items():
            if name == suffix or name not in choice.hidden:
                place = self._places.setdefault("" if name == suffix else name, array("q"))
                place.extend((len(self._keys), member.offset, member.size))
        self._keys.append(group.key)
        self._labels_found.append(label)

    def __len__(self) -> int:
        return len(self._names)

    def labels(self) -> NDArray[np.int32]:
        return self._labels

    def num_bytes(self) -> NDArray[np.int64]:
        total = np.zeros(len(self), np.int64)
        for column in self._columns.values():
            total[column[:, 0]] += column[:, 2]
        return total

    def name(self, number: int) -> str:
        return f"{basename(self._path(number))}/{self._names[number]}"

    def read(self, number: int) -> Item:
        image = b""
        extras = {}
        with self._files.opened(self._path(number)) as file:
            for ending, column in self._columns.items():
                row = int(np.searchsorted(column[:, 0], number))
                if row == len(column) or column[row, 0] != number:
                    continue
                member = Member(f".{ending}", int(column[row, 1]), int(column[row, 2]), "")
                data = read_member(file, member, LARGEST_FILE)
                if ending:
                    extras[self._endings[ending]] = data
                else:
                    image = data
        return Item(image=image, extras=extras)

    def _path(self, number: int) -> str:
        return self._paths[int(np.searchsorted(self._shard_ends, number, side="right"))]
