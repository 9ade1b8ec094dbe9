"""Small seeded folders of photographs-to-be, fast enough to be read hundreds of times."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastload import transforms as T

CLASSES = ("apple", "bread", "cheese", "dates")


def write_photos(folder: Path, *, count: int, seed: int = 5) -> None:
    """``count`` JPEGs of varying size, coarse noise scaled up so that they compress as photographs do."""
    chance = np.random.default_rng(seed)
    for number in range(count):
        height, width = chance.integers(30, 80, 2)
        coarse = Image.fromarray(chance.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        target = folder / CLASSES[number % len(CLASSES)] / f"photo-{number:03}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(target, quality=90, subsampling=0)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """50 images in 4 classes; nobody may change it."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, count=50)
    return folder


@pytest.fixture
def own_photos(tmp_path) -> Path:
    """20 images in 4 classes for one test alone, to be damaged."""
    write_photos(tmp_path / "photos", count=20)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def train() -> list[T.Transform]:
    """A random crop and flip to 16 x 16."""
    return [T.RandomResizedCrop(16), T.RandomHorizontalFlip()]


@pytest.fixture(scope="session")
def evaluate() -> list[T.Transform]:
    """The centre, 16 x 16."""
    return [T.Resize(20), T.CenterCrop(16)]
