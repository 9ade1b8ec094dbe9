"""Which sample comes at which position of an epoch: shuffled globally, shuffled near to storage, or as stored."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastload.errors import ConfigError
from fastload.order.permutation import MAX_LENGTH, permute, unpermute

OrderMode = Literal["global", "local", "sequential"]

DEFAULT_WINDOW: Final = 16
MAX_REPEATS: Final = 1024


class GlobalOrder:
    """The order of all samples in an epoch; a pure function of (seed, epoch), the same on every rank.

    * ``global``: a keyed permutation of all samples. Constant memory for any number of samples.
    * ``local``: shards are shuffled, then cut into runs of ``window`` shards, and the samples of each run are shuffled
      together. At any time reads touch no more than ``window`` shards (twice that where a batch crosses from one run
      into the next), each of which is read completely and once: for cold or remote storage. Memory grows with
      the number of shards only.
    * ``sequential``: as stored, in every epoch.

    Args:
        num_samples: Samples in the data set, at least 1.
        seed: 0 <= seed < 2**64.
        mode: One of the three above.
        shard_sizes: Samples in each shard, as ``Dataset.shard_sizes()`` gives them; needed for ``local`` only.
        window: Shards whose samples are mixed in ``local``, at least 1. A larger window mixes better and touches
            more files at a time.
        repeats: How many positions in a row hold the same sample (repeated augmentation). An epoch still has
            num_samples positions, and so the first ``num_samples / repeats`` samples of the order; others come in other
            epochs, which is why ``sequential`` takes 1 only.

    Raises:
        ConfigError: An argument is out of range, or ``local`` lacks shard sizes that add up to num_samples.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        seed: int,
        mode: OrderMode = "global",
        shard_sizes: ArrayLike | None = None,
        window: int = DEFAULT_WINDOW,
        repeats: int = 1,
    ) -> None:
        if not 1 <= num_samples <= MAX_LENGTH:
            raise ConfigError(f"an order needs between 1 and 2**48 samples, but got {num_samples}")
        check_seed(seed)
        if mode not in get_args(OrderMode):
            raise ConfigError(f"the order must be one of {', '.join(get_args(OrderMode))}, but got {mode!r}")
        if window < 1:
            raise ConfigError(f"the window of the local order must hold at least 1 shard, but got {window}")
        if not 1 <= repeats <= MAX_REPEATS:
            raise ConfigError(f"repeats must lie between 1 and {MAX_REPEATS}, but got {repeats}")
        if repeats > 1 and mode == "sequential":
            raise ConfigError(
                f"repeats={repeats} needs a shuffled order: an epoch holds 1 in {repeats} of the samples, and without "
                "shuffle it would be the same ones in every epoch"
            )
        self.num_samples = num_samples
        self.repeats = repeats
        self.seed = seed
        self.mode: OrderMode = mode
        self.window = window
        self._shard_sizes = _check_shards(shard_sizes, num_samples) if mode == "local" else None
        self._shard_starts = None if self._shard_sizes is None else _starts(self._shard_sizes)
        # The layout of a run of shards is the same for a whole epoch; two epochs live side by side at its end.
        self._runs = functools.lru_cache(maxsize=2)(self._shuffle_shards)

    def __repr__(self) -> str:
        return f"GlobalOrder({self.num_samples}, seed={self.seed}, mode={self.mode!r}, window={self.window})"

    def ids(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Samples at positions start <= p < stop of an epoch: int64 (stop - start,).

        Raises:
            ConfigError: The positions are not in [0, num_samples], or the epoch is negative.
        """
        if not 0 <= start <= stop <= self.num_samples:
            raise ConfigError(f"positions must lie between 0 and {self.num_samples}, but got {start} to {stop}")
        return self.at(epoch, np.arange(start, stop, dtype=np.int64))

    def at(self, epoch: int, positions: ArrayLike) -> NDArray[np.int64]:
        """Samples at any positions of an epoch, each in [0, num_samples): int64, shape of positions."""
        check_epoch(epoch)
        places: NDArray[np.int64] = np.array(positions, dtype=np.int64)
        if self.repeats > 1:
            places //= self.repeats
        if self.mode == "global":
            return permute(places, self.num_samples, (self.seed, epoch, "samples"))
        if places.size and (places.min() < 0 or places.max() >= self.num_samples):
            raise ConfigError(f"positions must lie between 0 and {self.num_samples - 1}, but some lie outside")
        return places if self.mode == "sequential" else self._local(epoch, places)

    def repeat(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Which time, from 0, the sample at each position comes: int64, shape of positions."""
        return np.asarray(positions, dtype=np.int64) % self.repeats

    def position(self, epoch: int, sample_id: int) -> int:
        """Where a sample comes in an epoch, for the first time: the inverse of :meth:`ids`.

        With repeats it may be beyond the end: such a sample does not come in this epoch.
        """
        return self.repeats * self._place(epoch, sample_id)

    def _place(self, epoch: int, sample_id: int) -> int:
        check_epoch(epoch)
        if not 0 <= sample_id < self.num_samples:
            raise ConfigError(f"sample numbers must lie between 0 and {self.num_samples - 1}, but got {sample_id}")
        if self.mode == "sequential":
            return sample_id
        if self.mode == "global":
            return int(unpermute(sample_id, self.num_samples, (self.seed, epoch, "samples")))
        assert self._shard_starts is not None
        shard = int(np.searchsorted(self._shard_starts, sample_id, side="right")) - 1
        shards, starts = self._runs(epoch)
        place = int(np.flatnonzero(shards == shard)[0])
        run = place // self.window
        first = int(starts[run * self.window])
        size = int(starts[min((run + 1) * self.window, len(shards))]) - first
        offset = int(starts[place]) - first + sample_id - int(self._shard_starts[shard])
        return first + int(unpermute(offset, size, (self.seed, epoch, "run", run)))

    def _shuffle_shards(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shards in the order of this epoch, and the position at which each of them (and the end) starts."""
        assert self._shard_sizes is not None
        count = len(self._shard_sizes)
        shards = permute(np.arange(count, dtype=np.int64), count, (self.seed, epoch, "shards"))
        return shards, np.append(_starts(self._shard_sizes[shards]), self.num_samples)

    def _local(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        assert self._shard_starts is not None
        shards, starts = self._runs(epoch)
        flat = positions.ravel()
        run_starts = np.append(starts[: len(shards) : self.window], self.num_samples)
        # Side "right" passes over runs without samples, which start where the next run starts.
        runs = np.searchsorted(run_starts, flat, side="right") - 1
        shuffled = np.empty_like(flat)
        for run in np.unique(runs).tolist():
            mine = runs == run
            first = int(run_starts[run])
            size = int(run_starts[run + 1]) - first
            shuffled[mine] = first + permute(flat[mine] - first, size, (self.seed, epoch, "run", run))
        places = np.searchsorted(starts, shuffled, side="right") - 1
        ids = self._shard_starts[shards[places]] + (shuffled - starts[places])
        return ids.reshape(positions.shape)


def replacement(sample_id: int, attempt: int, *, num_samples: int, seed: int, epoch: int) -> int:
    """The sample that stands in for one that cannot be read; a pure function of its arguments.

    Attempts 0, 1, ... name different samples until all others have been named (then they repeat), and never
    ``sample_id`` itself unless it is the only one.

    Args:
        sample_id: The sample that cannot be read, in [0, num_samples).
        attempt: 0 for the first substitute, 1 if that one cannot be read either, and so on.
        num_samples, seed, epoch: As for :class:`GlobalOrder`.

    Raises:
        ConfigError: An argument is out of range.
    """
    check_seed(seed)
    check_epoch(epoch)
    if not 0 <= sample_id < num_samples:
        raise ConfigError(f"sample numbers must lie between 0 and {num_samples - 1}, but got {sample_id}")
    if attempt < 0:
        raise ConfigError(f"attempts are counted from 0, but got {attempt}")
    others = num_samples - 1
    if others == 0:
        return sample_id
    distance = int(permute(attempt % others, others, (seed, epoch, "replacement", sample_id)))
    return (sample_id + 1 + distance) % num_samples


def check_seed(seed: int) -> None:
    """Raises ConfigError unless 0 <= seed < 2**64."""
    if not 0 <= seed < 2**64:
        raise ConfigError(f"a seed must lie between 0 and 2**64 - 1, but got {seed}")


def check_epoch(epoch: int) -> None:
    """Raises ConfigError unless 0 <= epoch < 2**32."""
    if not 0 <= epoch < 2**32:
        raise ConfigError(f"an epoch must lie between 0 and 2**32 - 1, but got {epoch}")


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(sizes) - sizes


def _check_shards(shard_sizes: ArrayLike | Sequence[int] | None, num_samples: int) -> NDArray[np.int64]:
    if shard_sizes is None:
        raise ConfigError("the local order needs shard_sizes: pass Dataset.shard_sizes()")
    sizes = np.array(shard_sizes, dtype=np.int64)
    if sizes.ndim != 1 or (sizes < 0).any() or int(sizes.sum()) != num_samples:
        raise ConfigError(
            f"shard_sizes must be a list of counts that add up to the {num_samples} samples, "
            f"but got {sizes.size} that add up to {int(sizes.sum())}"
        )
    return sizes
