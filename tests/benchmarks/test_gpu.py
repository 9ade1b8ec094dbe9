"""The GPU's benchmarks from end to end on a machine without one: the same code with device cpu, at a tiny size."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import tables
from benchmarks.gpu.training import Course, run
from benchmarks.harness.loaders import Task
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.peers import GPU_PEERS, find

TINY = {"model": "resnet_tiny", "model_args": {"width": 8, "blocks": [1, 1]}}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Eight smooth photographs with little at their edges."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for number in range(8):
        coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        coarse.resize((200 + 10 * number, 190), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def corpus(photographs, tmp_path_factory):
    from benchmarks.harness.datasets import open_corpus

    return open_corpus(photographs, tmp_path_factory.mktemp("cache"), 16)


@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("fastload-cpu-engine", "train192-fp16"),
        ("fastload-dali", "train192-fp16"),
        ("fastload-dali", "simclr224-fp16"),
        ("fastload-dali-tiled", "train192-fp16"),
        ("dali-webdataset", "train192-fp16"),
        ("dali-webdataset", "jitter224-fp16"),
        ("torchvision-decode", "train192-fp16"),
    ],
)
def test_the_loaders_deliver_photographs_with_their_labels(corpus, name, pipeline, monkeypatch):
    from benchmarks.harness.child import Child

    entry = find(name)
    if entry.missing():
        pytest.skip(f"{entry.missing()} is not installed")
    child = Child(
        {
            "peer": name,
            "pipeline": pipeline,
            "batch_size": 4,
            "threads": 1,
            "device": "cpu",
            "data": str(corpus.form(entry.form)),
            "samples": corpus.samples,
            "num_photographs": corpus.photographs,
            "photographs": str(corpus.photograph(0, entry.form).parent.parent),
        }
    )
    epoch = child.epoch()
    assert (epoch["fault"], epoch["gpu_bytes"]) == (None, None)
    assert epoch["images"] == 16
    traced = child.gpu_time()
    assert (traced["fault"], traced["gpu_seconds"]) == (None, None)
    check = child.check()
    assert check["fault"] is None, check
    assert check["mean_difference"] < 1.0


def test_what_is_read_by_every_loader_is_listed_once():
    assert not set(GPU_PEERS) & set(__import__("benchmarks.peers", fromlist=["PEERS"]).PEERS)
    for entry in GPU_PEERS.values():
        assert entry.kinds == ("train",)
    assert Task(pipeline=PIPELINES["train160-fp16"], batch_size=1, threads=1, data=Path(), samples=1).device == "cpu"


@pytest.mark.parametrize("source", ["synthetic", "cpu"])
def test_a_course_is_trained_and_checked(corpus, source):
    result = run(
        Course(
            source=source,
            data=str(corpus.form("fastload")),
            samples=corpus.samples,
            size=32,
            num_classes=8,
            batch_size=4,
            epochs=2,
            compile=False,
            device="cpu",
            threads=1,
            **TINY,
        )
    )
    assert result["fault"] is None
    assert result["slowest"] <= result["images_per_second"] <= result["fastest"]
    assert 0 <= result["wait_share"] == result["host_wait_share"] <= 1
    assert result["gpu_bytes"] is None


@pytest.mark.slow
def test_the_command_runs_from_end_to_end(photographs, tmp_path, monkeypatch):
    arguments = [
        *("--device", "cpu", "--data", str(photographs), "--samples", "400", "--sizes", "160", "--threads", "1"),
        *("--rounds", "1", "--batch-size", "16", "--peers", "fastload-cpu-engine,dali-webdataset,torchvision-decode"),
        *("--model", "resnet_tiny", "--model-args", json.dumps(TINY["model_args"]), "--train-batch-size", "16"),
        *("--epochs", "2", "--compile", "false", "--engines", "cpu", "--record", "tiny"),
    ]
    monkeypatch.setenv("FASTLOAD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    assert command.main(arguments) == 0
    (page,) = (tmp_path / "results").glob("*-tiny.md")
    result = json.loads(page.with_suffix(".json").read_text())
    assert [row["loader"] for row in result["loading"]] == [
        "fastload-cpu-engine",
        "dali-webdataset",
        "torchvision-decode",
    ]
    assert [row["source"] for row in result["training"]] == ["synthetic", "cpu"]
    assert all(row["images_per_second"] > 0 for row in result["loading"] + result["training"])
    text = page.read_text() + page.with_suffix(".json").read_text()
    assert str(tmp_path) not in text
    assert str(photographs.parent) not in text


def test_without_a_gpu_the_command_says_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "torch finds no CUDA device here; --device cpu" in done.stderr


def test_a_page_names_what_fell_short_and_what_is_missing():
    speed = {"slowest": 1.0, "fastest": 2.0, "gpu_bytes": 3 << 30, "fault": None}
    training = {"model": "resnet50", "wait_share": 0.08, "host_wait_share": 0.5, "compile_seconds": 41.0} | speed
    loading = {
        "cpu_ms_per_image": 0.4,
        "gpu_ms_per_image": 0.0251,
        "memory_bytes": 1 << 30,
        "check": {"mean_difference": 0.1},
    } | speed
    text = tables.render(
        {
            "date": "2026-01-01",
            "command": "python -m benchmarks.gpu",
            "machine": {
                "gpu": {"name": "NVIDIA H200", "memory_gib": 139, "driver": "580", "cuda": "13.0"},
                "processor": "x",
                "cores": 16,
                "memory_gib": 128,
                "system": "Linux",
                "python": "3.12",
                "versions": {"torch": "2.11.0"},
            },
            "corpus": {"photographs": 400, "source": "imagenet-sample", "samples": 20000, "mean_bytes": 114000},
            "loading": [
                {"size": 224, "loader": "fastload-cpu-engine", "images_per_second": 26000.0} | loading,
                {"size": 224, "loader": "dali-webdataset", "images_per_second": 20000.0} | loading,
                {"size": 224, "loader": "fastload-dali", "fault": "a | b"},
            ],
            "training": [
                {"size": 224, "source": "synthetic", "images_per_second": 8000.0} | training,
                {"size": 224, "source": "cpu", "images_per_second": 7200.0} | training,
            ],
        }
    )
    assert "| 224 | fastload-cpu-engine | 26,000 (1 to 2) | 1.30x | 0.400 | 0.025 | 3.0 GiB | 1.0 GiB | 0.10 |" in text
    assert "| 224 | fastload-dali | a / b | | | | | | |" in text
    assert "| cpu | 7,200 (1 to 2) | 90.0% (goal 97%) | 8.0% | 50.0% | 41 s | 3.0 GiB |" in text
