"""What convert writes, everybody reads: tar, tarfile, webdataset and DALI find equal bytes and labels."""

import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from fastload.convert import convert
from fastload.dataset import open_dataset


@pytest.fixture(scope="module")
def shards(imagenet_sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "imagenet"
    summary = convert(imagenet_sample, folder, shard_size="16MiB", dali_labels=True, seed=5)
    assert (summary.found, summary.written, summary.skipped, summary.reencoded) == (400, 400, 0, 0)
    assert summary.classes == 400
    assert summary.shards == len(list(folder.glob("*.tar"))) == 3
    return folder


@pytest.fixture(scope="module")
def originals(imagenet_sample):
    """Bytes of each file -> its label, as torchvision numbers it."""
    found = {Path(path).read_bytes(): label for path, label in ImageFolder(str(imagenet_sample)).samples}
    assert len(found) == 400
    return found


def assert_all(samples, originals):
    """``samples`` are (image, label) of every original, once each."""
    samples = list(samples)
    assert len(samples) == 400
    assert dict(samples) == originals


def test_our_reader(shards, originals):
    with open_dataset(shards, verify="always") as dataset:
        assert_all(((dataset[number].image, dataset[number].label) for number in range(400)), originals)
        order = [dataset.labels(np.array([number]))[0] for number in range(400)]
        assert order != sorted(order)  # the seed shuffled them


def test_tarfile(shards, originals):
    samples = []
    for shard in sorted(shards.glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = {info.name: tar.extractfile(info).read() for info in tar.getmembers()}
        keys = [name.removesuffix(".jpg") for name in members if name.endswith(".jpg")]
        assert list(members) == [f"{key}.{extension}" for key in keys for extension in ("jpg", "cls", "lbl")]
        for key in keys:
            label = int(members[f"{key}.cls"])
            assert int.from_bytes(members[f"{key}.lbl"], "little") == label
            samples.append((members[f"{key}.jpg"], label))
    assert_all(samples, originals)


def test_tar_command(shards, originals, tmp_path):
    for shard in shards.glob("*.tar"):
        # A warning of tar is a failure as well.
        done = subprocess.run(["tar", "-xf", shard, "-C", tmp_path], capture_output=True, text=True, check=True)
        assert done.stderr == ""
    samples = [(path.read_bytes(), int(path.with_suffix(".cls").read_text())) for path in tmp_path.glob("*.jpg")]
    assert_all(samples, originals)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset(shards, originals):
    """It leaves the files of its shards to the garbage collector, which warns."""
    webdataset = pytest.importorskip("webdataset")
    paths = [str(path) for path in sorted(shards.glob("*.tar"))]
    with open_dataset(shards) as ours:
        keys = [ours.key(number) for number in range(400)]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == keys
    assert_all(((sample["jpg"], int(sample["cls"])) for sample in samples), originals)


def test_dali_on_the_cpu_with_our_index(shards, originals):
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def, types

    paths = [str(path) for path in sorted(shards.glob("*.tar"))]

    @pipeline_def(batch_size=40, num_threads=1, device_id=None)
    def graph():
        images, labels, texts = fn.readers.webdataset(
            paths=paths,
            index_paths=[path.replace(".tar", ".idx") for path in paths],
            ext=["jpg", "lbl", "cls"],
            dtypes=[types.UINT8, types.INT64, types.UINT8],
            missing_component_behavior="error",
        )
        return images, labels, texts

    pipeline = graph()
    pipeline.build()
    samples = []
    for _ in range(10):
        images, labels, texts = pipeline.run()
        for number in range(40):
            label = int(np.asarray(labels[number])[0])
            assert int(np.asarray(texts[number]).tobytes()) == label
            samples.append((np.asarray(images[number]).tobytes(), label))
    assert_all(samples, originals)


def test_the_index_of_dali_points_at_the_members(shards):
    for shard in shards.glob("*.tar"):
        head, *lines = shard.with_suffix(".idx").read_text().splitlines()
        assert head == f"v1.2 {len(lines)}"
        with tarfile.open(shard) as tar:
            expected = {info.name: (info.offset_data, info.size) for info in tar}
        found = {}
        for line in lines:
            tokens = line.split(" ")
            for extension, offset, size, name in zip(*(iter(tokens),) * 4, strict=True):
                assert name.split(".", 1)[1] == extension
                found[name] = (int(offset), int(size))
        assert found == expected
        assert shard.stat().st_size % 512 == 0
