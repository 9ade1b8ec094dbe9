"""Finds images that are there more than once: equal size and crc32 first, then every byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset import Dataset
from fastload.errors import DataError
from fastload.inspect.examine import read_image
from fastload.inspect.report import Duplicates

# What is read at most to confirm that candidates are equal; a data set of nothing but copies must not be read whole.
CONFIRMED_BYTES: Final = 1 << 30
_MOST_GROUPS: Final = 100
_MOST_KEYS: Final = 20


def find_duplicates(
    dataset: Dataset,
    ids: NDArray[np.int64],
    num_bytes: NDArray[np.int64],
    crc32: NDArray[np.uint32],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Duplicates:
    """Groups of equal images among samples ``ids``, whose sizes in bytes and checksums are given, each (n,)."""
    groups: list[list[int]] = []
    unconfirmed = read = 0
    candidates = _candidates(ids, num_bytes, crc32)
    for done, (members, size) in enumerate(candidates, start=1):
        read += size * len(members)
        if read > CONFIRMED_BYTES:
            unconfirmed += len(members)
        else:
            groups += _equal(dataset, members)
        progress(done, len(candidates))
    groups.sort(key=lambda group: (-len(group), group[0]))
    labels = [np.unique(dataset.labels(np.array(group))).size for group in groups]
    return Duplicates(
        searched=len(ids),
        groups=tuple(tuple(dataset.key(number) for number in group[:_MOST_KEYS]) for group in groups[:_MOST_GROUPS]),
        num_groups=len(groups),
        surplus=sum(len(group) - 1 for group in groups),
        across_classes=sum(count > 1 for count in labels),
        unconfirmed=unconfirmed,
    )


def _candidates(
    ids: NDArray[np.int64], num_bytes: NDArray[np.int64], crc32: NDArray[np.uint32]
) -> list[tuple[list[int], int]]:
    """Samples of equal checksum and size, each with that size."""
    order = np.lexsort((ids, num_bytes, crc32))
    sizes, checksums = num_bytes[order], crc32[order]
    first = np.ones(len(order), bool)
    first[1:] = (sizes[1:] != sizes[:-1]) | (checksums[1:] != checksums[:-1])
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(order)))
    return [
        (ids[order[start : start + length]].tolist(), int(sizes[start]))
        for start, length in zip(starts[lengths > 1].tolist(), lengths[lengths > 1].tolist(), strict=True)
    ]


def _equal(dataset: Dataset, members: list[int]) -> list[list[int]]:
    """Groups of at least two whose bytes are equal; a file that cannot be read is equal to none."""
    found: list[tuple[NDArray[np.uint8], list[int]]] = []
    for number in members:
        try:
            data = read_image(dataset, number)
        except DataError:
            continue
        for first, group in found:
            if np.array_equal(first, data):
                group.append(number)
                break
        else:
            found.append((data, [number]))
    return [group for _, group in found if len(group) > 1]
