"""From transforms to per-sample parameters: pure, and the same for every engine."""

from __future__ import annotations

from fastload.augment.parameters import Draws, MemoryFormat, Output
from fastload.augment.passes import Pass, count_passes
from fastload.augment.plan import AugmentPlan, compile_plan

__all__ = ["AugmentPlan", "Draws", "MemoryFormat", "Output", "Pass", "compile_plan", "count_passes"]
