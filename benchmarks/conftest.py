"""Options of the benchmarks, the photographs that they use, and what is kept of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from benchmarks.harness import machine
from benchmarks.harness.datasets import REPOSITORY, Corpus, open_corpus, open_detection_corpus
from benchmarks.harness.matrix import Matrix
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.harness.runner import Group, Outcome, measure
from benchmarks.peers import PEERS
from benchmarks.report import markdown

# The image folder is measured as it is, without what an earlier run may have noted of it.
os.environ["FASTLOAD_SEEK_CACHE_GB"] = "0"

RESULTS = Path(__file__).parent / "results"
_AUGMENTED = [name for name, pipeline in PIPELINES.items() if pipeline.augment]
# --pipelines: crops, decoding; and augmentation, beginning with the crop alone.
_PIPELINE_SETS = {
    "all": [name for name in PIPELINES if name not in _AUGMENTED],
    "augmented": ["train224-fp16", *_AUGMENTED],
    "matrix": ["train224-fp16", "train224-fp32", "train160-fp16", "eval224-fp16", "decode"],
}
_SETS = " or ".join(_PIPELINE_SETS)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("loaders")
    group.addoption("--data", help="folder of JPEGs; 'synthetic' renders some. Default: imagenet-sample, if at hand")
    group.addoption("--samples", type=int, default=2000, help="at least so many samples in an epoch")
    group.addoption("--rounds", type=int, default=5, help="interleaved rounds, one epoch of each loader in each")
    group.addoption("--pipelines", default="train224-fp16", help=f"comma-separated, or {_SETS}: {', '.join(PIPELINES)}")
    group.addoption("--batch-sizes", default="256", help="comma-separated")
    group.addoption("--threads", default="2", help="comma-separated")
    group.addoption("--peers", default="all", help=f"comma-separated, or all: {', '.join(PEERS)}")
    group.addoption(
        "--matrix",
        action="store_true",
        help="for many groups: each loader keeps its process and is checked once for each pipeline; no memory",
    )
    group.addoption("--record", metavar="NAME", help="keep the run as benchmarks/results/DATE-NAME.json and .md")


def _listed(config: pytest.Config, option: str, known: Any = None) -> list[str]:
    value = str(config.getoption(option))
    sets = _PIPELINE_SETS if option == "--pipelines" else {"all": list(known or ())}
    names = sets[value] if value in sets else value.split(",")
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
    output_json["lacks"] = {
        name: {peer: entry.lacks[pipeline.augment] for peer, entry in PEERS.items() if pipeline.augment in entry.lacks}
        for name, pipeline in PIPELINES.items()
        if pipeline.augment
    }
    boxes = getattr(config, "_corpus_with_boxes", None)
    output_json["corpus_with_boxes"] = boxes.summary() if boxes is not None else None


def _without_folders(argument: str) -> str:
    name, separator, value = argument.partition("=")
    if separator and Path(value).is_absolute():
        return f"{name}={Path(value).name}"
    return Path(argument).name if Path(argument).is_absolute() else argument


def _default_data(name: str = "imagenet-sample") -> Path | None:
    folder = Path(os.environ.get("FASTLOAD_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / name
    return folder if folder.exists() else None


def _cache() -> Path:
    named = os.environ.get("FASTLOAD_BENCH_CACHE")
    return Path(named or platformdirs.user_cache_dir("fastload-benchmarks", appauthor=False))


def open_photographs(config: pytest.Config, samples: int) -> Corpus:
    """At least ``samples`` photographs from --data, FASTLOAD_TEST_DATA/imagenet-sample, or rendered ones."""
    named = config.getoption("--data")
    source = _default_data() if named is None else None if named == "synthetic" else Path(named)
    return open_corpus(source, _cache(), samples)


@pytest.fixture(scope="session")
def corpus(pytestconfig: pytest.Config) -> Corpus:
    """The photographs of this run, at least --samples of them."""
    corpus = open_photographs(pytestconfig, int(pytestconfig.getoption("--samples")))
    pytestconfig._corpus = corpus  # type: ignore[attr-defined]
    return corpus


@pytest.fixture(scope="session")
def corpus_with_boxes(pytestconfig: pytest.Config) -> Corpus | None:
    """FASTLOAD_TEST_DATA/coco128, for detection; None where it is not at hand."""
    source = _default_data("coco128")
    if source is None:
        return None
    corpus = open_detection_corpus(source, _cache(), int(pytestconfig.getoption("--samples")))
    pytestconfig._corpus_with_boxes = corpus  # type: ignore[attr-defined]
    return corpus


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, corpus: Corpus) -> Iterator[Any]:
    """Measures a group when its first loader is asked for: all that were selected, in interleaved rounds."""
    measured: dict[Group, dict[str, Outcome]] = {}
    rounds = int(request.config.getoption("--rounds"))
    matrix = Matrix(corpus, rounds) if request.config.getoption("--matrix") else None

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
            data: Corpus | None = corpus
            if PIPELINES[group.pipeline].kind == "detect":
                data = request.getfixturevalue("corpus_with_boxes")
            if data is None:
                pytest.skip("coco128 is not at hand (set FASTLOAD_TEST_DATA to the folder that holds it)")
            if matrix is not None and data is corpus:
                measured[group] = matrix.measure(group, peers)
            else:
                measured[group] = measure(group, peers, data, rounds)
        return measured[group][peer]

    yield outcome
    if matrix is not None:
        matrix.close()


def runnable(peer: str, group: Group) -> str | None:
    """Why a loader cannot take part in a group, or None."""
    entry = PEERS[peer]
    if entry.missing():
        return f"absent: {', '.join(entry.missing())} is not installed"
    pipeline = PIPELINES[group.pipeline]
    if pipeline.augment:
        if pipeline.augment in entry.augments:
            return None
        return entry.lacks.get(pipeline.augment, "no augmentation by it is measured here")
    return None if pipeline.kind in entry.kinds else f"does not offer {pipeline.kind!r}"
