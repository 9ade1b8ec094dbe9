"""Small folders of photographs to convert."""

import io

import numpy as np
import pytest
from PIL import Image


def picture(number: int, size=(60, 45)) -> Image.Image:
    """A small RGB picture that differs for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, image_format="JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tools():
    """picture(number, size) and encode(image, format, ...)."""

    class Tools:
        pass

    Tools.picture = staticmethod(picture)
    Tools.encode = staticmethod(encode)
    return Tools


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """80 JPEGs of about 7 KB in three classes, four of them damaged: cut, empty, noise and a PNG by another name."""
    root = tmp_path_factory.mktemp("source") / "photos"
    for number in range(80):
        folder = root / ("cat", "dog", "owl")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        data = encode(picture(number, (200 + number, 180)), quality=95)
        if number == 10:
            data = data[: len(data) // 2]
        elif number == 20:
            data = b""
        elif number == 30:
            data = b"no image at all" * 40
        elif number == 40:
            data = encode(picture(number), "PNG")
        (folder / f"{number:02d}.jpg").write_bytes(data)
    return root
