"""A folder of images is the data set that torchvision's ImageFolder sees; what is odd in it is found."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from fastload.dataset import ImageFolderDataset, open_dataset
from fastload.errors import DataError


def assert_equals_torchvision(folder):
    reference = ImageFolder(str(folder), allow_empty=True)
    with open_dataset(folder) as dataset:
        ids = np.arange(len(dataset))
        assert [dataset.location(number) for number in ids] == [path for path, _ in reference.samples]
        assert dataset.labels(ids).tolist() == reference.targets
        assert list(dataset.classes) == reference.classes
        assert dataset.shard_sizes().sum() == len(dataset)
        return len(dataset)


def test_samples_and_classes_of_real_images(imagenet_sample, imagenette):
    assert assert_equals_torchvision(imagenet_sample) == 400
    assert assert_equals_torchvision(imagenette / "val") == 2000


def test_sizes_of_real_images(imagenet_sample):
    with open_dataset(imagenet_sample) as dataset:
        ids = np.arange(0, 400, 7)
        sizes = dataset.sizes(ids)
        assert sizes.dtype == np.int32
        for number, (height, width) in zip(ids, sizes, strict=True):
            with Image.open(dataset.location(number)) as image:
                assert (image.height, image.width) == (height, width)


def test_nested_folders_odd_names_and_every_extension(tmp_path, make_photo):
    names = [
        "b/1.jpg",
        "b/a b/ä ö.JPG",
        "b/a-b/x.jpeg",
        "b/a/z/1.Png",
        "b/a.b/1.webp",
        "a/2.bmp",
        "ab/3.tiff",
        "a/n.txt",
    ]
    names += [f"a/{'long' * 60}.jpg", "Ä/1.ppm", "a/.hidden.jpg", "a/two.dots.jpg", "a/new\nline.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(make_photo(1))
    with open(os.fsencode(tmp_path / "a") + b"/\xff\xfe.jpg", "wb") as file:
        file.write(make_photo(2))
    (tmp_path / "none").mkdir()
    assert assert_equals_torchvision(tmp_path) == 13
    with open_dataset(tmp_path) as dataset:
        for number in range(13):
            assert dataset[number].image in (make_photo(1), make_photo(2))


def test_links_are_followed_and_loops_are_not(tmp_path, make_photo):
    (tmp_path / "cat" / "more").mkdir(parents=True)
    (tmp_path / "cat" / "1.jpg").write_bytes(make_photo(1))
    (tmp_path / "cat" / "more" / "2.jpg").write_bytes(make_photo(2))
    (tmp_path / "cat" / "more" / "back").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "itself").symlink_to(tmp_path / "cat" / "itself")
    (tmp_path / "cat" / "link.jpg").symlink_to(tmp_path / "cat" / "1.jpg")
    (tmp_path / "kitten").symlink_to(tmp_path / "cat" / "more")
    with open_dataset(tmp_path) as dataset:
        keys = [dataset.key(number) for number in range(len(dataset))]
        # Through "kitten" there is one way down into cat and no further.
        assert keys == [
            "cat/1.jpg",
            "cat/link.jpg",
            "cat/more/2.jpg",
            "kitten/2.jpg",
            "kitten/back/1.jpg",
            "kitten/back/link.jpg",
        ]


def test_a_folder_without_classes_has_no_labels(tmp_path, make_photo):
    for number in (2, 10, 1):
        (tmp_path / f"{number}.png").write_bytes(make_photo(number, image_format="PNG"))
    with open_dataset(tmp_path) as dataset:
        assert dataset.classes == ()
        assert dataset.schema == {"image": "image"}
        assert [dataset.key(number) for number in range(3)] == ["1.png", "10.png", "2.png"]
        assert dataset.labels(np.arange(3)).tolist() == [-1, -1, -1]
        assert dataset.sizes(np.arange(3)).tolist() == [[30, 40]] * 3
        assert dataset[1].label == -1


def test_images_beside_the_classes_are_named(tmp_path, make_photo):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(make_photo(1))
    (tmp_path / "montage.jpg").write_bytes(make_photo(2))
    dataset = ImageFolderDataset(tmp_path)
    assert len(dataset) == 1
    assert dataset.stray == ("montage.jpg",)


def test_the_root_of_splits_is_refused_with_the_choice(tmp_path, make_photo, imagenette):
    with pytest.raises(DataError, match=r"choose one of them: .*/train or .*/val"):
        open_dataset(imagenette)
    for name in ("train", "bus"):  # but these are classes
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(make_photo(1))
    assert open_dataset(tmp_path).classes == ("bus", "train")


def test_reading_what_is_empty_missing_or_no_file(tmp_path, make_photo):
    folder = tmp_path / "cat"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"")
    (folder / "2.jpg").symlink_to(folder / "gone")
    os.mkfifo(folder / "3.jpg")
    (folder / "4.jpg").write_bytes(make_photo(4)[:300])
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "6.jpg").write_bytes(make_photo(6))
    with open_dataset(tmp_path) as dataset:
        assert dataset.sizes(np.arange(6)).tolist()[5] == [30, 40]
        assert (dataset.sizes(np.array([0, 1, 2, 4])) == 0).all()
        assert dataset.num_bytes(np.arange(6)).tolist() == [0, 0, 0, 300, 8, len(make_photo(6))]
        buffer = np.zeros(1 << 16, np.uint8)
        for number, says in ((0, "empty"), (1, "cannot be opened"), (2, "regular file")):
            with pytest.raises(DataError, match=says) as caught:
                dataset.read_into(number, buffer)
            assert caught.value.path == dataset.location(number)
            assert caught.value.key == dataset.key(number)
        assert dataset.read_into(5, buffer) == len(make_photo(6))
        with pytest.raises(DataError, match="does not fit"):
            dataset.read_into(5, buffer[:100])


def test_a_size_behind_long_headers_is_found(tmp_path):
    """A profile of 100 KB stands before the frame header."""
    path = tmp_path / "1.jpg"
    Image.new("RGB", (33, 44)).save(path, icc_profile=os.urandom(100_000))
    assert open_dataset(tmp_path).sizes(np.array([0])).tolist() == [[44, 33]]


def test_no_bytes_make_the_size_reader_fail_or_hang(tmp_path, make_photo):
    rng = np.random.default_rng(3)
    path = tmp_path / "1.jpg"
    for _ in range(500):
        data = bytearray(make_photo(1)[: int(rng.integers(4, 700))])
        for _ in range(int(rng.integers(0, 12))):
            data[int(rng.integers(3, len(data)))] = int(rng.choice([0, 0xC0, 0xDA, 0xFF, int(rng.integers(256))]))
        path.write_bytes(data)
        height, width = open_dataset(tmp_path).sizes(np.array([0]))[0]
        assert 0 <= height < 65536
        assert 0 <= width < 65536


def test_the_fingerprint_follows_names_sizes_and_classes(tmp_path, make_photo):
    folder = tmp_path / "cat"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(make_photo(1))
    prints = [open_dataset(tmp_path).fingerprint]
    assert prints[0] == open_dataset(tmp_path).fingerprint
    (folder / "1.jpg").write_bytes(make_photo(1) + b"\0")
    prints.append(open_dataset(tmp_path).fingerprint)
    (folder / "1.jpg").rename(folder / "2.jpg")
    prints.append(open_dataset(tmp_path).fingerprint)
    (tmp_path / "dog").mkdir()
    prints.append(open_dataset(tmp_path).fingerprint)
    assert len(set(prints)) == 4


def test_a_copy_in_another_process(tmp_path, make_photo):
    (tmp_path / "1.jpg").write_bytes(make_photo(1))
    dataset = open_dataset(tmp_path)
    assert pickle.loads(pickle.dumps(dataset))[0] == dataset[0]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_folder_that_may_not_be_listed_is_an_error(tmp_path, make_photo):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(make_photo(1))
    (tmp_path / "dog").mkdir()
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    (tmp_path / "dog").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be listed"):
            open_dataset(tmp_path)
    finally:
        (tmp_path / "dog").chmod(0o700)
