"""The source of convert sees what torchvision sees, reads every byte, and knows when it is another one."""

import os

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from fastload.errors import DataError
from fastload.sources import ImageFolderSource, open_source


def test_entries_of_real_images(imagenet_sample):
    source = open_source(imagenet_sample)
    assert isinstance(source, ImageFolderSource)
    reference = ImageFolder(str(imagenet_sample))
    assert len(source) == 400
    assert list(source.classes) == reference.classes
    assert source.labels().tolist() == reference.targets
    assert source.rejected == []
    for number, (path, _) in enumerate(reference.samples):
        assert os.path.join(source.path, source.name(number)) == path
        assert source.num_bytes()[number] == os.stat(path).st_size
        if number % 20 == 0:
            with open(path, "rb") as file:
                assert source.read(number).image == file.read()
                assert source.read(number).extras == {}


@pytest.fixture
def folder(tmp_path):
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "cat" / "3.jpg").write_bytes(b"x"),
        lambda root: (root / "cat" / "1.jpg").unlink(),
        lambda root: (root / "cat" / "1.jpg").rename(root / "cat" / "0.jpg"),
        lambda root: (root / "cat" / "1.jpg").rename(root / "dog" / "2.jpg"),
        lambda root: (root / "cat" / "1.jpg").write_bytes(b"longer than before"),
        lambda root: (root / "cat").rename(root / "kitten"),
        lambda root: (root / "ant").mkdir(),
        lambda root: (root / "beside.jpg").write_bytes(b"x"),
    ],
)
def test_the_digest_follows_every_change(folder, change):
    before = open_source(folder).digest()
    assert open_source(folder).digest() == before
    change(folder)
    assert open_source(folder).digest() != before


def test_the_digest_does_not_depend_on_the_place(folder):
    before = open_source(folder).digest()
    elsewhere = folder.rename(folder.parent / "elsewhere")
    assert open_source(elsewhere).digest() == before


def test_what_cannot_be_read(folder):
    os.truncate(folder / "cat" / "1.jpg", 0)
    (folder / "cat" / "2.jpg").unlink()
    (folder / "cat" / "2.jpg").symlink_to(folder / "gone")
    with open(folder / "dog" / "1.jpg", "wb") as file:
        file.truncate((1 << 30) + 1)  # a hole: it takes no space
    source = open_source(folder)
    assert source.num_bytes().tolist() == [0, 0, (1 << 30) + 1]
    for number, says in enumerate(("empty", "cannot be opened", "1 GiB")):
        with pytest.raises(DataError, match=says):
            source.read(number)


def test_images_beside_the_classes_are_rejected_by_name(folder):
    (folder / "beside.jpg").write_bytes(b"x")
    source = open_source(folder)
    assert len(source) == 3
    assert [name for name, _ in source.rejected] == ["beside.jpg"]


def test_no_source(tmp_path):
    for name in ("missing", "file"):
        if name == "file":
            (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match=name):
            open_source(tmp_path / name)


def test_labels_are_whole_numbers(folder):
    assert open_source(folder).labels().dtype == np.int32
