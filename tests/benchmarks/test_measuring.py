"""The benchmarks' own instruments: what they measure is true, and what is wrong does not pass their check."""

import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks import peers
from benchmarks.harness import chance, images
from benchmarks.harness.child import Child
from benchmarks.harness.datasets import FORMS, open_corpus
from benchmarks.harness.loaders import Running
from benchmarks.harness.pipelines import MEAN, PIPELINES, STD
from benchmarks.harness.process_tree import MemoryWatch, cpu_seconds


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve small JPEGs of different shapes, one to a folder."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for number in range(12):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        size = (260 + 9 * number, 330) if number % 2 else (330, 250 + 7 * number)
        (folder / f"{number:05d}").mkdir()
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        image.save(folder / f"{number:05d}" / "0.jpg", quality=95, subsampling=0)
    return folder


class InMemory(Running):
    """torchvision's transforms on Pillow's pixels, with one fault of choice."""

    def __init__(self, task, fault):
        self.task, self.fault = task, fault
        pipeline = task.pipeline
        self.transforms = v2.Compose(
            [
                v2.RandomResizedCrop(pipeline.size, pipeline.scale, pipeline.ratio),
                v2.RandomHorizontalFlip(0.0 if fault == "never flips" else pipeline.flip),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def epoch(self, number):
        paths = sorted(self.task.data.glob("*/*.jpg"))
        rows = [self.transforms(Image.open(path).convert("RGB")) for path in paths]
        labels = torch.arange(len(paths))
        if self.fault == "labels shifted":
            labels = labels.roll(1)
        if self.fault == "one photograph twice":
            labels[1] = labels[0]
        batch = torch.stack(rows)
        if self.fault == "channels swapped":
            batch = batch.flip(1)
        if self.fault == "not normalised":
            batch = batch * 0.226 + 0.45
        dtype = torch.float32 if self.fault == "wrong type" else torch.float16
        memory = torch.contiguous_format if self.fault == "wrong memory order" else torch.channels_last
        yield batch.to(dtype, memory_format=memory), labels


def make_child(monkeypatch, photographs, fault):
    entry = peers.Entry(title="", module="none", requires=(), form="folder", settings="")
    monkeypatch.setattr(peers.Entry, "open", lambda self, task: InMemory(task, fault))
    monkeypatch.setitem(peers.PEERS, "in-memory", entry)
    return Child(
        {
            "peer": "in-memory",
            "pipeline": "train224-fp16",
            "batch_size": 12,
            "threads": 1,
            "data": str(photographs),
            "samples": 12,
            "num_photographs": 12,
            "photographs": str(photographs),
        }
    )


def test_a_sound_loader_passes(monkeypatch, photographs):
    child = make_child(monkeypatch, photographs, None)
    epoch, check = child.epoch(), child.check()
    assert epoch["images"] == 12
    assert epoch["fault"] is None
    assert check["fault"] is None
    assert check["compared"] == 12
    assert check["mean_difference"] < 0.2


@pytest.mark.parametrize("fault", ["wrong type", "wrong memory order", "one photograph twice"])
def test_faults_of_form_are_found_in_every_epoch(monkeypatch, photographs, fault):
    assert make_child(monkeypatch, photographs, fault).epoch()["fault"] is not None


@pytest.mark.parametrize("fault", ["labels shifted", "channels swapped", "not normalised", "never flips"])
def test_faults_of_pixels_are_found_by_the_check(monkeypatch, photographs, fault):
    child = make_child(monkeypatch, photographs, fault)
    assert child.epoch()["fault"] is None
    assert "mean absolute difference" in child.check()["fault"]


@pytest.mark.parametrize("name", ["train224-fp16", "eval224-fp16"])
@pytest.mark.parametrize("central", [True, False])
def test_the_reference_is_torchvisions(photographs, name, central):
    pipeline = PIPELINES[name].for_check(central=central)
    if pipeline.kind == "train":
        steps = [v2.RandomResizedCrop(224, pipeline.scale, pipeline.ratio), v2.RandomHorizontalFlip(1.0)]
    else:
        steps = [v2.Resize(256), v2.CenterCrop(224)]
    for path in sorted(photographs.glob("*/*.jpg")):
        expected = np.asarray(v2.Compose(steps)(Image.open(path).convert("RGB")), np.float32)
        # A box of the whole image and a crop of it differ by rounding alone.
        assert np.abs(images.reference(path, pipeline) - expected).max() <= 1


def test_statistics_tell_random_crops_from_whole_images():
    random = np.random.default_rng(0)
    picture = torch.from_numpy(random.integers(0, 256, (3, 8, 8), dtype=np.uint8))
    whole = v2.functional.resize(picture, [300, 400])
    labels = torch.zeros(60, dtype=torch.long)

    def deliver(transform):
        rows = torch.stack([transform(whole) for _ in labels]).float() / 255
        return [((rows - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1), labels)]

    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(224, antialias=False)
    expected = chance.statistics(deliver(crop))
    assert chance.fault_of_chance(chance.statistics(deliver(crop)), expected) is None
    constant = chance.statistics(deliver(lambda image: v2.functional.resize(image, [224, 224])))
    assert "mean" in chance.fault_of_chance(expected | {"mean": expected["mean"] + 5}, expected)
    assert "spread" in chance.fault_of_chance(constant | {"mean": expected["mean"]}, expected)


BURN = "import time\nwhile time.process_time() < 1.0: pass\nprint(flush=True)\ninput()"


def test_cpu_time_counts_a_process_and_its_children():
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])"
    for command in (BURN, parent):
        with subprocess.Popen(
            [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            process.stdout.readline()
            seconds = cpu_seconds(process.pid)
            process.communicate("\n")
        assert 1.0 <= seconds < 1.9


def test_memory_counts_shared_pages_once():
    # A parent with 200 MB and two forked children that touch none of it: three resident sets, one proportional one.
    code = (
        "import os, time\nblock = b'x' * 200_000_000\n"
        "for _ in range(2):\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n"
        "print(flush=True)\ninput()\nos.killpg(0, 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        process.stdout.readline()
        with MemoryWatch(process.pid, interval_seconds=0.05) as watch:
            time.sleep(0.3)
        memory = watch.memory()
        process.communicate("\n")
    assert 200e6 < memory.peak_allocated < 280e6
    assert memory.peak_rss > 2 * memory.peak_allocated


def test_memory_counts_what_is_on_its_way_between_processes_and_no_mapped_file(tmp_path):
    (tmp_path / "data").write_bytes(bytes(100_000_000))
    # Shared memory that two processes hold and nobody maps; a file of 100 MB, mapped and read.
    code = (
        "import mmap, os, sys\nfile = os.memfd_create('batch')\nos.write(file, bytes(50_000_000))\n"
        "data = open(sys.argv[1], 'rb')\npages = mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "assert sum(pages[::4096]) == 0\nif os.fork(): print(flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        with MemoryWatch(process.pid) as watch:
            pass
        memory = watch.memory()
        process.communicate("\n\n")
    assert 50e6 < memory.peak_allocated < 90e6
    assert memory.peak_rss > 100e6


def test_every_batch_ends_as_tensors_without_a_copy():
    array, labels = np.zeros((2, 5, 4, 3), np.float16), np.arange(2)
    tensor, numbers = images.as_tensors(array, labels)
    assert tensor.shape == (2, 3, 5, 4)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert tensor.data_ptr() == array.ctypes.data
    assert numbers.data_ptr() == labels.ctypes.data
    assert images.as_tensors(tensor, numbers) == (tensor, numbers)
    planar = np.zeros((2, 3, 5, 4), np.float32)
    same, _ = images.as_tensors(planar, labels)
    assert same.shape == planar.shape, "what comes as CHW stays so"
    assert same.data_ptr() == planar.ctypes.data
    pictures, _ = images.as_tensors([array[0], tensor[1]], labels)
    assert pictures[0].data_ptr() == array.ctypes.data
    assert pictures[1].data_ptr() == tensor[1].data_ptr()


def test_every_loader_is_complete():
    assert {"fastload", "torch-pil"} <= set(peers.PEERS)
    for entry in peers.PEERS.values():
        assert entry.form == "folder" or entry.form in FORMS
        assert set(entry.kinds) <= set(entry.limits)
        assert (Path(peers.__file__).parent / f"{entry.module}.py").exists()


def test_what_is_not_installed_is_named():
    entry = peers.Entry(title="", module="none", requires=("json", "no_such_package.part"), form="folder", settings="")
    assert entry.missing() == ["no_such_package.part"]


def test_a_corpus_numbers_photographs_and_repeats_them(photographs, tmp_path):
    corpus = open_corpus(photographs, tmp_path, 20)
    assert (corpus.photographs, corpus.repeats, corpus.samples) == (12, 2, 24)
    source = sorted(photographs.glob("*/*.jpg"))[5]
    assert corpus.photograph(5, "folder").read_bytes() == source.read_bytes()
    assert Image.open(BytesIO(source.read_bytes())).format == "JPEG"
