"""Which sample goes into which part, from the sizes in the source alone; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 512


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The order in which a source is written and where one part ends and the next begins.

    A part becomes a shard, unless none of its samples can be read. Nothing here depends on what is found in the
    files, so parts can be written in any order, by any number of workers, before or after a restart.

    Attributes:
        order: int64 (n,), entry of the source at each position.
        bounds: int64 (parts + 1,), position at which each part begins, then n.
    """

    order: NDArray[np.int64]
    bounds: NDArray[np.int64]

    @property
    def num_parts(self) -> int:
        return len(self.bounds) - 1

    def key(self, position: int) -> str:
        """Name of the sample at a position: short, unique, without spaces or dots, in written order."""
        return f"{position:0{max(9, len(str(len(self.order))))}d}"


def make_plan(num_bytes: NDArray[np.int64], *, shard_size: int, seed: int | None, members: int) -> Plan:
    """Plans the parts of a source.

    Args:
        num_bytes: Size of each entry in the source.
        shard_size: Bytes of one part, tar headers and padding included.
        seed: Permutes the entries; None keeps their order.
        members: Tar members of one sample.
    """
    order = np.arange(len(num_bytes)) if seed is None else permutation(len(num_bytes), seed)
    # A header and up to one block of padding for each member, and the image itself.
    ends = np.cumsum(-(-num_bytes[order] // _BLOCK) * _BLOCK + (2 * members - 1) * _BLOCK)
    bounds = [0]
    while bounds[-1] < len(order):
        begin = bounds[-1]
        before = int(ends[begin - 1]) if begin else 0
        bounds.append(max(begin + 1, int(np.searchsorted(ends, before + shard_size, side="right"))))
    return Plan(order=order.astype(np.int64), bounds=np.array(bounds, np.int64))


def permutation(count: int, seed: int) -> NDArray[np.int64]:
    """A permutation of range(count) that is the same on every machine and for every version of numpy.

    Entries are sorted by a 64-bit hash of (seed, entry) (splitmix64); numpy's own generators may change their streams.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
        values = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + _mix(state)
        return np.argsort(_mix(values), kind="stable").astype(np.int64)


def _mix(value: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = np.asarray(value, np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
