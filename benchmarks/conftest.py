"""Options of the benchmarks, the photographs that they use, and what is kept of a run."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from benchmarks.harness import machine
from benchmarks.harness.datasets import REPOSITORY, Corpus, open_corpus
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.harness.runner import Group, Outcome, measure
from benchmarks.peers import PEERS
from benchmarks.report import markdown

# The image folder is measured as it is, without what an earlier run may have noted of it.
os.environ["FASTLOAD_SEEK_CACHE_GB"] = "0"

RESULTS = Path(__file__).parent / "results"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("loaders")
    group.addoption("--data", help="folder of JPEGs; 'synthetic' renders some. Default: imagenet-sample, if at hand")
    group.addoption("--samples", type=int, default=2000, help="at least so many samples in an epoch")
    group.addoption("--rounds", type=int, default=5, help="interleaved rounds, one epoch of each loader in each")
    group.addoption("--pipelines", default="train224-fp16", help=f"comma-separated, or all: {', '.join(PIPELINES)}")
    group.addoption("--batch-sizes", default="256", help="comma-separated")
    group.addoption("--threads", default="2", help="comma-separated")
    group.addoption("--peers", default="all", help=f"comma-separated, or all: {', '.join(PEERS)}")
    group.addoption("--record", metavar="NAME", help="keep the run as benchmarks/results/DATE-NAME.json and .md")


def _listed(config: pytest.Config, option: str, known: Any = None) -> list[str]:
    value = str(config.getoption(option))
    names = list(known) if value == "all" and known else value.split(",")
    for name in names:
        if known and name not in known:
            raise pytest.UsageError(f"{option}: {name!r} is unknown, choose among {', '.join(known)}")
    return names


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config._load_before = round(os.getloadavg()[0], 2)  # type: ignore[attr-defined]
    name = config.getoption("--record")
    if name:
        # pytest-benchmark's own file and format, so that --benchmark-compare takes it.
        RESULTS.mkdir(exist_ok=True)
        config.option.benchmark_json = str(_record(name))


def _record(name: str) -> Path:
    return RESULTS / f"{date.today().isoformat()}-{name}.json"


def pytest_unconfigure(config: pytest.Config) -> None:
    name = config.getoption("--record")
    if not name:
        return
    path = _record(name)
    if path.exists():  # otherwise nothing was measured
        path.with_suffix(".md").write_text(markdown(json.loads(path.read_text())))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "group" not in metafunc.fixturenames:
        return
    config = metafunc.config
    groups = [
        Group(pipeline=pipeline, batch_size=int(batch_size), threads=int(threads))
        for pipeline in _listed(config, "--pipelines", PIPELINES)
        for batch_size in _listed(config, "--batch-sizes")
        for threads in _listed(config, "--threads")
    ]
    cases = [(group, peer) for group in groups for peer in _listed(config, "--peers", PEERS)]
    metafunc.parametrize(("group", "peer"), cases, ids=[f"{group.name}/{peer}" for group, peer in cases])


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info.clear()  # it names the host
    machine_info.update(machine.describe())


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, Any]) -> None:
    for private in ("project", "branch"):
        commit_info.pop(private, None)


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    arguments = [str(argument) for argument in config.invocation_params.args]
    output_json["command"] = " ".join(["pytest", *(_without_folders(argument) for argument in arguments)])
    output_json["absent"] = {name: entry.missing() for name, entry in PEERS.items() if entry.missing()}
    output_json["load_before"] = config._load_before  # type: ignore[attr-defined]
    corpus = getattr(config, "_corpus", None)
    output_json["corpus"] = corpus.summary() if corpus is not None else None


def _without_folders(argument: str) -> str:
    name, separator, value = argument.partition("=")
    if separator and Path(value).is_absolute():
        return f"{name}={Path(value).name}"
    return Path(argument).name if Path(argument).is_absolute() else argument


def _default_data() -> Path | None:
    folder = Path(os.environ.get("FASTLOAD_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "imagenet-sample"
    return folder if folder.exists() else None


def open_photographs(config: pytest.Config, samples: int) -> Corpus:
    """At least ``samples`` photographs from --data, FASTLOAD_TEST_DATA/imagenet-sample, or rendered ones."""
    named = config.getoption("--data")
    source = _default_data() if named is None else None if named == "synthetic" else Path(named)
    cache = os.environ.get("FASTLOAD_BENCH_CACHE", platformdirs.user_cache_dir("fastload-benchmarks", appauthor=False))
    return open_corpus(source, Path(cache), samples)


@pytest.fixture(scope="session")
def corpus(pytestconfig: pytest.Config) -> Corpus:
    """The photographs of this run, at least --samples of them."""
    corpus = open_photographs(pytestconfig, int(pytestconfig.getoption("--samples")))
    pytestconfig._corpus = corpus  # type: ignore[attr-defined]
    return corpus


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, corpus: Corpus) -> Any:
    """Measures a group when its first loader is asked for: all that were selected, in interleaved rounds."""
    measured: dict[Group, dict[str, Outcome]] = {}
    rounds = int(request.config.getoption("--rounds"))

    def outcome(group: Group, peer: str) -> Outcome:
        if group not in measured:
            peers = [
                item.callspec.params["peer"]
                for item in request.session.items
                if isinstance(item, pytest.Function)
                and hasattr(item, "callspec")
                and item.callspec.params.get("group") == group
                and runnable(item.callspec.params["peer"], group) is None
            ]
            measured[group] = measure(group, peers, corpus, rounds)
        return measured[group][peer]

    return outcome


def runnable(peer: str, group: Group) -> str | None:
    """Why a loader cannot take part in a group, or None."""
    entry = PEERS[peer]
    if entry.missing():
        return f"absent: {', '.join(entry.missing())} is not installed"
    kind = PIPELINES[group.pipeline].kind
    return None if kind in entry.kinds else f"does not offer {kind!r}"
