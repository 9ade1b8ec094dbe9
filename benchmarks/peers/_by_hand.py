"""What a skilled user writes around simplejpeg and OpenCV: JPEG bytes in, one normalised row of a batch out."""

from __future__ import annotations

import math
import random
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.harness.pipelines import MEAN, STD, Pipeline

cv2.setNumThreads(0)  # the threads are the loader's


def random_crop(height: int, width: int, pipeline: Pipeline, generator: random.Random) -> tuple[int, int, int, int]:
    """Top, left, height, width as torchvision's RandomResizedCrop.get_params draws them."""
    low, high = math.log(pipeline.ratio[0]), math.log(pipeline.ratio[1])
    for _ in range(10):
        area = height * width * generator.uniform(*pipeline.scale)
        aspect = math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return generator.randint(0, height - h), generator.randint(0, width - w), h, w
    ratio = width / height
    if ratio < min(pipeline.ratio):
        w, h = width, round(width / min(pipeline.ratio))
    elif ratio > max(pipeline.ratio):
        w, h = round(height * max(pipeline.ratio)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


def center_crop(height: int, width: int, pipeline: Pipeline) -> tuple[int, int, int, int]:
    """The part of the source that Resize + CenterCrop shows; resizing it alone saves the rest."""
    side = round(min(height, width) * pipeline.size / pipeline.resize)
    return (height - side) // 2, (width - side) // 2, side, side


class Row:
    """Turns JPEG bytes into one normalised row of a batch. One per thread: it holds a scratch image and a generator."""

    def __init__(self, pipeline: Pipeline, seed: int) -> None:
        self._pipeline = pipeline
        self._random = random.Random(seed)
        self._scratch = np.empty((pipeline.size, pipeline.size, 3), np.uint8)
        levels = np.arange(256, dtype=np.float32)[:, None] / 255
        table = ((levels - np.float32(MEAN)) / np.float32(STD)).astype(pipeline.dtype)
        # OpenCV looks up a table of 16-bit integers in one vectorised pass; half floats are the same bits.
        self._as_stored = np.int16 if pipeline.dtype == "float16" else np.float32
        self._table = table.view(self._as_stored).reshape(1, 256, 3)

    def fill(self, jpeg: Any, row: NDArray[Any]) -> None:
        """Decodes ``jpeg`` and writes size x size x 3 values to ``row``."""
        pipeline = self._pipeline
        image = simplejpeg.decode_jpeg(jpeg, "RGB")
        height, width = image.shape[:2]
        if pipeline.kind == "train":
            top, left, h, w = random_crop(height, width, pipeline, self._random)
        else:
            top, left, h, w = center_crop(height, width, pipeline)
        crop = image[top : top + h, left : left + w]
        pixels = cv2.resize(crop, (pipeline.size, pipeline.size), dst=self._scratch, interpolation=cv2.INTER_LINEAR)
        if pipeline.kind == "train" and self._random.random() < pipeline.flip:
            pixels = cv2.flip(pixels, 1)
        cv2.LUT(pixels, self._table, dst=row.view(self._as_stored))
