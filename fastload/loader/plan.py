"""What one epoch of one rank consists of: batch number in, sample numbers and drawn parameters out; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastload.augment import AugmentPlan
from fastload.dataset import Dataset
from fastload.engine.base import Request
from fastload.order import BatchPlan, GlobalOrder, replacement


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """All that decides what the batches of an epoch are; none of it changes while the epoch is read.

    Attributes:
        epoch: Number of the epoch.
        dataset: Where labels and image sizes come from.
        order: Which sample comes when, for all ranks together.
        batches: Which positions of that order are this rank's.
        augment: What happens to each sample.
    """

    epoch: int
    dataset: Dataset
    order: GlobalOrder
    batches: BatchPlan
    augment: AugmentPlan

    def ids(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Samples at these positions of the epoch."""
        return self.order.at(self.epoch, positions)

    def request(self, rows: NDArray[np.int64], ids: NDArray[np.int64]) -> Request:
        """Work that puts sample ``ids[i]`` into row ``rows[i]``; may read image headers."""
        sizes = self.dataset.sizes(ids)
        return Request(rows=rows, draws=self.augment.draw(seed=self.order.seed, epoch=self.epoch, ids=ids, sizes=sizes))

    def substitute(self, sample_id: int, attempt: int) -> int:
        """The sample that stands in for one that cannot be delivered; attempts count from 0."""
        order = self.order
        return replacement(sample_id, attempt, num_samples=order.num_samples, seed=order.seed, epoch=self.epoch)
