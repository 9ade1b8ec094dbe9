"""The order in which programs of a batch are carried out: each operation on all samples at once that wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment.program import Code, Program
from fastload.engine.batched.arithmetic import send
from fastload.engine.batched.tables import OF_LEVELS, compose

# Values (three a pixel) of the images that are worked on at a time: 111 images of 224 x 224. What is in between takes
# 10 to 30 bytes for each with most operations, and 55 at most (maps), which is 0.9 GB: measured on a CPU.
MOST_VALUES: Final = 1 << 24
# In place of a code: a run of operations that change each level by itself, as one table.
LEVELS: Final = 0
_STORED: Final = (Code.ERASE_NOISE, Code.ERASE_STORED)


@dataclass(frozen=True, kw_only=True)
class Group:
    """One operation on k samples.

    Attributes:
        code: A Code, or LEVELS.
        rows: int64 (k,), the samples, rising.
        values: float64 (k, VALUES), its numbers; of a SAVE the weight of its MIXED comes first.
        samples, numbers: The same two on the device.
        tables: uint8 (k, 256), on the device; without a row but for LEVELS.
    """

    code: int
    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    samples: torch.Tensor
    numbers: torch.Tensor
    tables: torch.Tensor

    def parts(self, values: int) -> Iterator[Group]:
        """As several groups, whose images, of so many values, can be worked on at a time."""
        for part in in_parts(len(self.rows), values):
            yield Group(
                code=self.code,
                rows=self.rows[part],
                values=self.values[part],
                samples=self.samples[part],
                numbers=self.numbers[part],
                tables=self.tables[part],
            )


class _Round(NamedTuple):
    """What samples do next: each of ``rows`` its operations ``begin`` to ``end``, more than one for LEVELS alone."""

    code: int
    rows: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]


def in_parts(count: int, values: int) -> Iterator[slice]:
    """Slices of ``count`` images of so many values that are worked on at a time, none much smaller than another."""
    parts = max(1, -(-count * values // MOST_VALUES))
    size = max(1, -(-count // parts))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def schedule(program: Program, device: torch.device, *, stored: bool = False) -> list[Group]:
    """The operations of n samples in groups, those of each sample in their order.

    Which operation each sample comes to is known on the host; all numbers go to the device in three copies.

    Args:
        program: The operations, as ``check_operations`` lets them through.
        device: Where they will be carried out.
        stored: Whether those on stored values are meant, or all others.
    """
    chosen = np.isin(program.code, _STORED) == stored
    code, values = program.code[chosen], program.values[chosen]
    if not len(code):
        return []
    start = np.concatenate(([0], np.cumsum(chosen)))[program.start]
    rounds = list(_rounds(start, code))
    tables = [compose(code, values, one.begin, one.end) for one in rounds if one.code == LEVELS]
    numbers = _with_weights(code, values)[np.concatenate([one.begin for one in rounds])]
    all_samples = send(np.concatenate([one.rows for one in rounds]), device)
    all_numbers = send(numbers, device)
    all_tables = send(np.concatenate([np.zeros((0, 256), np.uint8), *tables]), device)
    groups, at, table_at = [], 0, 0
    for one in rounds:
        end = at + len(one.rows)
        table_end = table_at + (len(one.rows) if one.code == LEVELS else 0)
        groups.append(
            Group(
                code=one.code,
                rows=one.rows,
                values=numbers[at:end],
                samples=all_samples[at:end],
                numbers=all_numbers[at:end],
                tables=all_tables[table_at:table_end],
            )
        )
        at, table_at = end, table_end
    return groups


def _rounds(start: NDArray[np.int64], code: NDArray[np.int64]) -> Iterator[_Round]:
    """The next is always what most samples wait for: orders that differ from sample to sample then share rounds."""
    of_levels = np.isin(code, OF_LEVELS)
    kind = np.where(of_levels, LEVELS, code)
    # An operation is the last of its run where it is not of levels, or the next is not, or is another sample's.
    last = np.ones(len(code), np.bool_)
    last[:-1] = ~(of_levels[:-1] & of_levels[1:])
    last[start[(start > 0)] - 1] = True
    ends = np.flatnonzero(last)
    following = ends[np.searchsorted(ends, np.arange(len(code)))] + 1
    at, end = start[:-1].copy(), start[1:]
    while True:
        waiting = np.flatnonzero(at < end)
        if not waiting.size:
            return
        kinds = kind[at[waiting]]
        wanted = int(np.bincount(kinds).argmax())
        rows = waiting[kinds == wanted]
        begin = at[rows]
        at[rows] = following[begin]
        yield _Round(wanted, rows, begin, at[rows])


def _with_weights(code: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """With the weight that the MIXED behind each SAVE says: the sum begins with the kept image, as torchvision's."""
    saves, mixed = np.flatnonzero(code == Code.SAVE), np.flatnonzero(code == Code.MIXED)
    values[saves, 0] = values[mixed[np.searchsorted(mixed, saves)], 0]
    return values
