"""A small converted data set that a test may damage, and the photographs that it comes from."""

import shutil

import pytest

from fastload.convert import convert
from tests.dataset.conftest import photo


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """40 JPEGs and a PNG in two classes, and a file that is no image."""
    root = tmp_path_factory.mktemp("originals")
    for number in range(40):
        folder = root / ("cat" if number % 3 else "dog")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(photo(number, size=(200 + number, 150), quality=92))
    (root / "dog" / "drawn.png").write_bytes(photo(77, size=(90, 80), image_format="PNG"))
    (root / "dog" / "text.jpg").write_bytes(b"no image at all")
    return root


@pytest.fixture(scope="session")
def converted_once(originals, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "data"
    convert(originals, folder, shard_size="96KiB", workers=2)
    return folder


@pytest.fixture
def converted(converted_once, tmp_path):
    """A copy that a test may damage."""
    folder = tmp_path / "data"
    shutil.copytree(converted_once, folder)
    return folder
