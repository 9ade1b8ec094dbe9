"""Where RandomResizedCrop cuts: torchvision's algorithm over a whole batch of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.portable import exp
from fastload.augment.rng import integers, random_words, uniform

# torchvision tries so often, and then takes the middle of the image.
_TRIES: Final = 10


@dataclass(frozen=True, kw_only=True)
class CropRule:
    """Distribution of a random crop.

    Attributes:
        scale: Least and greatest share of the image's area.
        ratio: Least and greatest width / height.
        log_ratio: Natural logarithms of ratio.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    log_ratio: tuple[float, float]


def draw_crops(
    rule: CropRule,
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    ids: NDArray[np.int64],
    words: NDArray[np.uint64],
    *,
    seed: int,
    epoch: int,
    transform: int,
) -> NDArray[np.int64]:
    """Top, left, height and width of one crop per image, int64 (n, 4), in whole pixels.

    Each try takes one block of four words: area, ratio, top, left. A try whose region does not fit into the image is
    followed by the next; after ten the crop is central, as large as the ratio admits.

    Args:
        rule: Distribution.
        heights, widths: Size of each image, int64 (n,), at least 1.
        ids: Sample numbers, int64 (n,).
        words: Block 0 of this transform's words, uint64 (4, n).
        seed, epoch, transform: As for :func:`fastload.augment.rng.random_words`, which gives the further blocks.
    """
    boxes, fits = _try(rule, heights, widths, words)
    again = np.flatnonzero(np.logical_not(fits))
    if again.size:  # typically 1 in 20: all of their further tries in one go
        tall, wide = heights[again, None], widths[again, None]
        tries = np.arange(1, _TRIES)
        words = random_words(ids[again, None], seed=seed, epoch=epoch, transform=transform, block=tries)
        more, fits = _try(rule, tall, wide, words)
        rows, first = np.arange(again.size), fits.argmax(axis=1)
        central = _central(rule, tall[:, 0], wide[:, 0])
        boxes[again] = np.where(fits[rows, first, None], more[rows, first], central)
    return boxes


def _try(
    rule: CropRule, heights: NDArray[np.int64], widths: NDArray[np.int64], words: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes (..., 4), and whether each fits into its image; a box that does not is meaningless."""
    area = (heights * widths).astype(np.float64) * uniform(words[0], *rule.scale)
    ratio = exp(uniform(words[1], *rule.log_ratio))
    # Square root and rounding to even are exact in IEEE 754, and the same as Python's math.sqrt and round.
    width = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    height = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits: NDArray[np.bool_] = np.asarray((width > 0) & (width <= widths) & (height > 0) & (height <= heights))
    top = integers(words[2], np.maximum(heights - height + 1, 1))
    left = integers(words[3], np.maximum(widths - width + 1, 1))
    return np.stack((top, left, height, width), axis=-1), fits


def _central(rule: CropRule, heights: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    low, high = rule.ratio
    image_ratio = widths / heights
    # Where torchvision would round a side of a tiny image to nothing, and fail, one pixel is left.
    height = np.where(image_ratio < low, np.maximum(np.rint(widths / low), 1).astype(np.int64), heights)
    width = np.where(image_ratio > high, np.maximum(np.rint(heights * high), 1).astype(np.int64), widths)
    return np.stack(((heights - height) // 2, (widths - width) // 2, height, width), axis=-1)
