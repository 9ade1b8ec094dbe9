"""Augmentation of whole batches as torch operations, on any device, for engines that do not do it themselves."""

from fastload.engine.batched.maps import warp_levels
from fastload.engine.batched.program import run_operations
from fastload.engine.batched.store import finish

__all__ = ["finish", "run_operations", "warp_levels"]
