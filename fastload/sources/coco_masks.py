"""COCO's polygons and run lengths as pixels, to the very pixel that pycocotools fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError
from fastload.sources.annotations import is_number

# Outlines in COCO have some thousand points at five to a pixel; these four million take 256 MB while they are drawn.
_MOST_POINTS: Final = 1 << 22
_UPSAMPLED: Final = 5.0  # pycocotools draws outlines on a grid five times as fine
_MOST_DIGITS: Final = 7  # of 5 bits, in a run length that counts pixels


def instance_mask(
    segmentations: Sequence[Any], areas: Sequence[float], height: int, width: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """One mask of all objects of an image: i + 1 where object i is, 0 where none is.

    Where objects overlap the one with the smaller area is in front.

    Args:
        segmentations: Of each object: polygons ``[[x, y, x, y, ...], ...]`` or ``{"size": ..., "counts": ...}``.
        areas: Of each object.
        height, width: In pixels.

    Returns:
        Shape (height, width), uint8 for up to 255 objects, else uint16.

    Raises:
        DataError: A segmentation is none, or has another size; or there are more than 65,535.
    """
    if len(segmentations) > 0xFFFF:
        raise DataError(f"expected at most 65,535 objects, got {len(segmentations):,}; convert without masks")
    # Columns follow each other in COCO's runs.
    pixels = np.zeros(width * height, np.uint8 if len(segmentations) <= 0xFF else np.uint16)
    for number in sorted(range(len(areas)), key=lambda number: (-areas[number], number)):
        for toggles in _toggles(segmentations[number], height, width):
            for begin, end in toggles.reshape(-1, 2).tolist():
                pixels[begin:end] = number + 1
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def _toggles(segmentation: Any, height: int, width: int) -> list[NDArray[np.int64]]:
    """Where a segmentation begins and ends, in turns, column after column; one such array for each of its polygons."""
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width]:
            raise DataError(f"a mask has the size {str(segmentation.get('size'))[:40]}, the image {[height, width]}")
        counts = segmentation.get("counts")
        return [_from_counts(_decompressed(counts) if isinstance(counts, str) else counts, height * width)]
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError("an object has no segmentation; convert without masks")
    return [_from_polygon(polygon, height, width) for polygon in segmentation]


def _from_counts(counts: Any, pixels: int) -> NDArray[np.int64]:
    if not isinstance(counts, list) or any(type(count) is not int or not 0 <= count <= pixels for count in counts):
        raise DataError("a mask's run lengths are no counts of pixels")
    ends = np.cumsum(np.array(counts, np.int64))
    if not counts or ends[-1] != pixels:
        raise DataError(f"a mask's run lengths add up to {int(ends[-1]) if counts else 0:,} of {pixels:,} pixels")
    return ends[: len(ends) // 2 * 2]


def _decompressed(text: str) -> list[int]:
    """Run lengths from COCO's string: groups of 5 bits, the third and later ones as differences to the last but one."""
    counts: list[int] = []
    value = digits = 0
    for character in text.encode("ascii", "replace"):
        group = character - 48
        if not 0 <= group < 64 or digits >= _MOST_DIGITS:
            raise DataError("a mask's compressed run lengths are damaged")
        value |= (group & 31) << 5 * digits
        digits += 1
        if not group & 32:
            if group & 16:
                value -= 1 << 5 * digits
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = digits = 0
    if digits:
        raise DataError("a mask's compressed run lengths end in the middle of one")
    return counts


def _from_polygon(polygon: Any, height: int, width: int) -> NDArray[np.int64]:
    """pycocotools' rleFrPoly: the outline at five points to a pixel, and where it crosses from column to column."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(is_number, polygon)):
        raise DataError("a polygon is no list x, y, x, y, ... of at least three points")
    corners = (np.array(polygon, np.float64).reshape(-1, 2) * _UPSAMPLED + 0.5).astype(np.int64)  # cut, not floored
    x, y = _outline(corners, np.roll(corners, -1, axis=0))
    step = np.flatnonzero(x[1:] != x[:-1])
    left = np.where(x[step + 1] < x[step], x[step + 1], x[step + 1] - 1)
    column = (left + 0.5) / _UPSAMPLED - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    row = (np.minimum(y[step + 1], y[step]) + 0.5) / _UPSAMPLED - 0.5
    row = np.ceil(np.clip(row, 0, height))
    crossings, times = np.unique((column * height + row)[inside].astype(np.int64), return_counts=True)
    crossings = crossings[times % 2 == 1]
    return np.append(crossings, height * width) if len(crossings) % 2 else crossings


def _outline(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every point of the lines from ``begin`` to ``end``, (n, 2) each, one after the other."""
    delta = np.abs(end - begin)
    flat = delta[:, 0] >= delta[:, 1]
    lengths = delta.max(axis=1) + 1
    if int(lengths.sum()) > _MOST_POINTS:
        raise DataError("a polygon's outline is far longer than an image; it is damaged")
    # Each line is drawn from its lesser end in the longer direction, and then walked from its beginning.
    flipped = np.where(flat, begin[:, 0] > end[:, 0], begin[:, 1] > end[:, 1])
    low = np.where(flipped[:, None], end, begin)
    rise = np.where(flipped[:, None], begin, end) - low
    slope = np.where(flat, rise[:, 1], rise[:, 0]) / np.maximum(lengths - 1, 1)
    line = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(line)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    place = np.where(flipped[line], lengths[line] - 1 - place, place)
    minor = slope[line] * place
    x = np.where(flat[line], place + low[line, 0], (low[line, 0] + minor + 0.5).astype(np.int64))
    y = np.where(flat[line], (low[line, 1] + minor + 0.5).astype(np.int64), place + low[line, 1])
    return x, y
