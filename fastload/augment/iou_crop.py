"""Where RandomIoUCrop cuts: torchvision's search over a whole batch of images and their boxes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.drawing import Boxes, Drawing
from fastload.augment.rng import random_words, uniform
from fastload.errors import ConfigError
from fastload.transforms import RandomIoUCrop

_OPTIONS: Final = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
# torchvision draws options until a crop is found: a hundred without any are as rare as one in a million with its own.
_MAX_OPTIONS: Final = 100
# Trials that are looked at together: most samples need few.
_CHUNK: Final = 8


def random_iou_crop(step: RandomIoUCrop, drawing: Drawing) -> None:
    """Crops the samples, and marks the boxes whose middle is cut away as removed."""
    if drawing.boxes is None:
        raise ConfigError(f"{step} looks at bounding boxes, and the data set has none")
    boxes = _boxes_now(drawing, drawing.boxes)
    count, sizes = len(drawing.ids), drawing.canvas.sizes
    options = np.array(step.sampler_options or _OPTIONS)
    found = np.concatenate((np.zeros((count, 2), np.int64), sizes), axis=1)
    searching, cropped = np.flatnonzero(drawing.active), np.zeros(count, np.bool_)
    for attempt in range(_MAX_OPTIONS):
        if not searching.size:
            break
        first = attempt * (step.trials + 1)
        chosen = (_words(drawing, searching, first, 1)[0, 0] * len(options) >> np.uint64(32)).astype(np.int64)
        overlap = options[chosen]
        stays = overlap >= 1.0
        searching, overlap = searching[~stays], overlap[~stays]
        for trial in range(0, step.trials, _CHUNK):
            if not searching.size:
                break
            words = _words(drawing, searching, first + 1 + trial, min(_CHUNK, step.trials - trial))
            crops, good = _try(step, words, sizes[searching], overlap, boxes, drawing.boxes.start, searching)
            hit, which = good.any(axis=0), good.argmax(axis=0)
            rows = searching[hit]
            found[rows], cropped[rows] = crops[which[hit], np.flatnonzero(hit)], True
            searching, overlap = searching[~hit], overlap[~hit]
    owners = np.repeat(np.arange(count), np.diff(drawing.boxes.start))
    removed = cropped[owners] & ~_centred(boxes, found[owners])
    drawing.removed = removed if drawing.removed is None else drawing.removed | removed
    drawing.canvas.crop(found, cropped)


def _words(drawing: Drawing, rows: NDArray[np.int64], first: int, count: int) -> NDArray[np.uint64]:
    """Four words of each of ``count`` blocks for some of the samples, uint64 (4, count, m)."""
    blocks = np.arange(first, first + count)[:, None]
    return random_words(
        drawing.ids[rows], seed=drawing.seed, epoch=drawing.epoch, transform=drawing.number, block=blocks
    )


def _boxes_now(drawing: Drawing, boxes: Boxes) -> NDArray[np.float64]:
    """The boxes in the images as they stand, XYXY, cut off at their edges, float64 (m, 4)."""
    owners = np.repeat(np.arange(len(drawing.ids)), np.diff(boxes.start))
    corners = [drawing.canvas.places(owners, boxes.xyxy[:, x], boxes.xyxy[:, y]) for x in (0, 2) for y in (1, 3)]
    limits = drawing.canvas.sizes[owners][:, ::-1].astype(np.float64)
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    return np.concatenate((np.clip(low, 0.0, limits), np.clip(high, 0.0, limits)), axis=1)


def _try(
    step: RandomIoUCrop,
    words: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    overlap: NDArray[np.float64],
    boxes: NDArray[np.float64],
    start: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Top, left, height and width of one crop for each trial and sample, (trials, m, 4), and whether it will do."""
    heights, widths = sizes.T
    width = (widths * uniform(words[0], step.min_scale, step.max_scale)).astype(np.int64)
    height = (heights * uniform(words[1], step.min_scale, step.max_scale)).astype(np.int64)
    left = ((widths - width) * uniform(words[2])).astype(np.int64)
    top = ((heights - height) * uniform(words[3])).astype(np.int64)
    crops = np.stack((top, left, height, width), axis=-1)
    ratio = width / np.maximum(height, 1)
    good = (width > 0) & (height > 0) & (ratio >= step.min_aspect_ratio) & (ratio <= step.max_aspect_ratio)
    counts = (start[1:] - start[:-1])[rows]
    good &= counts > 0
    has = np.flatnonzero(counts)
    if not has.size:
        return crops, good
    # All boxes of all samples side by side, those of one sample together.
    owner = np.repeat(has, counts[has])
    first = np.cumsum(counts[has]) - counts[has]
    mine = boxes[np.repeat(start[rows[has]] - first, counts[has]) + np.arange(len(owner))]
    part = crops[:, owner]
    overlaps = np.where(_centred(mine, part), _overlap(mine, part), -1.0)
    good[:, has] &= np.maximum.reduceat(overlaps, first, axis=1) >= np.maximum(overlap[has], 0.0)
    return crops, good


def _centred(boxes: NDArray[np.float64], crops: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the middle of each box lies within its crop, (..., m)."""
    x, y = 0.5 * (boxes[:, 0] + boxes[:, 2]), 0.5 * (boxes[:, 1] + boxes[:, 3])
    top, left, height, width = np.moveaxis(crops, -1, 0)
    return np.asarray((left < x) & (x < left + width) & (top < y) & (y < top + height))


def _overlap(boxes: NDArray[np.float64], crops: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each box and its crop, (..., m)."""
    top, left, height, width = np.moveaxis(crops, -1, 0)
    across = np.minimum(boxes[:, 2], left + width) - np.maximum(boxes[:, 0], left)
    down = np.minimum(boxes[:, 3], top + height) - np.maximum(boxes[:, 1], top)
    shared = np.maximum(across, 0.0) * np.maximum(down, 0.0)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(shared / (area + height * width - shared))
