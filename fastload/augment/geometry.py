"""How the geometric transforms draw: where each crop, resize and flip of a chain lies."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

from fastload.augment import portable
from fastload.augment.canvas import resized_sizes
from fastload.augment.crop import CropRule, draw_crops
from fastload.augment.drawing import Drawing
from fastload.augment.rng import uniform
from fastload.augment.steps import Kind
from fastload.transforms import CenterCrop, RandomHorizontalFlip, RandomResizedCrop, Resize, Transform


def _resize(step: Resize, drawing: Drawing) -> None:
    canvas = drawing.canvas
    canvas.resize(resized_sizes(canvas.heights, canvas.widths, step.size, step.max_size))


def _center_crop(step: CenterCrop, drawing: Drawing) -> None:
    drawing.canvas.center_crop(*step.size)


def _random_resized_crop(step: RandomResizedCrop, drawing: Drawing) -> None:
    canvas = drawing.canvas
    boxes = draw_crops(
        _crop_rule(step),
        canvas.heights,
        canvas.widths,
        drawing.ids,
        drawing.words(),
        seed=drawing.seed,
        epoch=drawing.epoch,
        transform=drawing.number,
    )
    canvas.crop(boxes)
    canvas.resize(np.array([step.size], dtype=np.int64))


def _random_horizontal_flip(step: RandomHorizontalFlip, drawing: Drawing) -> None:
    drawing.canvas.flip(drawing.active & (uniform(drawing.words()[0]) < step.p))


@functools.lru_cache(maxsize=64)
def _crop_rule(step: RandomResizedCrop) -> CropRule:
    low, high = step.ratio
    return CropRule(scale=step.scale, ratio=step.ratio, log_ratio=(portable.log(low), portable.log(high)))


GEOMETRY: Final[dict[type[Transform], Kind]] = {
    Resize: Kind(_resize, random=False, geometric=True),
    CenterCrop: Kind(_center_crop, random=False, geometric=True),
    RandomResizedCrop: Kind(_random_resized_crop, geometric=True),
    RandomHorizontalFlip: Kind(_random_horizontal_flip, geometric=True),
}
