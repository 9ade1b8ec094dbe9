"""A small data set that a small network can learn, a recipe for it, and a way to run it in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fastload.recipe import Recipe, dump_yaml, parse_recipe

REPOSITORY = Path(__file__).resolve().parents[2]

CLASSES = ("blue", "green", "red")
TRAIN_IMAGES, VAL_IMAGES = 60, 37


def write_images(folder: Path, count: int, seed: int) -> None:
    """Noise on a colour that tells the class, with sizes that vary."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        label = number % len(CLASSES)
        height, width = rng.integers(30, 60, 2)
        pixels = rng.integers(0, 120, (height, width, 3))
        pixels[..., 2 - label] += 100
        path = folder / CLASSES[label] / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)


def small_recipe(images: Path, directory: Path, *overrides: str) -> Recipe:
    """Two epochs of 15 batches of 4, one thread; group norm, so that a split of a batch changes nothing."""
    data = {
        "data": {"train": str(images / "train"), "val": str(images / "val"), "num_workers": 1},
        "resolution": {"min": 32},
        "model": {"name": "resnet_tiny", "args": {"width": 8, "blocks": [1, 1], "norm": "group"}},
        "optimizer": {"lr": 0.05, "args": {"momentum": 0.9}},
        "schedule": {"name": "piecewise", "points": [[0, 0.1], [0.5, 1], ["end", 0]]},
        "train": {"epochs": 2, "batch_size": 4, "seed": 5, "device": "cpu"},
        "eval": {"size": 32, "batch_size": 8},
        "report": {"directory": str(directory), "log_every": 3, "figures": False},
    }
    return parse_recipe(data, overrides)


def start(recipe: Recipe, folder: Path, *, processes: int = 1, kill_at: int | None = None) -> subprocess.Popen[str]:
    """Trains in new processes, by torchrun if there are several; rank 0 kills itself with SIGKILL after a batch."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"recipe-{kill_at}.yaml"
    path.write_text(dump_yaml(recipe))
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [str(REPOSITORY / "tests" / "train" / "runner.py"), str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    if kill_at is not None:
        environment["KILL_AT_BATCH"] = str(kill_at)
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report_of(process: subprocess.Popen[str]) -> dict:
    """What a process that was started by :func:`start` found."""
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-4000:]
    return json.loads(output.splitlines()[-1])
