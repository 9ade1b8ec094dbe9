"""Shards as webdataset, Python's tarfile and others write them."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image


def picture(number: int, image_format: str = "JPEG", **options) -> bytes:
    """A small picture that differs for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((100 + number, 90), Image.Resampling.BICUBIC).save(buffer, image_format, **options)
    return buffer.getvalue()


def write_tar(path, members, tar_format=tarfile.USTAR_FORMAT):
    """A tar of (name, bytes) or TarInfo."""
    with tarfile.open(path, "w", format=tar_format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="session")
def tools():
    """picture(number, format) and write_tar(path, members, format)."""

    class Tools:
        pass

    Tools.picture = staticmethod(picture)
    Tools.write_tar = staticmethod(write_tar)
    return Tools


@pytest.fixture(scope="session")
def samples():
    """60 samples as webdataset's writer takes them: mostly JPEG, some PNG and WebP, with label, JSON and bytes."""
    kinds = {7: ("png", "PNG"), 8: ("webp", "WEBP"), 9: ("jpeg", "JPEG")}
    found = []
    for number in range(60):
        suffix, image_format = kinds.get(number % 10, ("jpg", "JPEG"))
        found.append(
            {
                "__key__": f"class {number % 3}/{number:04d}",
                suffix: picture(number, image_format),
                "cls": number % 3,
                "json": {"meta": {"label": number % 5}, "caption": "über"},
                **({"seg.bin": bytes([number] * number)} if number % 2 else {}),
            }
        )
    return found


@pytest.fixture
def shards(samples, tmp_path):
    """The samples in three shards by webdataset's writer."""
    import webdataset

    folder = tmp_path / "shards"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "train-%04d.tar"), maxcount=25, verbose=0) as writer:
        for sample in samples:
            writer.write(sample)
    return folder
