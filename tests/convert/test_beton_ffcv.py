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
from tests.convert.test_beton_convert import Described
from tests.dataset.beton_files import pictures

pytestmark = pytest.mark.ffcv


@pytest.fixture(scope="module", autouse=True)
def ffcv_at_hand():
    if subprocess.run([sys.executable, "-c", "import ffcv"], capture_output=True).returncode:
        pytest.skip("FFCV is not installed: benchmarks/setup_peers.sh makes an environment that has it")


def ffcv(action, *arguments):
    command = [sys.executable, str(Path(__file__).with_name("ffcv_side.py")), action, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
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
    # and FFCV itself sees the same pixels in its file
    ffcv("read", str(path), str(tmp_path / "read.npz"), 32, True, [])
    with np.load(tmp_path / "read.npz") as found:
        assert found["label"].reshape(-1).tolist() == [number % 5 for number in ids]


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
