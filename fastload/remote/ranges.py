"""Which requests bring the samples that are wanted: neighbours in one file share one; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Range:
    """One request.

    Attributes:
        file: Number of the file.
        start, stop: Its bytes.
        items: int64 (n,), which of the wanted pieces lie within, as positions in the arrays that were given.
    """

    file: int
    start: int
    stop: int
    items: NDArray[np.int64]


def plan_ranges(
    files: NDArray[np.int64],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    gap: int,
    longest: int,
) -> list[Range]:
    """The requests for pieces of files, in the order in which their first pieces are wanted.

    Args:
        files, offsets, sizes: (n,), where each piece lies, in the order in which they are wanted; they may overlap.
        gap: Bytes between two pieces that are rather read and thrown away than asked around.
        longest: Bytes from which on a request takes no further piece in; a piece is never divided.
    """
    order = np.lexsort((offsets, files))
    sorted_files, starts = files[order], offsets[order]
    stops = starts + sizes[order]
    ranges: list[Range] = []
    begin, stop = 0, 0
    for place in range(len(order)):
        if place > begin:
            apart = sorted_files[place] != sorted_files[begin] or starts[place] > stop + gap
            if apart or max(stop, int(stops[place])) - int(starts[begin]) > longest:
                ranges.append(_range(order, sorted_files, starts, begin, place, stop))
                begin, stop = place, 0
        stop = max(stop, int(stops[place]))
    if len(order):
        ranges.append(_range(order, sorted_files, starts, begin, len(order), stop))
    return sorted(ranges, key=lambda entry: int(entry.items.min()))


def _range(
    order: NDArray[np.int64],
    files: NDArray[np.int64],
    starts: NDArray[np.int64],
    begin: int,
    end: int,
    stop: int,
) -> Range:
    return Range(file=int(files[begin]), start=int(starts[begin]), stop=stop, items=order[begin:end])
