"""Trains one network on one source at one resolution, in a process of its own, and says how fast."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from benchmarks.harness.datasets import REPOSITORY
from fastload.errors import FastloadError
from fastload.recipe import parse_recipe
from fastload.train import EpochInfo, Progress, TrainReport, train

SYNTHETIC = "synthetic"


@dataclass(frozen=True, kw_only=True)
class Course:
    """What is trained.

    Attributes:
        source: ``synthetic``, or an engine of fastload's Loader.
        data: Converted data set (synthetic data do not read it).
        samples: Samples of an epoch.
        size: Side of the images in pixels.
        model, model_args: The network.
        num_classes: Its outputs.
        batch_size: Images of a step.
        epochs: Epochs that count; one more comes before them.
        compile: As ``train.compile``.
        device: ``cpu`` or ``cuda``.
        threads: Of the Loader.
    """

    source: str
    data: str
    samples: int
    size: int
    model: str
    model_args: dict[str, Any]
    num_classes: int
    batch_size: int
    epochs: int
    compile: bool | str
    device: str
    threads: int


class _Epochs(Progress):
    def __init__(self) -> None:
        self.infos: list[EpochInfo] = []

    def epoch(self, info: EpochInfo) -> None:
        self.infos.append(info)


def run(course: Course) -> dict[str, Any]:
    """Trains in this process and checks the account before a number counts.

    Returns:
        images_per_second (median of the epochs that count), slowest and fastest, wait_share, host_wait_share,
        compile_seconds, engine (what read, and why), gpu_bytes (most that torch had allocated; None on the CPU), and
        ``fault``: why they do not count, or None.
    """
    epochs = _Epochs()
    with tempfile.TemporaryDirectory() as folder:
        report = train(_recipe(course, folder), progress=epochs)
    counted = epochs.infos[1:]
    speeds = [info.images_per_second for info in counted]
    cuda = course.device != "cpu"
    return {
        "images_per_second": median(speeds),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "wait_share": median(info.wait_share for info in counted),
        "host_wait_share": median(info.host_wait_share for info in counted),
        "compile_seconds": report.compile_seconds,
        "engine": report.engine,
        "gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "fault": _fault(course, report, [info.loss for info in counted]),
    }


def _recipe(course: Course, folder: str) -> Any:
    synthetic = course.source == SYNTHETIC
    return parse_recipe(
        {
            "data": {
                "train": course.data,
                "val": course.data,
                "synthetic": synthetic,
                "synthetic_samples": course.samples,
                "engine": "auto" if synthetic else course.source,
                "num_workers": course.threads,
            },
            "resolution": {"min": course.size},
            "model": {"name": course.model, "args": course.model_args, "num_classes": course.num_classes},
            "optimizer": {"lr": 0.1, "lr_batch": 1024, "args": {"momentum": 0.9}},
            "train": {
                "epochs": course.epochs + 1,
                "batch_size": course.batch_size,
                "device": course.device,
                "compile": course.compile,
                "label_smoothing": 0.1,
            },
            "eval": {"size": course.size, "every": course.epochs + 1},
            "checkpoint": {"every_epochs": course.epochs + 1},
            "report": {"directory": folder, "figures": False, "tensorboard": "off", "log_every": 1_000_000},
        }
    )


def _fault(course: Course, report: TrainReport, losses: list[float]) -> str | None:
    expected = (course.epochs + 1) * (course.samples // course.batch_size) * course.batch_size
    if report.train_images != expected:
        return f"trained on {report.train_images} images, expected {expected}"
    if not all(math.isfinite(loss) for loss in losses):
        return f"losses {losses}"
    if report.synthetic != (course.source == SYNTHETIC):
        return "trained on another source than was asked for"
    account = report.train_account
    if course.source != SYNTHETIC and (account.read, account.skipped) != (expected, 0):
        return f"{account.read} images were read and {account.skipped} skipped, expected {expected} and 0"
    if report.graphs[1]:
        return f"{report.graphs[1]} graphs were compiled in the middle of training"
    return None


def measure(course: Course) -> dict[str, Any]:
    """:func:`run` in a new process; a failure is told as ``fault``."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.training", json.dumps(asdict(course))],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        words = done.stderr.strip().splitlines()
        return {"fault": words[-1] if words else f"exit code {done.returncode}"}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def main() -> None:
    """One course, as JSON in the first argument; the result is the last line that is printed."""
    try:
        result = run(Course(**json.loads(sys.argv[1])))
    except FastloadError as error:
        result = {"fault": str(error)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
