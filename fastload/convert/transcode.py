"""The bytes of one image file in, the bytes of a JPEG that every training decoder takes out."""

from __future__ import annotations

import contextlib
import io
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fastload.convert.tiling import with_tiles
from fastload.dataset.image_size import pillow_formats
from fastload.errors import DataError
from fastload.jpeg.decoder import build_index
from fastload.jpeg.header import JpegHeader, read_header

# Pillow's own limit (twice MAX_IMAGE_PIXELS): 537 MB of RGB. A header that claims more is an attack or an accident.
MOST_PIXELS: Final = 178_956_970
# Images of more than 32 million pixels are decoded one at a time, so that memory does not grow with the workers.
_LARGE_PIXELS: Final = 32 << 20
_large_images = threading.Semaphore(1)

# For images that have to be encoded anew although the user did not ask: as close as 4:4:4 comes at a sensible size.
FORCED_QUALITY: Final = 95
# For images that max_side makes smaller when no quality is given; FFCV's default.
SHRUNK_QUALITY: Final = 90

_SUBSAMPLING: Final[Mapping[tuple[tuple[int, int], ...], str]] = {
    ((1, 1), (1, 1), (1, 1)): "444",
    ((2, 1), (1, 1), (1, 1)): "422",
    ((2, 2), (1, 1), (1, 1)): "420",
    ((1, 2), (1, 1), (1, 1)): "440",
    ((4, 1), (1, 1), (1, 1)): "411",
}
# What libjpeg-turbo says of a file from which pixels are missing or made up.
_DAMAGE: Final = ("premature end", "bad huffman code")


@dataclass(frozen=True, kw_only=True)
class Transcoded:
    """One image as it is stored.

    Attributes:
        image: A JPEG file, or RGB pixels, row by row from the top.
        height, width: Its size in pixels.
        original: Height and width in pixels of what the source holds.
        crc32: Checksum of ``image``.
        reencoded: Whether it is not the file that the source holds.
        reason: Why it had to be encoded anew although nobody asked for it; empty otherwise.
        seek: Its seek index (see fastload.jpeg.decoder.build_index); empty where it has none or none was asked for.
        retiled: Whether it was rewritten with restart tiles.
        untiled: Why it was not although that was asked for; empty otherwise.
    """

    image: bytes
    height: int
    width: int
    original: tuple[int, int]
    crc32: int
    reencoded: bool
    reason: str
    seek: bytes = b""
    retiled: bool = False
    untiled: str = ""


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    values: NDArray[np.uint8]  # (height, width, 3 or 1)
    subsampling: str
    reason: str  # empty for a JPEG whose own bytes could be kept


def transcode(
    data: bytes,
    *,
    max_side: int | None = None,
    quality: int | None = None,
    raw: bool = False,
    tiles: bool = False,
    seek_index: bool = False,
) -> Transcoded:
    """Proves that an image can be decoded and gives the JPEG to store.

    The bytes of a JPEG are kept, unless it is CMYK, arithmetic-coded, draws a warning from libjpeg-turbo, or
    ``max_side`` or ``quality`` ask for more. Anything else becomes a JPEG of quality 95 (or ``quality``), RGB 4:4:4 or
    grey: alpha is dropped, 16 bits become 8, of an animation the first frame is taken.

    Args:
        data: An image file.
        max_side: Longest side in pixels of what is stored.
        quality: JPEG quality at which every image is encoded anew.
        raw: Gives the pixels that would be encoded, at most ``max_side`` on a side.
        tiles: Whether to rewrite what is stored without loss with restart tiles (see fastload.jpeg.recode).
        seek_index: Whether to make the seek index of what is stored.

    Raises:
        DataError: The file cannot be decoded completely, or claims more than MOST_PIXELS; with the reason.
    """
    if not data:
        raise DataError("the file is empty")
    if data[:3] == b"\xff\xd8\xff":
        header = read_header(data)
        with _room_for(header.height, header.width):
            stored = _from_jpeg(data, header, max_side, quality, raw, seek_index)
            stored = _tiled(stored) if tiles else stored
    else:
        with _open(data) as image, _room_for(image.height, image.width):
            stored = _store(_load(image, f"the file is {image.format}, not JPEG"), max_side, quality, raw)
            stored = _tiled(stored) if tiles else stored
    if seek_index and stored.reencoded and not stored.retiled:
        return replace(stored, seek=build_index(stored.image))
    return stored


def _tiled(stored: Transcoded) -> Transcoded:
    """The same image with restart tiles, where it can have them; those are found without a seek index."""
    image, untiled = with_tiles(stored.image, grey=read_header(stored.image).components == 1)
    if untiled:
        return replace(stored, untiled=untiled)
    return replace(stored, image=image, crc32=zlib.crc32(image), seek=b"", retiled=True)


def examine(data: bytes) -> tuple[int, int, bytes]:
    """Proves that an image can be decoded as it is; its height and width in pixels, and its seek index if it has one.

    Args:
        data: An image file.

    Raises:
        DataError: As transcode does.
    """
    if not data:
        raise DataError("the file is empty")
    if data[:3] != b"\xff\xd8\xff":
        with _open(data) as image, _room_for(image.height, image.width):
            _load(image, "")
            return image.height, image.width, b""
    header = read_header(data)
    with _room_for(header.height, header.width):
        reason, seek = _judge(data, header, seek_index=True)
        if reason:  # Pillow's to judge; where it decodes the file, our decoder may do so faster
            with _open(data) as image:
                _load(image, reason)
            seek = build_index(data, header=header)
        return header.height, header.width, seek


def _from_jpeg(
    data: bytes, header: JpegHeader, max_side: int | None, quality: int | None, raw: bool, seek_index: bool
) -> Transcoded:
    reason, seek = _judge(data, header, seek_index)
    fits = max_side is None or max(header.height, header.width) <= max_side
    if not reason and quality is None and fits and not raw:
        return Transcoded(
            image=data,
            height=header.height,
            width=header.width,
            original=(header.height, header.width),
            crc32=zlib.crc32(data),
            reencoded=False,
            reason="",
            seek=seek,
        )
    subsampling = _SUBSAMPLING.get(header.sampling, "444")
    if reason:
        with _open(data) as image:
            pixels = _load(image, reason, subsampling)
    else:
        grey = header.color_space == "grey"
        values = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=True)
        pixels = _Pixels(values=values, subsampling=subsampling, reason="")
    return _store(pixels, max_side, quality, raw)


def _judge(data: bytes, header: JpegHeader, seek_index: bool) -> tuple[str, bytes]:
    """Why the bytes of a JPEG cannot be kept, or ""; and its seek index, if that is wanted and the proof gave one."""
    if header.precision != 8 or header.lossless:
        raise DataError(f"expected 8-bit JPEG, got {header.precision} bits per sample or lossless coding")
    if header.color_space in ("cmyk", "unknown"):
        return f"JPEG of {header.components} components (CMYK or YCCK)", b""
    if header.arithmetic:
        return "arithmetic-coded JPEG", b""
    seek = _sound_index(data, header) if seek_index else b""
    return "" if seek else _warning(data, header), seek


def _sound_index(data: bytes, header: JpegHeader) -> bytes:
    """The seek index of a JPEG for which libjpeg-turbo has no warning; empty if that is for libjpeg-turbo to judge.

    Making it decodes the whole scan (0.6 ms for 110 KB) and is stricter than libjpeg-turbo: of 92,000 damaged
    files that had an index, none drew a warning once libjpeg-turbo had read the headers (1 us) without one.
    """
    try:
        simplejpeg.decode_jpeg_header(data, strict=True)
    except ValueError:
        return b""
    return build_index(data, header=header)


def _warning(data: bytes, header: JpegHeader) -> str:
    """Decodes the whole entropy-coded part of a JPEG; the warning that libjpeg-turbo has for it, or "".

    At an eighth of the size as grey this takes 0.8 ms for 110 KB where RGB takes 1.15, and finds the same: 3,000
    damaged files gave equal results.
    """
    space = "RGB" if header.color_space == "rgb" else "GRAY"
    try:
        simplejpeg.decode_jpeg(data, space, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        message = str(error)
        if any(sign in message.lower() for sign in _DAMAGE):
            raise DataError(f"the JPEG is truncated or damaged: {message}") from error
        return f"libjpeg-turbo says: {message}"
    return ""


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=pillow_formats())
    except UnidentifiedImageError as error:
        raise DataError("the bytes are no image file that fastload reads") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"the header claims more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them raise
        raise DataError(f"the headers are damaged: {_describe(error)}") from error


def _load(image: Image.Image, reason: str, subsampling: str = "444") -> _Pixels:
    """All pixels of an opened image as RGB or grey of 8 bits, in the colours that torchvision's loader gives."""
    try:
        image.load()
        values = _eight_bits(image)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"the image is truncated or damaged: {_describe(error)}") from error
    return _Pixels(values=values, subsampling=subsampling, reason=reason)


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    mode = image.mode
    values: NDArray[Any]
    if mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16) >> 8
    elif mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits as well, as Pillow gives some of them
        values = np.clip(np.asarray(image), 0, 65535) >> 8
    elif mode in ("I", "F"):
        raise DataError("32-bit samples have no range that could become 8 bits; scale the image yourself")
    elif mode in ("1", "L", "LA"):
        values = np.asarray(image.convert("L"))
    elif mode == "La":
        values = np.asarray(image.convert("LA"))[:, :, 0]
    elif mode in ("P", "PA", "RGBa"):  # a palette with transparency draws a warning on the straight way
        values = np.asarray(image.convert("RGBA").convert("RGB"))
    else:
        values = np.asarray(image.convert("RGB"))
    return values.astype(np.uint8, copy=False).reshape(image.height, image.width, -1)


def _store(pixels: _Pixels, max_side: int | None, quality: int | None, raw: bool) -> Transcoded:
    values = pixels.values
    height, width = values.shape[:2]
    new_height, new_width = fitted_size(height, width, max_side) if max_side is not None else (height, width)
    shrunk = (new_height, new_width) != (height, width)
    if shrunk:
        from fastload.convert.shrink import shrink  # numba takes half a second to import

        values = shrink(values, new_height, new_width)
    if raw:
        image = np.broadcast_to(values, (new_height, new_width, 3)).tobytes()
    else:
        image = _encode(values, pixels.subsampling, quality or (SHRUNK_QUALITY if shrunk else FORCED_QUALITY))
    return Transcoded(
        image=image,
        height=new_height,
        width=new_width,
        original=(height, width),
        crc32=zlib.crc32(image),
        reencoded=True,
        reason=pixels.reason,
    )


def _encode(values: NDArray[np.uint8], subsampling: str, quality: int) -> bytes:
    height, width, channels = values.shape
    if max(height, width) > 65500:
        raise DataError(f"{width} x {height} pixels are more than a JPEG can hold; ask for max_side")
    image: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(values),
        quality=quality,
        colorspace="GRAY" if channels == 1 else "RGB",
        colorsubsampling="Gray" if channels == 1 else subsampling,
    )
    return image


def fitted_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Height and width after the longer side is reduced to ``max_side``; as FFCV's max_resolution rounds them."""
    longest = max(height, width)
    if longest <= max_side:
        return height, width
    ratio = max_side / longest
    return max(1, int(ratio * height)), max(1, int(ratio * width))


@contextlib.contextmanager
def _room_for(height: int, width: int) -> Iterator[None]:
    """Refuses an image that is too large and lets large ones pass one at a time."""
    pixels = height * width
    if pixels > MOST_PIXELS:
        raise DataError(f"the header claims {width} x {height} pixels, more than {MOST_PIXELS:,}")
    with _large_images if pixels > _LARGE_PIXELS else contextlib.nullcontext():
        yield


def _describe(error: Exception) -> str:
    return f"{error}" if str(error) else type(error).__name__
