"""The benchmark that a user runs on a machine of their own: how fast it loads, what limits it, what they have now."""

from __future__ import annotations

from fastload.bench.report import BenchReport as BenchReport
from fastload.bench.run import PRESETS as PRESETS
from fastload.bench.run import run_bench as run_bench

__all__ = ["PRESETS", "BenchReport", "run_bench"]
