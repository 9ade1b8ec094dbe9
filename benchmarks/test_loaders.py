"""Whole loaders side by side on the same bytes; what pytest-benchmark shows is CPU time per image."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.conftest import runnable
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.harness.replay import Replay
from benchmarks.harness.runner import Group, Outcome
from benchmarks.peers import PEERS

_replay = Replay()


@pytest.mark.loaders
@pytest.mark.benchmark(timer=_replay)
def test_loader(group: Group, peer: str, outcomes: Any, benchmark: BenchmarkFixture) -> None:
    """Epochs of one loader: CPU seconds per image over all threads and processes; its result was checked."""
    why_not = runnable(peer, group)
    if why_not:
        pytest.skip(why_not)
    outcome: Outcome = outcomes(group, peer)
    if outcome.failure:
        pytest.fail(outcome.failure, pytrace=False)
    benchmark.group = group.name
    benchmark.extra_info = {
        "peer": peer,
        "pipeline": PIPELINES[group.pipeline].describe(),
        "batch_size": group.batch_size,
        "threads": group.threads,
        "settings": PEERS[peer].settings,
        "cpu_ms_per_image": [round(1e3 * seconds, 4) for seconds in outcome.cpu_seconds],
        "images_per_second": [round(1 / seconds, 1) for seconds in outcome.wall_seconds],
        "check": outcome.check,
    }
    if outcome.memory is not None and outcome.torch_memory is not None:  # a matrix is about time alone
        benchmark.extra_info |= {
            "start_seconds": round(outcome.start_seconds, 2),
            "peak_rss_mib": outcome.memory.peak_rss >> 20,
            "memory_mib": outcome.memory.peak_allocated >> 20,
            "torch_rss_mib": outcome.torch_memory.peak_rss >> 20,
            "torch_memory_mib": outcome.torch_memory.peak_allocated >> 20,
        }
    rounds = iter(outcome.cpu_seconds)
    benchmark.pedantic(lambda: _replay.pass_by(next(rounds)), rounds=len(outcome.cpu_seconds))
