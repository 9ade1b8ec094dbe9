"""A small converted data set and the folder that it comes from."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from fastload.convert import convert


def photo(number: int, size=(40, 30), image_format="JPEG", **options) -> bytes:
    """A small picture that differs for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_photo():
    return photo


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """60 JPEGs of various sizes in three classes, one of them empty."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(60):
        folder = root / ("cat" if number % 3 else "dog") / ("nested" if number % 4 == 0 else ".")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(photo(number, size=(200 + number, 150), quality=92))
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="session")
def converted_once(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "data"
    convert(photos, folder, shard_size="64KiB")
    return folder


@pytest.fixture
def converted(converted_once, tmp_path):
    """A copy that a test may damage."""
    folder = tmp_path / "data"
    shutil.copytree(converted_once, folder)
    return folder
