"""Converting: CPU time an image of fastload, FFCV's DatasetWriter and webdataset's ShardWriter, and of verify.

Each in a process of its own, in turns; what it wrote is read back and compared with the photographs in every round.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.harness.converting import PROGRAMS
from benchmarks.harness.datasets import REPOSITORY, Corpus
from benchmarks.harness.replay import Replay

_SMALL = 20  # photographs, to warm up with
_replay = Replay()


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name.split(",")[0].split(" ")[0].lower()) is not None


def _run(name: str, folder: Path, small: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.harness.converting", name, str(folder), str(small)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest, corpus: Corpus) -> dict[str, list[dict[str, float]]]:
    """Rounds of every program that is installed."""
    folder = corpus.form("folder")
    corpus.form("fastload")
    small = folder.with_name("small") / "folder"
    for path in sorted(folder.glob("*/0.jpg"))[:_SMALL]:
        (small / path.parent.name).mkdir(parents=True, exist_ok=True)
        if not (small / path.parent.name / path.name).exists():
            os.link(path, small / path.parent.name / path.name)
    if not (small.parent / "fastload").exists():
        import fastload

        fastload.convert(small, small.parent / "fastload")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in PROGRAMS if _installed(name)}
    for _ in range(int(request.config.getoption("--rounds"))):
        for name, found in rounds.items():
            found.append(_run(name, folder, small))
    shutil.rmtree(small.parent)
    return rounds


@pytest.mark.loaders
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.benchmark(timer=_replay)
def test_converting(
    name: str, measured: dict[str, list[dict[str, float]]], corpus: Corpus, benchmark: BenchmarkFixture
) -> None:
    """The photographs of the corpus once, with two threads or worker processes where the program has them."""
    if name not in measured:
        pytest.skip("absent: it is not installed")
    found: list[dict[str, Any]] = measured[name]
    wall = statistics.median(corpus.samples / each["wall"] for each in found)
    benchmark.group = "convert"
    benchmark.name = name
    written = f", {found[0]['bytes'] / 1e6:,.1f} MB written" if found[0]["bytes"] else ""
    benchmark.extra_info = {
        "items": corpus.samples,
        "unit": f"image; {wall:,.0f} images/s{written}; {PROGRAMS[name][0]}",
    }
    rounds = iter(found)
    benchmark.pedantic(lambda: _replay.pass_by(next(rounds)["cpu"]), rounds=len(found))
