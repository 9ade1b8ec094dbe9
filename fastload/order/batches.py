"""How an epoch is cut into global batches, and each of them into one slice per rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastload.errors import ConfigError

LastBatch = Literal["drop", "keep", "pad"]


@dataclass(frozen=True, kw_only=True)
class BatchSlice:
    """What one rank reads of one global batch.

    Attributes:
        positions: int64 (n,), positions in the epoch's order.
        valid: bool (n,), False for the padding of the last batch, which an exact evaluation must not count.
    """

    positions: NDArray[np.int64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class BatchPlan:
    """Global batches of ``batch_size * world_size`` positions; rank r takes the r-th slice of each.

    The sequence of global batches depends on the number of samples and the global batch size alone. Every rank gets
    the same number of batches. The last global batch, where it is not full, is

    * ``drop``: left out (:attr:`num_dropped` says how many samples that are);
    * ``keep``: split as evenly as possible, sizes differ by at most 1; where it holds fewer samples than there are
      ranks some get none of it (their slice is empty, but they still have the batch, so that collectives match);
    * ``pad``: filled up with positions from the start of the epoch, marked invalid.

    Args:
        num_samples: Samples in an epoch, at least 1.
        batch_size: Samples per rank and batch, at least 1.
        rank: This process, 0 <= rank < world_size.
        world_size: Number of processes.
        last_batch: What happens to a last batch that is not full.

    Raises:
        ConfigError: An argument is out of range, or ``drop`` would leave no batch at all.
    """

    num_samples: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    last_batch: LastBatch = "drop"

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ConfigError(f"an epoch needs at least 1 sample, but got {self.num_samples}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, but got {self.batch_size}")
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"rank must lie between 0 and world_size - 1, but got rank {self.rank} of {self.world_size}"
            )
        if self.last_batch not in get_args(LastBatch):
            raise ConfigError(
                f"last_batch must be one of {', '.join(get_args(LastBatch))}, but got {self.last_batch!r}"
            )
        if self.num_batches == 0:
            raise ConfigError(
                f"{self.num_samples} samples do not fill one batch of {self.batch_size} x {self.world_size} ranks, and "
                "last_batch='drop' leaves it out: use a smaller batch_size, or last_batch='keep' or 'pad'"
            )

    @property
    def global_batch_size(self) -> int:
        """Samples in a full batch over all ranks."""
        return self.batch_size * self.world_size

    @property
    def num_batches(self) -> int:
        """Batches in an epoch; the same on every rank."""
        full, rest = divmod(self.num_samples, self.global_batch_size)
        return full + (1 if rest and self.last_batch != "drop" else 0)

    @property
    def num_dropped(self) -> int:
        """Samples that no rank reads in an epoch; 0 unless ``drop``."""
        return self.num_samples % self.global_batch_size if self.last_batch == "drop" else 0

    def valid(self, batch: int) -> NDArray[np.bool_]:
        """What ``slice(batch).valid`` is."""
        if (batch + 1) * self.global_batch_size <= self.num_samples:
            return np.ones(self.batch_size, np.bool_)
        return self.slice(batch).valid

    def slice(self, batch: int) -> BatchSlice:
        """This rank's positions of global batch ``batch``, 0 <= batch < num_batches.

        Raises:
            ConfigError: There is no such batch.
        """
        if not 0 <= batch < self.num_batches:
            raise ConfigError(f"batches are numbered 0 to {self.num_batches - 1}, but got {batch}")
        start = batch * self.global_batch_size
        rest = self.num_samples - start
        if self.last_batch == "keep" and rest < self.global_batch_size:
            first, last = (start + rest * rank // self.world_size for rank in (self.rank, self.rank + 1))
            positions = np.arange(first, last, dtype=np.int64)
            return BatchSlice(positions=positions, valid=np.ones(len(positions), dtype=np.bool_))
        first = start + self.rank * self.batch_size
        positions = np.arange(first, first + self.batch_size, dtype=np.int64)
        valid = positions < self.num_samples
        return BatchSlice(positions=positions % self.num_samples, valid=valid)
