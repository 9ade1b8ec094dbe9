"""Which samples each rank reads, and when: pure functions of (seed, epoch, rank, world size)."""

from __future__ import annotations

from fastload.order.batches import BatchPlan, BatchSlice, LastBatch
from fastload.order.permutation import permute, unpermute
from fastload.order.samples import DEFAULT_WINDOW, GlobalOrder, OrderMode, replacement

__all__ = [
    "DEFAULT_WINDOW",
    "BatchPlan",
    "BatchSlice",
    "GlobalOrder",
    "LastBatch",
    "OrderMode",
    "permute",
    "replacement",
    "unpermute",
]
