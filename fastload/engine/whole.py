"""All pixels of an image file, by libjpeg-turbo or Pillow: what every engine falls back on, and its limits."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fastload.engine.limits import MAX_PIXELS, MAX_SIDE
from fastload.errors import DataError

# Pillow's plug-ins that are let near a stranger's file. Others (EPS starts a program) are not for training images.
_PILLOW_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# libjpeg only warns of these and then makes pixels up: grey blocks, or noise. An image that has them is damaged.
_MADE_UP_PIXELS: Final = ("premature end of data segment", "bad huffman code", "instead of rst", "bad arithmetic code")

# A buffer of at least height x width x 3 bytes for an image of these sizes; it refuses those that are too large.
Reserve = Callable[[int, int], NDArray[np.uint8]]


class Whole(NamedTuple):
    """What the reserved buffer holds: an image of this height and width, and what decoded it."""

    height: int
    width: int
    decoder: Literal["turbo", "pillow"]


def decode_whole(data: NDArray[np.uint8], reserve: Reserve) -> Whole:
    """Decodes an image file of any kind; EXIF orientation is ignored.

    Args:
        data: uint8, the file.
        reserve: Gives the buffer, whose first height x width x 3 bytes take the RGB pixels.

    Raises:
        DataError: The file is no image, is damaged or truncated, or ``reserve`` refuses it.
    """
    if len(data) < 4:
        raise DataError(f"the image file has {len(data)} bytes: it is empty or was cut off")
    if data[0] != 0xFF or data[1] != 0xD8:
        return _decode_pillow(data, reserve)
    try:
        return _decode_turbo(data, reserve)
    except DataError:
        raise
    except ValueError as error:
        # simplejpeg raises for what it cannot do and for what libjpeg merely warns about. Where the warning means
        # invented pixels that is the end; else (bytes between segments, no end marker) Pillow is the judge.
        if makes_pixels_up(error):
            raise DataError(f"the JPEG is damaged ({error})") from error
    return _decode_pillow(data, reserve)


def makes_pixels_up(error: ValueError) -> bool:
    """Whether what simplejpeg raised means that libjpeg-turbo would show pixels that the file does not have."""
    return any(phrase in str(error).lower() for phrase in _MADE_UP_PIXELS)


def check_size(height: int, width: int) -> None:
    """DataError for an image of no pixels, or of more than are decoded."""
    if height < 1 or width < 1:
        raise DataError(f"the image has {width} x {height} pixels: nothing can be cut from it")
    if height * width > MAX_PIXELS or height > MAX_SIDE or width > MAX_SIDE:
        raise DataError(
            f"the header asks for {width} x {height} pixels, and at most {MAX_PIXELS:,} (and {MAX_SIDE:,} a side) "
            "are decoded: the file is damaged or a decompression bomb"
        )


def _decode_turbo(data: NDArray[np.uint8], reserve: Reserve) -> Whole:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours in ("CMYK", "YCCK"):
        # TurboJPEG converts them too, but otherwise than Pillow, whose pixels are the reference.
        return _decode_pillow(data, reserve)
    pixels = reserve(height, width)
    simplejpeg.decode_jpeg(data, buffer=pixels[: height * width * 3])
    return Whole(height, width, "turbo")


def _decode_pillow(data: NDArray[np.uint8], reserve: Reserve) -> Whole:
    try:
        with Image.open(io.BytesIO(data.tobytes()), formats=_PILLOW_FORMATS) as image:
            width, height = image.size
            pixels = reserve(height, width)
            rgb = image.convert("RGB")
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"the file is none of the image formats {', '.join(_PILLOW_FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"the image is too large, perhaps a decompression bomb ({error})") from error
    except Exception as error:  # Pillow's plug-ins raise whatever a damaged file makes them raise
        raise DataError(f"the image cannot be decoded ({type(error).__name__}: {error})") from error
    pixels[: height * width * 3] = np.asarray(rgb).reshape(-1)
    return Whole(height, width, "pillow")
