"""The real FFCV reads what convert writes, and what it writes is read; run where benchmarks/setup_peers.sh put it.

FOLDER/bin/python -m pytest -m ffcv tests/convert/test_beton_ffcv.py
"""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fastload.convert import convert
from fastload.convert import run as convert_run
from fastload.dataset import open_dataset
from fastload.sources import Item
from tests.convert.test_beton_convert import Described
from tests.dataset.beton_files import jpeg_bytes, pictures

pytestmark = pytest.mark.ffcv


@pytest.fixture(scope="module", autouse=True)
def ffcv_at_hand():
    if subprocess.run([sys.executable, "-c", "import ffcv"], capture_output=True).returncode:
        pytest.skip("FFCV is not installed: benchmarks/setup_peers.sh makes an environment that has it")


def ffcv(action, *arguments):
    command = [sys.executable, str(Path(__file__).with_name("ffcv_side.py")), action, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def rgb(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def images():
    return pictures(21, seed=8, smallest=40, largest=200)


@pytest.mark.parametrize(
    ("order", "mode", "max_resolution"),
    [
        (["image", "label"], "jpg", None),
        (["label", "image"], "raw", None),
        (["image", "label", "blob"], "proportion", 100),
        (["weight", "image", "label", "meta", "array"], "raw", 100),
        (["weight", "image", "label", "meta", "array", "blob"], "raw", 100),
        (["meta", "image", "array", "weight", "label"], "proportion", None),
        (["array", "label", "image"], "smart", 64),
    ],
    ids=str,
)
def test_what_ffcv_writes_is_read(order, mode, max_resolution, images, tmp_path):
    np.savez(tmp_path / "images.npz", **{f"{number:03d}": pixels for number, pixels in enumerate(images)})
    path = tmp_path / "x.beton"
    ffcv("write", str(path), str(tmp_path / "images.npz"), order, mode, max_resolution)
    ids = np.arange(len(images))
    with open_dataset(path) as dataset:
        assert len(dataset) == len(images)
        assert dataset.labels(ids).tolist() == [number % 5 for number in ids]
        raw = dataset.is_raw(ids)
        assert raw.all() if mode in ("raw", "smart") else not raw.any() if mode == "jpg" else 0 < raw.sum() < len(ids)
        for number, pixels in enumerate(images):
            sample = dataset[number]
            stored = rgb(sample.image)
            assert dataset.sizes(ids)[number].tolist() == list(stored.shape[:2])
            if max_resolution is not None:
                assert max(stored.shape) <= max_resolution
            elif raw[number]:
                assert np.array_equal(stored, pixels)
            else:
                assert np.abs(stored.astype(int) - pixels).mean() < 8  # a JPEG of quality 90
            expected = {
                "weight": number / 3,
                "blob": bytes(range(number)),
                "meta": {"number": number},
                "array": np.full((2, 3), number, np.float32),
            }
            assert sample.extras.keys() == set(order) - {"image", "label"}
            for name in sample.extras:
                assert np.all(dataset.value(number, name) == expected[name])
    if "blob" not in order:  # see below
        ffcv("read", str(path), str(tmp_path / "read.npz"), 32, True, [])
        with np.load(tmp_path / "read.npz") as found:
            assert found["label"].reshape(-1).tolist() == [number % 5 for number in ids]


def test_ffcv_loses_what_follows_an_empty_field_and_we_do_not(images, tmp_path):
    """In a file of FFCV's own an empty field shares its pointer with what lies behind it, by which FFCV finds sizes.

    Its Loader then takes the image that lies there for empty: a thread of its raises, and the epoch never ends.
    """
    np.savez(tmp_path / "images.npz", **{f"{number:03d}": pixels for number, pixels in enumerate(images)})
    order = ["weight", "image", "label", "meta", "array", "blob"]
    ffcv("write", str(tmp_path / "x.beton"), str(tmp_path / "images.npz"), order, "raw", 100)
    ffcv("lookup", str(tmp_path / "x.beton"), str(tmp_path / "sizes.npy"))
    by_ffcv = np.load(tmp_path / "sizes.npy")
    with open_dataset(tmp_path / "x.beton") as dataset:
        _, _, sizes = dataset.extents(np.arange(len(images)))
        assert sizes.tolist() == [3 * height * width for height, width in dataset.sizes(np.arange(len(images)))]
    assert by_ffcv[1] == 0 < sizes[1]
    assert (by_ffcv == sizes).sum() == len(images) - 1


def test_ffcv_reads_empty_fields_of_what_convert_writes(tmp_path, monkeypatch):
    pixels = pictures(9, seed=3, smallest=64, largest=65)
    source = Described([jpeg_bytes(each) for each in pixels])
    source.extras = ("mask.png",)
    monkeypatch.setattr(
        source,
        "read",
        lambda number: Item(image=source.images[number], extras={"mask.png": b"m" * (number % 3)}),
    )
    monkeypatch.setattr(convert_run, "open_source", lambda _, **options: source)
    convert("nowhere", tmp_path / "out.beton")
    for os_cache in (True, False):
        ffcv("read", str(tmp_path / "out.beton"), str(tmp_path / "read.npz"), 0, os_cache, [])
        with np.load(tmp_path / "read.npz") as found:
            for number, image in enumerate(source.images):
                assert np.array_equal(found["image"][number], simplejpeg.decode_jpeg(image, fastdct=True))
    ffcv("lookup", str(tmp_path / "out.beton"), str(tmp_path / "sizes.npy"))
    assert np.load(tmp_path / "sizes.npy").tolist() == [len(image) for image in source.images]


@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("options", [{}, {"raw": True, "max_side": 150}, {"quality": 80}], ids=str)
def test_ffcv_reads_what_convert_writes(options, os_cache, tmp_path):
    """Equal pixels: images of one size, which FFCV hands over as they are stored."""
    for number, pixels in enumerate(pictures(21, seed=9, smallest=120, largest=121)):
        folder = tmp_path / "in" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02d}.jpg", quality=95)
    convert(tmp_path / "in", tmp_path / "out.beton", **options)
    ffcv("read", str(tmp_path / "out.beton"), str(tmp_path / "read.npz"), 0, os_cache, [])
    with np.load(tmp_path / "read.npz") as found, open_dataset(tmp_path / "out.beton") as dataset:
        assert len(dataset) == len(found["image"]) == 21
        assert np.array_equal(found["label"].reshape(-1), dataset.labels(np.arange(21)))
        for number in range(21):
            image = dataset[number].image
            # FFCV asks libjpeg-turbo for its fast transform: equal with it, off by some levels without.
            expected = rgb(image) if "raw" in options else simplejpeg.decode_jpeg(image, fastdct=True)
            assert np.array_equal(found["image"][number], expected)
        if not options:
            assert dataset[0].image == (tmp_path / "in" / "a" / "00.jpg").read_bytes()


def test_ffcv_reads_photographs_and_skipped_ones_leave_no_gap(photos, tmp_path):
    convert(photos, tmp_path / "out.beton")
    ffcv("read", str(tmp_path / "out.beton"), str(tmp_path / "read.npz"), 64, False, [])
    with np.load(tmp_path / "read.npz") as found, open_dataset(tmp_path / "out.beton") as dataset:
        assert len(found["image"]) == 77
        assert np.array_equal(found["label"].reshape(-1), dataset.labels(np.arange(77)))


def test_ffcv_reads_json(photos, tmp_path, monkeypatch):
    images = [(photos / "cat" / name).read_bytes() for name in ("00.jpg", "03.jpg")]
    monkeypatch.setattr(Described, "extras", ("json",))
    monkeypatch.setattr(convert_run, "open_source", lambda _, **options: Described(images))
    convert("nowhere", tmp_path / "out.beton")
    ffcv("read", str(tmp_path / "out.beton"), str(tmp_path / "read.npz"), 32, True, ["json"])
    with np.load(tmp_path / "read.npz") as found:
        assert [json.loads(text) for text in found["json"]] == [{"a": 1}, None]


def test_ffcv_reads_numbers_and_arrays_that_convert_passes_on(images, tmp_path):
    np.savez(tmp_path / "images.npz", **{f"{number:03d}": pixels for number, pixels in enumerate(images)})
    order = ["weight", "image", "label", "array"]
    ffcv("write", str(tmp_path / "in.beton"), str(tmp_path / "images.npz"), order, "raw", 100)
    convert(tmp_path / "in.beton", tmp_path / "out.beton", quality=90)
    ffcv("read", str(tmp_path / "out.beton"), str(tmp_path / "read.npz"), 32, True, [], ["weight", "array"])
    with np.load(tmp_path / "read.npz") as found:
        numbers = np.arange(len(images))
        assert np.array_equal(found["weight"].reshape(-1), numbers / 3)
        expected = np.broadcast_to(numbers[:, None, None].astype(np.float32), (len(images), 2, 3))
        assert np.array_equal(found["array"], expected)
        assert found["label"].reshape(-1).tolist() == [number % 5 for number in numbers]
