"""Measures what there is to measure on a machine with a GPU: python -m benchmarks.gpu [loading] [training]."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import platformdirs
import torch

from benchmarks.gpu import tables
from benchmarks.gpu.training import SYNTHETIC, Course
from benchmarks.gpu.training import measure as measure_training
from benchmarks.harness import machine
from benchmarks.harness.datasets import REPOSITORY, Corpus, open_corpus
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.harness.runner import Group, measure
from benchmarks.peers import GPU_PEERS
from fastload.processors import available_processors

RESULTS = REPOSITORY / "benchmarks" / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for, prints and keeps it; answers 1 if a number is missing."""
    options = _parse(arguments)
    corpus = _corpus(options)
    given = sys.argv[1:] if arguments is None else arguments
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "command": " ".join(["python -m benchmarks.gpu", *_without_folders(given)]),
        "machine": machine.describe() | {"gpu": _gpu(options.device)},
        "corpus": corpus.summary(),
        "loading": [],
        "training": [],
    }
    for size in options.sizes:
        if "loading" in options.what:
            for augment in options.augments:
                result["loading"] += _loading(options, corpus, size, augment)
        if "training" in options.what:
            result["training"] += _training(options, corpus, size)
        print(tables.render(result), flush=True)  # so that a run that is cut short has said what it knows
        if options.record:
            _keep(options.record, result)
    return int(any(row["fault"] for row in result["loading"] + result["training"]))


def _loading(options: argparse.Namespace, corpus: Corpus, size: int, augment: str) -> list[dict[str, Any]]:
    name = f"{augment or 'train'}{size}-fp16"
    if name not in PIPELINES:
        return []
    group = Group(
        pipeline=name,
        batch_size=options.batch_size,
        threads=options.threads,
        device=options.device,
    )
    offering = [name for name in options.peers if not augment or augment in GPU_PEERS[name].augments]
    peers = [name for name in offering if not GPU_PEERS[name].missing()]
    outcomes = measure(group, peers, corpus, options.rounds)
    rows = []
    for name in offering:
        row: dict[str, Any] = {"size": size, "augment": augment, "loader": name, "fault": None}
        row["settings"] = GPU_PEERS[name].settings
        if name not in outcomes:
            row["fault"] = f"absent: {', '.join(GPU_PEERS[name].missing())} is not installed"
        elif outcomes[name].failure is not None:
            row["fault"] = str(outcomes[name].failure)
        else:
            found = outcomes[name]
            memory = found.memory
            row |= {
                "images_per_second": 1 / median(found.wall_seconds),
                "slowest": 1 / max(found.wall_seconds),
                "fastest": 1 / min(found.wall_seconds),
                "cpu_ms_per_image": 1000 * median(found.cpu_seconds),
                "gpu_ms_per_image": None if found.gpu_seconds is None else 1000 * found.gpu_seconds,
                "gpu_bytes": found.gpu_bytes,
                "memory_bytes": None if memory is None else memory.peak_allocated,
                "start_seconds": found.start_seconds,
                "check": found.check,
            }
        rows.append(row)
    return rows


def _training(options: argparse.Namespace, corpus: Corpus, size: int) -> list[dict[str, Any]]:
    rows = []
    for source in [SYNTHETIC, *options.engines]:
        course = Course(
            source=source,
            data=str(corpus.form("fastload")),
            samples=corpus.samples,
            size=size,
            model=options.model,
            model_args=json.loads(options.model_args),
            num_classes=max(1000, corpus.photographs),
            batch_size=options.train_batch_size,
            epochs=options.epochs,
            compile=options.compile,
            device=options.device,
            threads=options.threads,
        )
        rows.append({"size": size, "source": source, "model": options.model} | measure_training(course))
    return rows


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("what", nargs="*", default=["loading", "training"], help="loading, training; both by default")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: the same code without a GPU")
    parser.add_argument("--data", help="folder of JPEGs, or 'synthetic'; default: imagenet-sample, if at hand")
    parser.add_argument("--samples", type=int, default=20_000, help="at least so many samples in an epoch")
    parser.add_argument("--sizes", type=_numbers, default=[224, 192, 160], help="sides in pixels: 224, 192, 160")
    parser.add_argument("--threads", type=int, default=available_processors(), help="of each loader")
    parser.add_argument("--record", metavar="NAME", help="keep the run as benchmarks/results/DATE-NAME.json and .md")
    loading = parser.add_argument_group("loading")
    loading.add_argument("--batch-size", type=int, default=256)
    loading.add_argument("--rounds", type=int, default=5, help="epochs of each loader, in turns")
    loading.add_argument("--peers", type=lambda text: text.split(","), default=list(GPU_PEERS), help="names, by comma")
    loading.add_argument(
        "--augments",
        type=lambda text: text.split(","),
        default=[""],
        help="what is done to crops of 224 pixels, by comma: jitter, randaugment, trivial, simclr; without it nothing",
    )
    training = parser.add_argument_group("training")
    training.add_argument("--model", default="resnet50")
    training.add_argument("--model-args", default="{}", help="JSON, as the recipe's model.args")
    training.add_argument("--train-batch-size", type=int, default=512)
    training.add_argument("--epochs", type=int, default=5, help="that count; one more comes before them")
    training.add_argument("--compile", type=json.loads, default=True, help="as the recipe's train.compile, in JSON")
    training.add_argument("--engines", type=lambda text: text.split(","), default=["cpu", "dali"], help="of the Loader")
    options = parser.parse_args(arguments)
    for name in options.what:
        if name not in ("loading", "training"):
            parser.error(f"expected loading or training, got {name!r}")
    for name in options.peers:
        if name not in GPU_PEERS:
            parser.error(f"--peers: {name!r} is unknown, choose among {', '.join(GPU_PEERS)}")
    for augment in options.augments:
        if augment and f"{augment}224-fp16" not in PIPELINES:
            parser.error(f"--augments: {augment!r} is unknown")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; --device cpu runs the same code without one")
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _corpus(options: argparse.Namespace) -> Corpus:
    folder = Path(os.environ.get("FASTLOAD_TEST_DATA", REPOSITORY.parent / "shared" / "data")) / "imagenet-sample"
    source = (folder if folder.exists() else None) if options.data is None else Path(options.data)
    cache = os.environ.get("FASTLOAD_BENCH_CACHE", platformdirs.user_cache_dir("fastload-benchmarks", appauthor=False))
    return open_corpus(None if options.data == "synthetic" else source, Path(cache), options.samples)


def _gpu(device: str) -> dict[str, Any] | None:
    """What a result on a GPU depends on."""
    if device == "cpu":
        return None
    properties = torch.cuda.get_device_properties(0)
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30),
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _keep(name: str, result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['date']}-{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(tables.render(result) + "\n")


def _without_folders(arguments: Sequence[str]) -> list[str]:
    return [Path(argument).name if Path(argument).is_absolute() else argument for argument in arguments]


if __name__ == "__main__":
    sys.exit(main())
