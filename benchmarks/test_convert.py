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
import tempfile
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


class _Program:
    """A process that waits while another works."""

    def __init__(self, name: str, folder: Path, small: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.harness.converting", name, str(folder), str(small)]
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def answer(self) -> str:
        """The next line that it prints which is for us; FFCV and webdataset print some of their own."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n" or line.startswith('{"cpu"'):
                return line
        self._errors.seek(0)
        raise AssertionError(self._errors.read()[-3000:])

    def measure(self) -> dict[str, float]:
        """One round."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        measured: dict[str, float] = json.loads(self.answer())
        return measured

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


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
    programs = {name: _Program(name, folder, small) for name in PROGRAMS if _installed(name)}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    try:
        for program in programs.values():
            assert program.answer() == "ready\n"
        for _ in range(int(request.config.getoption("--rounds"))):
            for name, found in rounds.items():
                found.append(programs[name].measure())
    finally:
        for program in programs.values():
            program.close()
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
