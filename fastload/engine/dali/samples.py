"""One sample for DALI: the bytes that its crop needs where DALI decodes as the CPU engine does, else its pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from fastload.dataset.base import Dataset
from fastload.engine.limits import MAX_FILE_BYTES
from fastload.engine.whole import check_size, decode_whole, makes_pixels_up
from fastload.errors import DataError
from fastload.jpeg.header import JpegHeader, read_header
from fastload.jpeg.recode.part import part_of


class Encoded(NamedTuple):
    """A file for DALI, the size of the sample's own file, and where in the sample's image the image for DALI begins."""

    data: NDArray[np.uint8]
    num_bytes: int
    top: int = 0
    left: int = 0


def read_sample(
    dataset: Dataset,
    sample_id: int,
    num_bytes: int,
    box: NDArray[np.float64],
    cut: NDArray[np.int32],
    checked: NDArray[np.bool_],
) -> Encoded:
    """The file that DALI is given: the sample's own, the part of it that the cut needs where it has tiles, or a PPM.

    DALI gives a whole batch up for one damaged file, and shows made-up pixels for another: what nobody has decoded yet
    is therefore decoded here once (by libjpeg-turbo at an eighth of its size: 0.8 ms of processor time), and what draws
    a warning every time.

    Args:
        dataset: Where the sample is.
        sample_id: Its number.
        num_bytes: Size of its file.
        box: Top, left, height and width that are resampled; they must lie inside.
        cut: int32 (4,), the whole pixels that the box touches.
        checked: bool (len(dataset),), samples that are known to decode; entries are set, by any thread.

    Raises:
        DataError: The sample cannot be read, is damaged, or is smaller than its box.
    """
    if num_bytes > MAX_FILE_BYTES:
        raise DataError(f"the file has {num_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
    buffer = np.empty(max(num_bytes, 1), np.uint8)
    data = buffer[: dataset.read_into(sample_id, buffer)]
    header = _direct_header(data)
    if header is not None and not checked[sample_id]:
        checked[sample_id] = _is_sound(data)
    if header is not None and checked[sample_id]:
        _check_box(box, header.height, header.width)
        return _needed(data, header, cut)
    pixels = decode_pixels(data)
    _check_box(box, pixels.shape[0], pixels.shape[1])
    return Encoded(as_ppm(pixels), data.size)


def _needed(data: NDArray[np.uint8], header: JpegHeader, cut: NDArray[np.int32]) -> Encoded:
    """Of a file with restart tiles those that the cut needs: for random crops of ImageNet half of the bytes."""
    if header.restart_interval:
        top, left, height, width = cut.tolist()
        part = part_of(data, top=top, left=left, height=height, width=width)
        if part is not None:
            return Encoded(part.data, data.size, part.top, part.left)
    return Encoded(data, data.size)


def decode_pixels(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All pixels as the CPU engine has them, height x width x 3; DataError for what it does not take."""
    buffers: list[NDArray[np.uint8]] = []

    def reserve(height: int, width: int) -> NDArray[np.uint8]:
        check_size(height, width)
        buffers.append(np.empty(height * width * 3, np.uint8))
        return buffers[-1]

    height, width, _ = decode_whole(data, reserve)
    return buffers[-1].reshape(height, width, 3)


def as_ppm(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB pixels as a file that DALI "decodes" without a change."""
    height, width, _ = pixels.shape
    header = np.frombuffer(b"P6\n%d %d\n255\n" % (width, height), np.uint8)
    return np.concatenate([header, pixels.reshape(-1)])


def _direct_header(data: NDArray[np.uint8]) -> JpegHeader | None:
    """Of a JPEG that every decoder of DALI turns into the same pixels; None for any other file."""
    if len(data) < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return None
    try:
        header = read_header(data)
    except DataError:
        return None  # libjpeg-turbo or Pillow have the last word
    plain = header.precision == 8 and not header.arithmetic and not header.lossless
    if not plain or header.color_space not in ("grey", "ycbcr"):
        return None
    check_size(header.height, header.width)
    return header


def _is_sound(data: NDArray[np.uint8]) -> bool:
    """Whether libjpeg-turbo has no warning for a JPEG; DataError where pixels are missing from it."""
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        if makes_pixels_up(error):
            raise DataError(f"the JPEG is damaged ({error})") from error
        return False
    return True


def _check_box(box: NDArray[np.float64], height: int, width: int) -> None:
    inside = all(
        start >= 0.0 and start < size and length > 0.0 and start + length <= size * (1.0 + 1e-12)
        for start, length, size in ((box[0], box[2], height), (box[1], box[3], width))
    )
    if not inside:
        text = ", ".join(f"{number:g}" for number in box)
        raise DataError(
            f"the image has {width} x {height} pixels, its box ({text}) (top, left, height, width) lies outside: the "
            "index does not fit the file"
        )
