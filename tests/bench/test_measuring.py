"""The contestants' own figures against clocks and counts that they have no part in."""

import threading
import time

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from fastload import transforms as T
from fastload.bench.contestants import Contestant
from fastload.bench.feeding import LoaderContestant
from fastload.bench.task import Task
from fastload.bench.torch_loader import StoredImages, torchvision_transforms
from fastload.dataset import open_dataset
from fastload.transforms.config import to_config
from tests.bench.conftest import NUM_PHOTOS


def task(path, work, **changes) -> Task:
    settings = {"batch_size": 16, "channels_last": True, "cold": False, "loader": {}, **changes}
    return Task(path=str(path), transforms=work, **settings)


def cpu_seconds(processes) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def test_the_loader_counts_what_it_delivered(photos, work):
    contestant = LoaderContestant(task(photos, work))
    contestant.first_batch(2)
    cpu, wall = time.process_time(), time.perf_counter()
    done = contestant.measure(2, 0.5)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert done.images > 0
    assert 0.5 <= done.seconds <= wall
    assert 0 < done.cpu_seconds <= cpu
    # Batches are under way when the clock starts and when it stops.
    assert done.counts["decoder.fastload"] == pytest.approx(done.images, abs=4 * 16)
    assert sum(seconds for stage, seconds in done.spans.items() if stage != "wait") <= 2.1 * wall
    memory = psutil.Process().memory_info()
    # Pages of files are not counted: in a process that imported much they are half of its private ones.
    assert 0.8 * (memory.rss - memory.shared) < done.memory_bytes < 1.1 * memory.rss
    contestant.close()


def test_a_cold_round_reads_every_file_once(photos, work):
    contestant = LoaderContestant(task(photos, work, cold=True))
    contestant.drop()
    done = contestant.measure(1, 60.0)
    assert done.images == NUM_PHOTOS
    assert done.counts["bytes.read"] == sum(file.stat().st_size for file in photos.rglob("*.jpg"))
    contestant.close()


def test_facts_of_folder_and_shards(photos, shards, work):
    mean = np.mean([file.stat().st_size for file in photos.rglob("*.jpg")])
    for path, form in ((photos, "folder"), (shards, "shards")):
        contestant = LoaderContestant(task(path, work))
        facts = contestant.describe()["data"]
        assert (facts["form"], facts["samples"], facts["classes"]) == (form, NUM_PHOTOS, 3)
        assert facts["mean_bytes"] == pytest.approx(mean)
        assert facts["seek_index"] == (form == "shards")
        contestant.close()


def test_python_is_slowed_by_a_thread_that_holds_the_lock(photos, work):
    """What is measured is the lock: the Loader's share of it is small, and grows with a thread that spins."""
    contestant = LoaderContestant(task(photos, work))
    contestant.first_batch(1)
    free = contestant.gil(2, 1.2)
    if not free:
        pytest.skip("one processor: nothing to measure with")
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            pass

    spinner = threading.Thread(target=spin)
    spinner.start()
    try:
        locked = contestant.gil(2, 1.2)
    finally:
        stop.set()
        spinner.join()
        contestant.close()
    assert locked["main_thread_speed"] < free["main_thread_speed"]
    assert locked["us_per_image"] > 3 * free["us_per_image"]


@pytest.mark.parametrize("form", ["photos", pytest.param("shards", marks=pytest.mark.slow)])
def test_the_dataloader_is_counted_with_its_workers(form, work, request):
    before = set(psutil.Process().children(recursive=True))
    with Contestant("DataLoader", "torch", task(request.getfixturevalue(form), work)) as contestant:
        contestant.wait_until_ready()
        contestant.ask("first_batch", threads=2)
        processes = set(psutil.Process().children(recursive=True)) - before
        assert len(processes) == 3
        cpu = cpu_seconds(processes)
        done = contestant.measure(2, 1.0)
        cpu = cpu_seconds(processes) - cpu
        memory = [process.memory_full_info() for process in processes]
    assert not any(process.is_running() for process in processes)
    assert done.images % (2 * 16) == 0
    assert done.images > 0
    assert done.cpu_seconds == pytest.approx(cpu, rel=0.2, abs=0.15)  # psutil counts in hundredths
    # Private pages, less those of files, which are few; all pages, those of libraries and shared ones several times.
    assert 0.6 * sum(one.uss for one in memory) < done.memory_bytes < 1.1 * sum(one.rss for one in memory)


def test_stored_images_are_those_of_the_folder(photos, shards):
    """What the DataLoader reads out of shards is what torchvision's ImageFolder reads from the files."""
    transform, _ = torchvision_transforms(to_config([T.Resize(40), T.CenterCrop(32)]))
    with open_dataset(shards) as dataset:
        stored = StoredImages(dataset, transform)
        theirs = ImageFolder(str(photos), transform)
        assert len(stored) == len(theirs)
        numbers = {name: number for number, (name, _) in enumerate(theirs.samples)}
        for index in range(0, len(stored), 7):
            pixels, label = theirs[numbers[str(photos / dataset.source(index))]]
            assert torch.equal(stored[index][0], pixels)
            assert stored[index][1] == label


def test_torchvision_does_the_same_work(photos):
    """Every step by hand, and fastload's own pixels."""
    config = to_config([T.Resize(80), T.CenterCrop(64), T.ToDtype("float16", scale=True), T.Normalize([0.4], [0.2])])
    transform, dtype = torchvision_transforms(config)
    assert dtype is torch.float16
    image = Image.open(photos / "class0" / "00.jpg")
    by_hand = v2.functional.center_crop(v2.functional.resize(image, [80], antialias=True), [64, 64])
    expected = (torch.from_numpy(np.array(by_hand)).permute(2, 0, 1) / 255 - 0.4) / 0.2
    assert torch.allclose(transform(image), expected, atol=1e-5)


def test_torchvision_delivers_uint8_where_nothing_is_converted(photos):
    transform, dtype = torchvision_transforms(to_config([T.RandomResizedCrop(32, interpolation="bicubic")]))
    found = transform(Image.open(photos / "class0" / "00.jpg"))
    assert (found.dtype, dtype, tuple(found.shape)) == (torch.uint8, torch.uint8, (3, 32, 32))
    assert transform.transforms[0].interpolation.value == "bicubic"
