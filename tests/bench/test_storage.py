"""What is said about pages in memory and about reading, against util-linux's fincore and the sizes of the files."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from fastload.bench import storage
from fastload.dataset import open_dataset


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.suffix in (".jpg", ".tar"))


def fincore_pages(files) -> int:
    if shutil.which("fincore") is None:
        pytest.skip("fincore (util-linux) is not installed")
    done = subprocess.run(
        ["fincore", "--bytes", "--raw", "--noheadings", "--output", "PAGES", *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(int(line) for line in done.stdout.split())


@pytest.mark.parametrize("form", ["photos", "shards"])
def test_dropped_pages_are_gone_and_read_ones_are_there(form, request):
    path = request.getfixturevalue(form)
    dataset = open_dataset(path)
    everything = np.arange(len(dataset))
    for file in files_of(path):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())  # what is not yet on the disk cannot be dropped
            opened.read()
    assert storage.share_in_memory(dataset, everything) == 1.0
    storage.drop_pages(dataset)
    left = storage.share_in_memory(dataset, everything)
    pages = fincore_pages(files_of(path))
    assert (left == 0.0) == (pages == 0)
    if pages == 0:  # a file system in memory keeps them
        size = len(dataset[5].image)
        assert 0.0 < storage.share_in_memory(dataset, everything) < 1.0
        assert fincore_pages(files_of(path)) >= size // 4096
    dataset.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_every_image_of_the_sample_is_read_once(photos, threads):
    dataset = open_dataset(photos)
    done = storage.measure_reading(dataset, threads=threads, seconds=30.0)
    assert done["reads"] == len(files_of(photos))
    assert done["num_bytes"] == sum(file.stat().st_size for file in files_of(photos))
    assert 0 < done["cpu_seconds"] <= threads * done["seconds"] + 0.02


def test_reading_ends_with_its_time(photos):
    assert storage.measure_reading(open_dataset(photos), threads=1, seconds=0.0)["reads"] == 1


def test_a_sample_of_a_large_data_set_holds_each_image_once():
    class Large:
        def __len__(self):
            return 1_000_000

    ids = storage.sample_ids(Large(), 2000)
    assert len(set(ids.tolist())) == len(ids) == 2000
    assert ids.min() >= 0
    assert ids.max() > 900_000
