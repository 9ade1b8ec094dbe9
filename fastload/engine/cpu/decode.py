"""Image file to RGB pixels: our decoder for the part needed, libjpeg-turbo or Pillow for what it does not take."""

from __future__ import annotations

import platform
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastload.engine.cpu.workspace import Workspace
from fastload.engine.whole import check_size, decode_whole
from fastload.jpeg import status
from fastload.jpeg.rectangle import decode_rectangle
from fastload.jpeg.workspace import IMAGE_HEIGHT, IMAGE_WIDTH

Decoder = Literal["fastload", "turbo", "pillow", "raw"]

# Where our own decoder has been shown to give libjpeg-turbo's very pixels.
PROVEN: Final = platform.machine().lower() in ("x86_64", "amd64")


class Decoded(NamedTuple):
    """What ``workspace.pixels`` holds.

    Attributes:
        image_height, image_width: Size of the image in pixels.
        region: Top, left, height and width of the part of it that was decoded.
        decoder: What did it.
        refused: Whether there is a seek index that cannot be this file's.
    """

    image_height: int
    image_width: int
    region: tuple[int, int, int, int]
    decoder: Decoder
    refused: bool = False


def decode(num_bytes: int, index: NDArray[np.uint8], region: list[int], workspace: Workspace) -> Decoded:
    """Decodes the first ``num_bytes`` of ``workspace.encoded`` into ``workspace.pixels``; EXIF orientation is ignored.

    Args:
        num_bytes: Size of the file.
        index: Its seek index; empty where there is none. One that cannot be this file's is not used.
        region: Top, left, height and width of the pixels that are needed. Our own decoder decodes these alone, the
            others always the whole image.
        workspace: The thread's memory.

    Raises:
        DataError: The file is no image, is damaged or truncated, or is larger than the limits of ``workspace``.
    """
    data = workspace.encoded[:num_bytes]
    # Without its end marker a file was perhaps cut off behind the region: libjpeg-turbo looks at all of it.
    if PROVEN and num_bytes >= 4 and data[:2].tobytes() == b"\xff\xd8" and data[-2:].tobytes() == b"\xff\xd9":
        decoded = _decode_region(num_bytes, index, region, workspace)
        if decoded is not None:
            return decoded
    return decode_all(num_bytes, workspace)


def _decode_region(num_bytes: int, index: NDArray[np.uint8], region: list[int], workspace: Workspace) -> Decoded | None:
    """Decodes the region with our own decoder; None where libjpeg-turbo has to judge."""
    top, left, height, width = region
    pixels = workspace.reserve_pixels(height, width)
    refused = False
    while True:
        work = workspace.jpeg
        answer = decode_rectangle(
            workspace.encoded, num_bytes, index, top, left, height, width, pixels, 3 * width, work
        )
        image_height, image_width = int(work[IMAGE_HEIGHT]), int(work[IMAGE_WIDTH])
        if answer == status.OK:
            check_size(image_height, image_width)
            return Decoded(image_height, image_width, (top, left, height, width), "fastload", refused)
        if answer == status.BAD_INDEX:
            index, refused = index[:0], True
        elif answer != status.NO_ROOM or not workspace.grow_jpeg(image_width, num_bytes):
            return None


def decode_all(num_bytes: int, workspace: Workspace) -> Decoded:
    """As ``decode``, the whole image, by libjpeg-turbo or Pillow."""
    height, width, decoder = decode_whole(workspace.encoded[:num_bytes], workspace.reserve_pixels)
    return Decoded(height, width, (0, 0, height, width), decoder)
