"""A small folder of photographs-to-be, the shards made of it, and a recipe for it."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fastload import transforms as T
from fastload.convert import convert
from fastload.transforms.config import to_config

NUM_PHOTOS = 48


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """48 JPEGs of varying size in three classes; nobody may change it."""
    folder = tmp_path_factory.mktemp("bench") / "photos"
    chance = np.random.default_rng(3)
    for number in range(NUM_PHOTOS):
        height, width = chance.integers(200, 320, 2)
        coarse = Image.fromarray(chance.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        path = folder / f"class{number % 3}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


@pytest.fixture(scope="session")
def shards(photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "shards"
    convert(photos, folder)
    return folder


@pytest.fixture(scope="session")
def recipe(photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "recipe.yaml"
    data = {
        "data": {"train": str(photos), "val": str(photos), "num_workers": 1},
        "resolution": {"min": 32},
        "model": {"name": "resnet_tiny", "args": {"width": 8, "blocks": [1, 1]}},
        "train": {"epochs": 2, "batch_size": 16, "device": "cpu"},
        "eval": {"size": 32},
    }
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="session")
def work() -> list:
    """A crop of 64 pixels, flipped, normalised to float16."""
    return to_config(
        [
            T.RandomResizedCrop(64),
            T.RandomHorizontalFlip(),
            T.ToDtype("float16", scale=True),
            T.Normalize([0.5, 0.5, 0.5], [0.25, 0.25, 0.25]),
        ]
    )
