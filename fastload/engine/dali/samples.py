"""One sample for DALI: the bytes that its crop needs where DALI decodes as the CPU engine does, else its pixels."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from fastload.augment.parameters import Function
from fastload.augment.program import POINTWISE, Program
from fastload.dataset.base import Dataset
from fastload.engine.batched import run_operations
from fastload.engine.limits import MAX_FILE_BYTES
from fastload.engine.whole import check_size, decode_whole, makes_pixels_up
from fastload.errors import DataError
from fastload.jpeg.header import JpegHeader, read_header
from fastload.jpeg.recode.part import part_of
from fastload.stats import Stats

# An image uint8 (height, width, 3) after the operations of a program of one sample, which may call functions.
Edit = Callable[[NDArray[np.uint8], Program, tuple[Function, ...]], NDArray[np.uint8]]

_POINTWISE: Final = np.array(sorted(int(code) for code in POINTWISE))


class Encoded(NamedTuple):
    """A file for DALI, and where in the sample's image the image that it holds begins."""

    data: NDArray[np.uint8]
    top: int = 0
    left: int = 0


def read_sample(
    dataset: Dataset,
    sample_id: int,
    num_bytes: int,
    boxes: NDArray[np.float64],
    regions: list[NDArray[np.int32]],
    checked: NDArray[np.bool_],
) -> list[Encoded]:
    """The file that DALI is given: the sample's own, the part of it that it needs where it has tiles, or a PPM.

    DALI gives a whole batch up for one damaged file, and shows made-up pixels for another: what nobody has decoded yet
    is therefore decoded here once (by libjpeg-turbo at an eighth of its size: 0.8 ms of processor time), and what draws
    a warning every time.

    Args:
        dataset: Where the sample is.
        sample_id: Its number.
        num_bytes: Size of its file.
        boxes: float64 (views, 4), top, left, height and width that are resampled; they must lie inside.
        regions: int32 (4,), the whole pixels that DALI decodes, for all views together or for each.
        checked: bool (len(dataset),), samples that are known to decode; entries are set, by any thread.

    Returns:
        For each region a file that holds it.

    Raises:
        DataError: The sample cannot be read, is damaged, or is smaller than its boxes.
    """
    data = _read(dataset, sample_id, num_bytes)
    header = _direct_header(data)
    if header is not None and not checked[sample_id]:
        checked[sample_id] = _is_sound(data)
    if header is not None and checked[sample_id]:
        _check_boxes(boxes, header.height, header.width)
        return _needed(data, header, regions)
    pixels = decode_pixels(data)
    _check_boxes(boxes, *pixels.shape[:2])
    return [Encoded(as_ppm(pixels))] * len(regions)


def edit_sample(
    dataset: Dataset,
    sample_id: int,
    num_bytes: int,
    boxes: NDArray[np.float64],
    regions: list[NDArray[np.int32]],
    before: Program,
    functions: tuple[Function, ...],
    edit: Edit,
    stats: Stats,
) -> list[Encoded]:
    """The same for a sample that is worked on before it is resampled: decoded and worked on here, and a PPM for each.

    Args:
        dataset, sample_id, num_bytes, boxes: As above.
        regions: int32 (4,) for each view.
        before: The operations of each view.
        functions: What they may call.
        edit: Carries them out.
        stats: Takes the span "before".

    Raises:
        DataError: As above.
    """
    pixels = decode_pixels(_read(dataset, sample_id, num_bytes))
    _check_boxes(boxes, *pixels.shape[:2])
    begin = perf_counter()
    programs = [before.rows(slice(view, view + 1)) for view in range(len(regions))]
    edited = [_edited(pixels, *each, functions, edit) for each in zip(regions, programs, strict=True)]
    stats.add("before", perf_counter() - begin, 1)
    return edited


def edit_by_torch(image: NDArray[np.uint8], program: Program, functions: tuple[Function, ...]) -> NDArray[np.uint8]:
    """An Edit that needs no other engine."""
    edited: NDArray[np.uint8] = run_operations(torch.from_numpy(image)[None], program, functions)[0].numpy()
    return edited


def _edited(
    pixels: NDArray[np.uint8],
    region: NDArray[np.int32],
    before: Program,
    functions: tuple[Function, ...],
    edit: Edit,
) -> Encoded:
    """Its region after the operations, on no more of the image than they look at."""
    top, left, height, width = region.tolist()
    alone = bool(np.isin(before.code, _POINTWISE).all())
    if alone:
        pixels = pixels[top : top + height, left : left + width]
    if len(before.code):
        pixels = edit(np.ascontiguousarray(pixels), before, functions)
    if not alone:
        pixels = pixels[top : top + height, left : left + width]
    return Encoded(as_ppm(pixels), top, left)


def _read(dataset: Dataset, sample_id: int, num_bytes: int) -> NDArray[np.uint8]:
    if num_bytes > MAX_FILE_BYTES:
        raise DataError(f"the file has {num_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
    buffer = np.empty(max(num_bytes, 1), np.uint8)
    return buffer[: dataset.read_into(sample_id, buffer)]


def _needed(data: NDArray[np.uint8], header: JpegHeader, regions: list[NDArray[np.int32]]) -> list[Encoded]:
    """Of a file with restart tiles those that its one region needs: for random crops of ImageNet half of the bytes."""
    if header.restart_interval and len(regions) == 1:
        top, left, height, width = regions[0].tolist()
        part = part_of(data, top=top, left=left, height=height, width=width)
        if part is not None:
            return [Encoded(part.data, part.top, part.left)]
    return [Encoded(data)] * len(regions)


def decode_pixels(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All pixels as the CPU engine has them, height x width x 3; DataError for what it does not take."""
    buffers: list[NDArray[np.uint8]] = []

    def reserve(height: int, width: int) -> NDArray[np.uint8]:
        check_size(height, width)
        buffers.append(np.empty(height * width * 3, np.uint8))
        return buffers[-1]

    height, width, _ = decode_whole(data, reserve)
    return buffers[-1].reshape(height, width, 3)


def as_pixels(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A file that DALI need not decode, with the pixels of this one; DataError where it cannot be decoded."""
    return data if data[:2].tobytes() == b"P6" else as_ppm(decode_pixels(data))


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


def _check_boxes(boxes: NDArray[np.float64], height: int, width: int) -> None:
    for box in boxes:
        inside = all(
            start >= 0.0 and start < size and length > 0.0 and start + length <= size * (1.0 + 1e-12)
            for start, length, size in ((box[0], box[2], height), (box[1], box[3], width))
        )
        if not inside:
            text = ", ".join(f"{number:g}" for number in box)
            raise DataError(
                f"the image has {width} x {height} pixels, its box ({text}) (top, left, height, width) lies outside: "
                "the index does not fit the file"
            )
