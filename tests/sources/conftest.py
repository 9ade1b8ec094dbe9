"""Small images, the same wherever they are stored."""

import io

import numpy as np
import pytest
from PIL import Image


def picture(number: int, image_format: str = "JPEG") -> bytes:
    """A small picture that differs for each number."""
    coarse = Image.fromarray(np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((40 + number % 7, 30), Image.Resampling.BICUBIC).save(buffer, image_format)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def pictures():
    """24 different JPEG files."""
    return [picture(number) for number in range(24)]


@pytest.fixture(scope="session")
def as_png():
    """picture(number) as a PNG file."""
    return lambda number: picture(number, "PNG")
