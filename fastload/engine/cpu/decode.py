"""Image file to RGB pixels: our decoder for the part needed, libjpeg-turbo or Pillow for what it does not take."""

from __future__ import annotations

import io
import platform
from typing import Final, Literal, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fastload.engine.cpu.workspace import Workspace, check_size
from fastload.errors import DataError
from fastload.jpeg import status
from fastload.jpeg.rectangle import decode_rectangle
from fastload.jpeg.workspace import IMAGE_HEIGHT, IMAGE_WIDTH

Decoder = Literal["fastload", "turbo", "pillow"]

# Where our own decoder has been shown to give libjpeg-turbo's very pixels.
PROVEN: Final = platform.machine().lower() in ("x86_64", "amd64")

# Pillow's plug-ins that are let near a stranger's file. Others (EPS starts a program) are not for training images.
_PILLOW_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# libjpeg only warns of these and then makes pixels up: grey blocks, or noise. An image that has them is damaged.
_MADE_UP_PIXELS: Final = ("premature end of data segment", "bad Huffman code", "instead of RST", "bad arithmetic code")


class Decoded(NamedTuple):
    """What ``workspace.pixels`` holds.

    Attributes:
        image_height, image_width: Size of the image in pixels.
        region: Top, left, height and width of the part of it that was decoded.
        decoder: What did it.
    """

    image_height: int
    image_width: int
    region: tuple[int, int, int, int]
    decoder: Decoder


def decode(num_bytes: int, index: NDArray[np.uint8], region: list[int], workspace: Workspace) -> Decoded:
    """Decodes the first ``num_bytes`` of ``workspace.encoded`` into ``workspace.pixels``; EXIF orientation is ignored.

    Args:
        num_bytes: Size of the file.
        index: Its seek index; empty where there is none.
        region: Top, left, height and width of the pixels that are needed. Our own decoder decodes these alone, the
            others always the whole image.
        workspace: The thread's memory.

    Raises:
        DataError: The file is no image, is damaged or truncated, or is larger than the limits of ``workspace``.
    """
    data = workspace.encoded[:num_bytes]
    if num_bytes < 4:
        raise DataError(f"the image file has {num_bytes} bytes: it is empty or was cut off")
    if data[0] == 0xFF and data[1] == 0xD8:
        # Without its end marker a file was perhaps cut off behind the region: libjpeg-turbo looks at all of it.
        if PROVEN and data[-2] == 0xFF and data[-1] == 0xD9:
            decoded = _decode_region(num_bytes, index, region, workspace)
            if decoded is not None:
                return decoded
        return decode_whole(num_bytes, workspace)
    return _decode_pillow(data, workspace)


def decode_any(num_bytes: int, workspace: Workspace) -> Decoded:
    """As ``decode``, the whole image, by libjpeg-turbo or Pillow."""
    data = workspace.encoded[:num_bytes]
    if num_bytes < 4:
        raise DataError(f"the image file has {num_bytes} bytes: it is empty or was cut off")
    if data[0] == 0xFF and data[1] == 0xD8:
        return decode_whole(num_bytes, workspace)
    return _decode_pillow(data, workspace)


def decode_whole(num_bytes: int, workspace: Workspace) -> Decoded:
    """As ``decode``, for a JPEG, by libjpeg-turbo or Pillow."""
    data = workspace.encoded[:num_bytes]
    try:
        return _decode_turbo(data, workspace)
    except DataError:
        raise
    except ValueError as error:
        # simplejpeg raises for what it cannot do and for what libjpeg merely warns about. Where the warning means
        # invented pixels that is the end; else (bytes between segments, no end marker) Pillow is the judge.
        message = str(error)
        if any(phrase in message for phrase in _MADE_UP_PIXELS):
            raise DataError(f"the JPEG is damaged ({message})") from error
    return _decode_pillow(data, workspace)


def _decode_region(num_bytes: int, index: NDArray[np.uint8], region: list[int], workspace: Workspace) -> Decoded | None:
    """Decodes the region with our own decoder; None where libjpeg-turbo has to judge."""
    top, left, height, width = region
    pixels = workspace.reserve_pixels(height, width)
    while True:
        work = workspace.jpeg
        answer = decode_rectangle(
            workspace.encoded, num_bytes, index, top, left, height, width, pixels, 3 * width, work
        )
        image_height, image_width = int(work[IMAGE_HEIGHT]), int(work[IMAGE_WIDTH])
        if answer == status.OK:
            check_size(image_height, image_width)
            return Decoded(image_height, image_width, (top, left, height, width), "fastload")
        if answer != status.NO_ROOM or not workspace.grow_jpeg(image_width, num_bytes):
            return None


def _decode_turbo(data: NDArray[np.uint8], workspace: Workspace) -> Decoded:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours in ("CMYK", "YCCK"):
        # TurboJPEG converts them too, but otherwise than Pillow, whose pixels are the reference.
        return _decode_pillow(data, workspace)
    pixels = workspace.reserve_pixels(height, width)
    simplejpeg.decode_jpeg(data, buffer=pixels[: height * width * 3])
    return _whole(height, width, "turbo")


def _decode_pillow(data: NDArray[np.uint8], workspace: Workspace) -> Decoded:
    try:
        with Image.open(io.BytesIO(data.tobytes()), formats=_PILLOW_FORMATS) as image:
            width, height = image.size
            pixels = workspace.reserve_pixels(height, width)
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
    return _whole(height, width, "pillow")


def _whole(height: int, width: int, decoder: Decoder) -> Decoded:
    return Decoded(height, width, (0, 0, height, width), decoder)
