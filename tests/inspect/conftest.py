"""A folder of images of every kind that an inspection tells apart, and data sets made of it."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fastload.adopt import index_shards
from fastload.convert import convert

# Name of the class, options of Pillow's writer, mode.
KINDS = {
    "a 444": ({"subsampling": 0}, "RGB"),
    "b 422": ({"subsampling": 1}, "RGB"),
    "c 420": ({"subsampling": 2}, "RGB"),
    "d progressive": ({"subsampling": 2, "progressive": True}, "RGB"),
    "e grey": ({}, "L"),
    "f cmyk": ({}, "CMYK"),
    "g restarts": ({"subsampling": 0, "restart_marker_blocks": 4}, "RGB"),
}


def picture(rng, height, width, mode="RGB"):
    """Smooth noise, so that sizes in bytes differ."""
    small = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Path:
    """Three JPEGs of each kind, of different sizes, and two PNGs."""
    folder, rng = tmp_path_factory.mktemp("zoo"), np.random.default_rng(3)
    for name, (options, mode) in KINDS.items():
        (folder / name).mkdir()
        for number in range(3):
            height, width = rng.integers(60, 200, 2).tolist()
            picture(rng, height, width, mode).save(folder / name / f"{number}.jpg", quality=85, **options)
    (folder / "h png").mkdir()
    for number in range(2):
        picture(rng, 50, 70).save(folder / "h png" / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def zoo_shards(zoo, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("zoo-shards") / "shards"
    convert(zoo, target)
    return target


@pytest.fixture(scope="session")
def annotated(tmp_path_factory) -> Path:
    """Grey images in WebDataset shards: boxes, keypoints and a mask as members, and members that are nonsense."""
    folder = tmp_path_factory.mktemp("annotated")
    mask = np.zeros((100, 200), np.uint8)
    mask[60:90, 120:180] = 2
    good = b'{"boxes": [[20, 10, 80, 50]], "box_labels": ["cat"], "keypoints": [[[150, 20, 2], [10, 90, 0]]]}'
    members = {
        "0.jpg": _encoded(Image.new("RGB", (200, 100), (128, 128, 128)), "JPEG"),
        "0.json": good,
        "0.seg.png": _encoded(Image.fromarray(mask), "PNG"),
        "1.jpg": _encoded(Image.new("RGB", (200, 100), (128, 128, 128)), "JPEG"),
        "1.json": b'{"boxes": [[1e999, "x", null, {}], 7], "keypoints": {"a": [[[[]]]]}, "box_labels": 3}',
        "1.seg.png": b"\x89PNG that is none",
    }
    with tarfile.open(folder / "shard-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    index_shards([str(folder)])
    return folder


def _encoded(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    data = {
        "data": {"train": "not-read", "val": "not-read"},
        "resolution": {"min": 32, "max": 64, "ramp_start": 0, "ramp_end": 1},
        "train": {"epochs": 2, "seed": 11},
        "eval": {"size": 32},
    }
    path.write_text(yaml.safe_dump(data))
    return path
