"""The Loader: order, augmentation and an engine behind the iterable that a PyTorch loop expects."""

from __future__ import annotations

from fastload.loader.ledger import EpochLedger as EpochLedger
from fastload.loader.ledger import LoaderStats as LoaderStats
from fastload.loader.ledger import Skipped as Skipped
from fastload.loader.loader import Loader as Loader
from fastload.loader.targets import Targets as Targets

__all__ = ["EpochLedger", "Loader", "LoaderStats", "Skipped", "Targets"]
