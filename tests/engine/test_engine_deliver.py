"""The kernel that reads, decodes and resamples by itself: which images it delivers, and which it leaves to Python."""

import contextlib
import gc
import os
import shutil
import subprocess
import threading
import weakref
import zlib

import numpy as np
import pytest

import fastload as fl
from fastload.dataset import ImageFolderDataset, open_dataset
from fastload.dataset.reads import ReadPlan
from fastload.engine.base import LateSlot
from fastload.engine.cpu import CpuEngine
from fastload.engine.cpu.job import KERNEL_READS, Job, Layouts
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.deliver import NEXT_ITEM, STOP, read_ahead
from fastload.engine.cpu.read_ahead import ReadAhead
from fastload.engine.cpu.worker import Worker
from fastload.jit import kernel
from fastload.jpeg.decoder import build_index
from fastload.jpeg.intrinsics import address_of
from fastload.jpeg.seek_file import write_seek_file
from fastload.jpeg.seek_lookup import CRC_SCRATCH, crc32, find_index
from fastload.stats import Stats
from tests.engine.helpers import DiskDataset, eventually, jpeg, make_output, make_slot, picture, whole_images

pytestmark = pytest.mark.skipif(not KERNEL_READS, reason="no such kernel on this machine")

COUNT = 20


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photographs of one size, in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        path = folder / "ab"[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(picture(120, 160, seed=number), quality=90))
    return folder


@pytest.fixture(scope="module")
def shards(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "shards"
    fl.convert(photos, folder, shard_size="64KiB")
    return folder


def deliver(dataset, stats=None, plan=None):
    """All samples of a data set twice (buffers grow in the first pass); pixels and failures of the second."""
    output = make_output((32, 32))
    engine = CpuEngine(dataset, output, num_workers=1, stats=stats or Stats())
    try:
        engine.submit(whole_images(dataset, output), make_slot(len(dataset), output)).result()
        asked = count_reads(dataset)
        slot = make_slot(len(dataset), output)
        failures = engine.submit(plan or whole_images(dataset, output), slot).result()
    finally:
        engine.close()
    return slot, failures, asked


def count_reads(dataset):
    """A list that names the samples that ``read_into`` is asked for from now on."""
    asked, read_into = [], dataset.read_into

    def counting(sample_id, buffer):
        asked.append(sample_id)
        return read_into(sample_id, buffer)

    dataset.read_into = counting
    return asked


def test_checksums_are_those_of_zlib():
    @kernel
    def checksum(data, begin, length, scratch):
        return crc32(address_of(data) + np.uint64(begin), length, address_of(scratch))

    data, scratch = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8), np.zeros(CRC_SCRATCH, np.uint8)
    for begin in (0, 1, 13):
        for length in [*range(300), 4096, 4900]:
            assert checksum(data, begin, length, scratch) == zlib.crc32(data[begin : begin + length]), (begin, length)


def test_a_seek_file_is_looked_up_as_it_is_from_python(shards):
    @kernel
    def look_up(seek, image_crc, scratch):
        address, size = find_index(seek, image_crc, address_of(scratch))
        return np.int64(address), size

    scratch = np.zeros(CRC_SCRATCH, np.uint8)
    with open_dataset(shards) as dataset:
        reads = dataset.plan_reads(np.arange(COUNT)).reads
        for number in range(COUNT):
            index = dataset.seek_index(number)
            assert index.size > 0
            assert look_up(reads.seek[number], reads.crc32[number], scratch) == (index.ctypes.data, index.size)
            assert look_up(reads.seek[number], reads.crc32[number] ^ 1, scratch)[1] == 0, "made of another image"
            for field, value in ((0, 0), (3, -1), (3, reads.seek[number, 2]), (1, 100)):
                seek = reads.seek[number].copy()
                seek[field] = value
                assert look_up(seek, reads.crc32[number], scratch)[1] == 0
        dataset.seek_index(3)[-9] ^= 1  # in the process's own memory of the file
        assert look_up(reads.seek[3], reads.crc32[3], scratch)[1] == 0


@pytest.mark.parametrize("budget", [1000, 1, 0])
@pytest.mark.parametrize("verify", ["first", "always", "never"])
def test_shards_are_read_without_python(photos, shards, budget, verify):
    with open_dataset(photos) as folder, open_dataset(shards, verify=verify) as dataset:
        assert len(dataset.shard_sizes()) > 2
        dataset._most_descriptors = budget
        order = [next(i for i in range(COUNT) if dataset.source(i) == folder.key(j)) for j in range(COUNT)]
        stats = Stats()
        slot, failures, asked = deliver(dataset, stats)
        assert (failures, asked) == ((), [])
        assert stats.counts()["decoder.fastload"] == 2 * COUNT
        expected, failures, asked = deliver(folder)
        assert (failures, asked) == ((), [])
        np.testing.assert_array_equal(slot[order], expected)
        assert (dataset._descriptors >= 0).sum() == min(budget, len(dataset._descriptors))


def test_bytes_are_compared_with_their_checksum_until_they_were_right(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "copy")
    with open_dataset(copy) as dataset:
        assert dataset.plan_reads(np.arange(COUNT)).reads.check.all()
        path, (_, offset, size) = copy / "shard-000000.tar", (int(x[0]) for x in dataset.extents(np.array([1])))
        with open(path, "r+b") as file:
            file.seek(offset + size // 2)
            byte = file.read(1)
            file.seek(offset + size // 2)
            file.write(bytes([byte[0] ^ 1]))
        _, failures, asked = deliver(dataset)
        assert [failure.sample_id for failure in failures] == [1]
        assert "crc32" in failures[0].reason
        assert asked == [1]
        assert np.flatnonzero(dataset.plan_reads(np.arange(COUNT)).reads.check).tolist() == [1]


def change_cut(path):
    os.truncate(path, os.path.getsize(path) - 100)


def change_grown(path):
    path.write_bytes(path.read_bytes() + b"more")


def change_missing(path):
    path.unlink()


def change_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "failed"), [(change_cut, [1]), (change_grown, []), (change_missing, [1]), (change_pipe, [1])]
)
def test_a_file_that_changed_after_its_size_was_read_is_left_to_python(tmp_path, change, failed):
    folder = tmp_path / "a"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(picture(50, 60, seed=number)))
    with open_dataset(tmp_path) as dataset:
        dataset.num_bytes(np.arange(3))
        output = make_output((32, 32))
        plan = whole_images(dataset, output)()
        change(folder / "1.jpg")
        _, failures, asked = deliver(dataset, plan=lambda: plan)
        assert asked == [1]
        assert [failure.sample_id for failure in failures] == failed


def test_what_the_kernel_does_not_take_is_left_to_python():
    good = jpeg(picture(60, 80))
    files = [good, jpeg(picture(60, 80), progressive=True), good + b"tail", good, good[:-2], jpeg(picture(60, 80), "L")]
    dataset, stats = DiskDataset(files), Stats()
    slot, failures, asked = deliver(dataset, stats)
    assert asked == [1, 2, 4]
    assert [failure.sample_id for failure in failures] == [4]
    assert stats.counts()["decoder.fastload"] == 6
    assert stats.counts()["decoder.turbo"] == 4
    np.testing.assert_array_equal(slot[0], slot[3])


@pytest.mark.parametrize("by_kernel", [True, False])
def test_an_image_whose_index_is_of_another_one_is_decoded_without_it(shards, tmp_path, monkeypatch, by_kernel):
    """Checksums of image and index are right, as where a broken program wrote the file; only sizes do not agree."""
    with open_dataset(shards) as dataset:
        expected, failures, _ = deliver(dataset)
    assert failures == ()
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    with open_dataset(shards) as dataset:
        checksums = np.split(dataset.crc32(np.arange(COUNT)), np.cumsum(dataset.shard_sizes())[:-1])
    strange = build_index(jpeg(picture(40, 56)))
    for path, own in zip(sorted(folder.glob("*.seek")), checksums, strict=True):
        write_seek_file(str(path), [strange, *[b""] * (len(own) - 1)], own.tolist())
    stats = Stats()
    with open_dataset(folder) as dataset:
        shown = len(checksums)
        if not by_kernel:
            monkeypatch.setattr(dataset, "plan_reads", lambda ids: None)
        slot, failures, asked = deliver(dataset, stats)
    assert failures == ()
    assert len(asked) == (0 if by_kernel else COUNT)
    assert stats.counts()["index.refused"] == 2 * shown
    assert stats.counts()["decoder.fastload"] == 2 * COUNT
    assert "decoder.turbo" not in stats.counts()
    np.testing.assert_array_equal(slot, expected)


def test_a_class_that_reads_in_its_own_way_is_asked_for_every_image(photos):
    class Own(ImageFolderDataset):
        def read_into(self, sample_id, buffer):
            return super().read_into(sample_id, buffer)

    with Own(photos) as dataset:
        assert dataset.plan_reads(np.arange(2)) is None
        assert len(deliver(dataset)[2]) == COUNT


def test_the_kernel_stops_between_two_images():
    count, output = 50_000, make_output((4, 4))
    dataset = DiskDataset([jpeg(picture(60, 80))])
    plan, slot = whole_images(dataset, output, ids=[0] * count), make_slot(count, output)
    job = Job(plan, LateSlot(count, lambda at_once: slot))
    CpuEngine(dataset, output, num_workers=1).close()  # compiles
    layouts = Layouts(output, dataset)
    job.work = layouts.arrange(plan(), count, job.task)
    assert job.seat(job.work)
    worker = Worker(dataset, output, Stats(), layouts, ReadAhead())

    def stop():
        assert eventually(lambda: job.task[NEXT_ITEM] > 0)
        job.task[STOP] = 1

    stopper = threading.Thread(target=stop)
    stopper.start()
    worker.run(job)
    stopper.join()
    reached = int(job.task[NEXT_ITEM])
    assert 0 < reached < count, "no thread can run while a kernel holds the interpreter's lock"
    assert job.work.layout.items.delivered[:reached].all()
    assert (slot[reached:] == 0xA5).all()
    worker.run(job)
    assert job.task[NEXT_ITEM] == reached


def test_memory_that_a_kernel_was_told_of_outlives_the_workspace():
    """The kernel gets addresses, once for many batches; another batch may have the workspace grow meanwhile."""
    dataset, output = DiskDataset([jpeg(picture(60, 80))]), make_output((4, 4))
    CpuEngine(dataset, output, num_workers=1).close()  # compiles
    layouts = Layouts(output, dataset)
    worker, slot = Worker(dataset, output, Stats(), layouts, ReadAhead()), make_slot(1, output)
    job = Job(whole_images(dataset, output), LateSlot(1, lambda at_once: slot))
    job.work = worker.plan(job)
    assert job.seat(job.work)
    assert worker.run(job) == 1
    told = [weakref.ref(memory) for memory in (worker._workspace.encoded, worker._workspace.pixels)]
    worker._workspace.encoded = worker._workspace.pixels = np.empty(0, np.uint8)
    gc.collect()
    assert all(memory() is not None for memory in told)
    expected, slot[:] = slot.copy(), 0
    job.task[NEXT_ITEM] = job.work.first
    assert worker.run(job) == 1
    np.testing.assert_array_equal(slot, expected)


def test_threads_share_the_items_of_one_batch():
    """Each item is taken once, by whichever thread comes first."""
    files = [jpeg(picture(20 + i, 30, seed=i)) if i % 3 else b"not an image" for i in range(60)]
    dataset, output, stats = DiskDataset(files), make_output((16, 16)), Stats()
    dataset.sizes = lambda ids: np.array([(20 + i, 30) for i in ids], np.int32)
    engine = CpuEngine(dataset, output, num_workers=5, stats=stats)
    for _ in range(20):
        failures = engine.submit(whole_images(dataset, output), make_slot(60, output)).result()
        assert [failure.sample_id for failure in failures] == list(range(0, 60, 3))
    engine.close()
    assert stats.counts()["decoder.fastload"] == 20 * 40
    assert sorted(dataset.reads) == sorted(20 * list(range(0, 60, 3)))


def test_slow_reads_have_the_next_batches_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("fastload.engine.cpu.read_ahead.read_ahead", lambda *extents: asked.append(extents))
    dataset, ahead = DiskDataset([b"12345", b"678"]), ReadAhead()
    reads = dataset.plan_reads(np.arange(2)).reads
    assert ahead.ask(reads, 0, 2) == 0.0
    assert asked == []
    ahead.begin()
    for _ in range(100):
        ahead.ask(reads, 0, 2)
    assert len(asked) == 64, "and then it is seen anew whether the disk is slow"
    assert [numbers.tolist() for numbers in asked[0]] == [[dataset.file.fileno()] * 2, [4, 9], [5, 3]]


class RandomPixels(DiskDataset):
    """Bare pixels from a device that makes them up, 2 ns a byte: files that are not in memory."""

    def __init__(self):
        super().__init__([b"pixels"])
        self.file.close()
        self.file = open("/dev/urandom", "rb")

    def sizes(self, ids):
        return np.full((len(ids), 2), 1000, np.int32)

    def is_raw(self, ids):
        return np.ones(len(ids), bool)

    def plan_reads(self, ids):
        reads = super().plan_reads(ids).reads
        return ReadPlan(reads._replace(size=0 * reads.size + 3_000_000, raw=0 * reads.raw + 1000), None)


def test_reading_that_takes_long_is_noticed(monkeypatch):
    begun, output = [], make_output((4, 4))
    monkeypatch.setattr(ReadAhead, "begin", lambda self: begun.append(1))
    with RandomPixels() as dataset, contextlib.closing(CpuEngine(dataset, output, num_workers=1)) as engine:
        assert engine.submit(whole_images(dataset, output, ids=[0] * 3), make_slot(3, output)).result() == ()
    assert begun


@pytest.mark.skipif(not system.ADVISES, reason="the system takes no advice")
def test_advice_reads_a_file_that_is_not_in_memory(tmp_path):
    """fincore(1) tells which pages of a file are in memory."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if in_memory(path) > 0:
            pytest.skip("this file system keeps its files in memory")
        one = np.ones(1, np.int64)
        read_ahead(file.fileno() * one, 0 * one, (1 << 19) * one)
        assert eventually(lambda: in_memory(path) >= 1 << 19)


def in_memory(path):
    command = shutil.which("fincore")
    if command is None:
        pytest.skip("fincore is not installed")
    return int(subprocess.check_output([command, "--bytes", "--noheadings", "--output", "RES", path]))
