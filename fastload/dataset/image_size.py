"""Height and width of an image file from its first bytes."""

from __future__ import annotations

import functools
import io
import os
import warnings
from typing import Final

from fastload.dataset.reading import open_regular, read_range
from fastload.errors import DataError

# Enough for the headers of nearly every JPEG; previews and profiles before the frame header need more reads.
_FIRST_BYTES: Final = 16 << 10
_GROWTH: Final = 8
_MOST_BYTES: Final = 16 << 20

_PILLOW_FORMATS: Final = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")

_UNKNOWN: Final = (0, 0)


def image_size(path: str) -> tuple[int, int]:
    """Height and width in pixels, (0, 0) for a file that is missing or whose header cannot be read."""
    try:
        descriptor, size = open_regular(path)
    except DataError:
        return _UNKNOWN
    try:
        length = min(size, _FIRST_BYTES)
        head = _read(descriptor, length)
        if not head.startswith(b"\xff\xd8\xff"):
            return _other_size(path)
        found = jpeg_size(head)
        while found is None and length < min(size, _MOST_BYTES):
            length = min(size, length * _GROWTH, _MOST_BYTES)
            found = jpeg_size(_read(descriptor, length))
        return found or _UNKNOWN
    except OSError:
        return _UNKNOWN
    finally:
        os.close(descriptor)


def size_of_image(data: bytes) -> tuple[int, int]:
    """The same of a whole image file in memory."""
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg_size(data[:_MOST_BYTES]) or _UNKNOWN
    return _other_size(io.BytesIO(data))


def jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Height and width from the frame header of a JPEG; None if the bytes end before it; (0, 0) if there is none.

    A training loop asks this of a million files while it holds the interpreter's lock: 5 us, where reading all headers
    for the decoder takes 100.
    """
    position = 2
    while True:
        position = head.find(b"\xff", position)
        while position >= 0 and head[position : position + 1] == b"\xff":  # any number of FF before a marker
            position += 1
        if position < 0 or position + 8 > len(head):
            return None
        marker = head[position]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return head[position + 4] << 8 | head[position + 5], head[position + 6] << 8 | head[position + 7]
        if marker in (0xD9, 0xDA):
            return _UNKNOWN
        position += 1
        if not (marker <= 0x01 or 0xD0 <= marker <= 0xD8):
            position += head[position] << 8 | head[position + 1]


@functools.cache
def pillow_formats() -> tuple[str, ...]:
    """Formats behind the extensions of ImageFolder, as far as this Pillow has them.

    Pillow goes by content: a file must not reach the readers that start other programs (EPS) because somebody named it
    .png.
    """
    from PIL import Image

    Image.init()
    return tuple(name for name in _PILLOW_FORMATS if name in Image.OPEN)


def _read(descriptor: int, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: read_range(descriptor, memoryview(buffer), 0)])


def _other_size(file: str | io.BytesIO) -> tuple[int, int]:
    """Any other format goes to Pillow, which reads headers only until pixels are asked for."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=pillow_formats()) as image:
                return image.height, image.width
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return _UNKNOWN
