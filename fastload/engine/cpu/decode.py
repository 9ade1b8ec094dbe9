"""Image file to RGB pixels: libjpeg-turbo for ordinary JPEGs, Pillow for all else, damage told from oddity."""

from __future__ import annotations

import io
from typing import Final, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fastload.engine.cpu.workspace import Workspace
from fastload.errors import DataError

Decoder = Literal["turbo", "pillow"]

# Pillow's plug-ins that are let near a stranger's file. Others (EPS starts a program) are not for training images.
_PILLOW_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# libjpeg only warns of these and then makes pixels up: grey blocks, or noise. An image that has them is damaged.
_MADE_UP_PIXELS: Final = ("premature end of data segment", "bad Huffman code", "instead of RST", "bad arithmetic code")


def decode(num_bytes: int, workspace: Workspace) -> tuple[int, int, Decoder]:
    """Decodes the first ``num_bytes`` of ``workspace.encoded`` into ``workspace.pixels``; EXIF orientation is ignored.

    Returns:
        Height, width, and which decoder did it.

    Raises:
        DataError: The file is no image, is damaged or truncated, or is larger than the limits of ``workspace``.
    """
    data = workspace.encoded[:num_bytes]
    if num_bytes < 4:
        raise DataError(f"the image file has {num_bytes} bytes: it is empty or was cut off")
    if data[0] == 0xFF and data[1] == 0xD8:
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


def _decode_turbo(data: NDArray[np.uint8], workspace: Workspace) -> tuple[int, int, Decoder]:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours in ("CMYK", "YCCK"):
        # TurboJPEG converts them too, but otherwise than Pillow, whose pixels are the reference.
        return _decode_pillow(data, workspace)
    pixels = workspace.reserve_pixels(height, width)
    simplejpeg.decode_jpeg(data, buffer=pixels[: height * width * 3])
    return height, width, "turbo"


def _decode_pillow(data: NDArray[np.uint8], workspace: Workspace) -> tuple[int, int, Decoder]:
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
    return height, width, "pillow"
