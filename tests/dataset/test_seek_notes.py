"""Seek indexes of image folders in the user's cache: the same pixels, no stale ones, no more bytes than allowed."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fastload import Loader
from fastload import transforms as T
from fastload.dataset.image_folder import ImageFolderDataset
from fastload.errors import ConfigError
from fastload.jpeg.decoder import build_index, warm_up_indexer

COUNT = 24


def save(path, number, **options):
    """A picture of its own for each number, a minute old."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8))
    small.resize((200 + number, 160), Image.Resampling.BICUBIC).save(path, **options)
    minute_old(path)


def minute_old(path, age=60):
    moment = time.time() - age
    os.utime(path, (moment, moment))


@pytest.fixture
def photos(tmp_path):
    """22 JPEGs of all samplings, one progressive, one PNG."""
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for number in range(COUNT - 1):
        save(folder / "a" / f"{number:02}.jpg", number, quality=88, subsampling=number % 3, progressive=number == 7)
    save(folder / "a" / "99.png", 99)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the cache, empty."""
    warm_up_indexer()
    monkeypatch.setattr("fastload.dataset.seek_cache.user_cache_directory", lambda: tmp_path / "cache")
    monkeypatch.setenv("FASTLOAD_SEEK_CACHE_GB", "1")
    return tmp_path / "cache" / "seek"


def note(folder, ids=None, most=10_000):
    """Reads samples, as an engine would, and has up to ``most`` noted in idle time; how many were."""
    with ImageFolderDataset(folder) as dataset:
        dataset.plan_reads(np.arange(len(dataset)) if ids is None else np.asarray(ids))
        return sum(1 for _ in iter(lambda: dataset.tend(busy=False) if most else False, False))


def indexed(folder):
    """Samples whose index the cache has."""
    with ImageFolderDataset(folder) as dataset:
        dataset.plan_reads(np.arange(len(dataset)))
        return [number for number in range(len(dataset)) if dataset.seek_index(number).size]


JPEGS = [number for number in range(COUNT - 1) if number != 7]


def pixels(folder, epochs=1):
    """The images of the last epoch."""
    transforms = [T.RandomResizedCrop(48), T.RandomHorizontalFlip()]
    with Loader(folder, batch_size=6, transforms=transforms, seed=1, num_workers=2) as loader:
        for epoch in range(epochs):
            loader.set_epoch(epoch)
            images = np.concatenate([batch.images.numpy() for batch in loader])
        return images


def seek_files(cache):
    return sorted(cache.glob("*.seek"))


def test_noted_once_and_found_in_the_next_run(photos, cache):
    assert note(photos) == COUNT
    (file,) = seek_files(cache)
    with ImageFolderDataset(photos) as dataset:
        plan = dataset.plan_reads(np.arange(COUNT))
        assert (plan.reads.seek[:, 0] != 0).all()
        assert not dataset.tend(busy=False)  # nothing is left to do
        for number in range(COUNT):
            data = dataset[number].image
            expected = b"" if number not in JPEGS else build_index(data)
            assert dataset.seek_index(number).tobytes() == expected
    assert [path.name for path in cache.iterdir()] == [file.name, file.with_suffix(".lock").name] or {
        path.suffix for path in cache.iterdir()
    } == {".seek", ".lock"}


def test_pixels_are_the_same_without_with_and_while(photos, cache, monkeypatch):
    monkeypatch.setenv("FASTLOAD_SEEK_CACHE_GB", "0")
    expected = [pixels(photos, epochs) for epochs in (1, 2, 3)]
    assert not cache.exists()
    monkeypatch.setenv("FASTLOAD_SEEK_CACHE_GB", "1")
    for epochs in (1, 2, 3):
        np.testing.assert_array_equal(pixels(photos, epochs), expected[epochs - 1])
    note(photos)
    assert indexed(photos) == JPEGS
    for epochs in (1, 2, 3):
        np.testing.assert_array_equal(pixels(photos, epochs), expected[epochs - 1])


def test_an_edited_file_never_uses_what_was_noted_before(photos, cache):
    note(photos)
    save(photos / "a" / "03.jpg", 300, quality=88)
    assert indexed(photos) == [number for number in JPEGS if number != 3]
    assert note(photos) == 1
    assert indexed(photos) == JPEGS


def test_an_edited_file_of_equal_size_and_time_gives_its_own_pixels(photos, cache, monkeypatch):
    """What the stamp cannot see the decoder does."""
    one, other = photos / "a" / "03.jpg", photos / "a" / "04.jpg"
    save(one, 500, quality=88)
    save(other, 500, quality=88)
    image = Image.open(one)
    image.load()
    data = bytearray(one.read_bytes())
    note(photos)
    before = one.stat()
    # Other coefficients in a file of equal length: a code that is repeated elsewhere.
    Image.fromarray(np.asarray(image)[::-1]).save(one, quality=88)
    changed = one.read_bytes()
    changed = changed[:-2].ljust(len(data) - 2, b"\0")[: len(data) - 2] + b"\xff\xd9"
    one.write_bytes(changed)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert one.stat().st_size == before.st_size
    assert 3 in indexed(photos)  # stale
    with Loader(photos, batch_size=COUNT, transforms=[T.RandomResizedCrop(48)], seed=4, on_error="skip") as loader:
        found = next(iter(loader)).images.numpy()
    monkeypatch.setenv("FASTLOAD_SEEK_CACHE_GB", "0")
    with Loader(photos, batch_size=COUNT, transforms=[T.RandomResizedCrop(48)], seed=4, on_error="skip") as loader:
        np.testing.assert_array_equal(found, next(iter(loader)).images.numpy())


def test_a_file_that_was_just_written_is_not_noted(photos, cache):
    minute_old(photos / "a" / "05.jpg", age=0)
    note(photos)
    assert indexed(photos) == [number for number in JPEGS if number != 5]


def test_beside_other_work_only_what_is_read_again_is_noted(photos, cache):
    with ImageFolderDataset(photos) as dataset:
        dataset.plan_reads(np.arange(10))
        assert not dataset.tend(busy=True)
        dataset.plan_reads(np.arange(5))
        assert [dataset.tend(busy=True) for _ in range(6)] == [True] * 5 + [False]
        assert [dataset.tend(busy=False) for _ in range(6)] == [True] * 5 + [False]
    assert indexed(photos) == [number for number in range(10) if number != 7]


def test_two_that_note_at_once_lose_nothing(photos, cache):
    with ImageFolderDataset(photos) as one, ImageFolderDataset(photos) as other:
        for dataset, ids in ((one, np.arange(12)), (other, np.arange(8, COUNT))):
            dataset.plan_reads(ids)
            while dataset.tend(busy=False):
                pass
    assert indexed(photos) == JPEGS


def test_names_that_change_are_another_data_set(photos, cache):
    note(photos)
    (photos / "a" / "00.jpg").rename(photos / "a" / "50.jpg")
    assert indexed(photos) == []
    note(photos)
    assert len(seek_files(cache)) == 2


def test_a_damaged_file_is_replaced(photos, cache):
    note(photos)
    (file,) = seek_files(cache)
    good = file.read_bytes()
    flipped = [good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :] for at in (3, 20, 70)]
    for damaged in (b"", good[:100], os.urandom(len(good)), *flipped):
        file.write_bytes(damaged)
        assert indexed(photos) == []
        note(photos)
        assert file.read_bytes() == good
    in_an_index = bytearray(good)
    in_an_index[-300] ^= 1
    file.write_bytes(in_an_index)
    assert len(indexed(photos)) == len(JPEGS) - 1


def test_the_limit_holds_and_the_folders_used_longest_ago_go_first(photos, cache, tmp_path, monkeypatch):
    note(photos)
    (first,) = seek_files(cache)
    size = first.stat().st_size
    minute_old(first)
    monkeypatch.setenv("FASTLOAD_SEEK_CACHE_GB", str(2.5 * size / 1e9))
    for number in range(2):
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        for path in (photos / "a").iterdir():
            os.link(path, copy / path.name)
        note(copy)
        minute_old(max(seek_files(cache), key=lambda path: path.stat().st_mtime), age=30 - number)
    assert first not in seek_files(cache)
    assert len(seek_files(cache)) == 2
    monkeypatch.setenv("FASTLOAD_SEEK_CACHE_GB", str(0.5 * size / 1e9))
    note(photos)
    assert first not in seek_files(cache)


@pytest.mark.parametrize("value", ["many", "-1", "nan"])
def test_a_limit_that_is_none_is_an_error(photos, monkeypatch, value):
    monkeypatch.setenv("FASTLOAD_SEEK_CACHE_GB", value)
    with ImageFolderDataset(photos) as dataset, pytest.raises(ConfigError, match="number of gigabytes"):
        dataset.plan_reads(np.arange(3))


def test_a_cache_that_cannot_be_written_costs_nothing_but_speed(photos, cache, monkeypatch, caplog):
    cache.parent.write_bytes(b"a file where the folder should be")
    assert note(photos) == 0
    cache.parent.unlink()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastload.dataset.seek_cache.write_seek_file", full)
    with caplog.at_level(logging.WARNING, logger="fastload"):
        note(photos)
    assert "No space left" in caplog.text
    assert seek_files(cache) == []


CHILD = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
import fastload.dataset.seek_cache as seek_cache
from fastload.dataset.image_folder import ImageFolderDataset
folder, cache, moment, ids = sys.argv[1], Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
seek_cache.user_cache_directory = lambda: cache
def hook(event, arguments):
    if event == moment and str(arguments[0]).startswith(str(cache)) and ".tmp" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
with ImageFolderDataset(folder) as dataset:
    dataset.plan_reads(np.array(ids))
    while dataset.tend(busy=False):
        pass
"""


@pytest.mark.parametrize("moment", ["os.rename", "open"])
def test_killed_while_it_writes_it_leaves_what_was_there(photos, cache, moment):
    note(photos, ids=range(6))
    (file,) = seek_files(cache)
    before = file.read_bytes()
    command = [sys.executable, "-c", CHILD, photos, cache.parent, moment, json.dumps(list(range(COUNT)))]
    child = subprocess.run(command, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert file.read_bytes() == before
    note(photos)
    assert indexed(photos) == JPEGS
    assert {path.suffix for path in cache.iterdir()} == {".seek", ".lock"}


def test_processes_that_note_together_lose_nothing(photos, cache):
    parts = [list(range(start, COUNT, 3)) for start in range(3)]
    command = [sys.executable, "-c", CHILD, photos, cache.parent, "never"]
    children = [subprocess.Popen([*command, json.dumps(part)]) for part in parts]
    assert [child.wait(timeout=600) for child in children] == [0, 0, 0]
    assert indexed(photos) == JPEGS
