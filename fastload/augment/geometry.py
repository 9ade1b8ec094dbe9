"""How crops, resizes and flips draw: where each of a chain lies."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment import portable
from fastload.augment.canvas import resized_sizes
from fastload.augment.crop import CropRule, draw_crops
from fastload.augment.drawing import Drawing
from fastload.augment.rng import integers, uniform
from fastload.augment.steps import Kind
from fastload.transforms import (
    CenterCrop,
    Interpolation,
    RandomHorizontalFlip,
    RandomResize,
    RandomResizedCrop,
    RandomShortestSize,
    RandomVerticalFlip,
    Resize,
    ScaleJitter,
    Transform,
)


def widens(interpolation: Interpolation, antialias: bool) -> bool:
    """Whether a filter widens where the image shrinks: the flag says nothing to "nearest", nor to averages."""
    return interpolation in ("box", "area") or (antialias and interpolation != "nearest")


def _resize_to(step: Any, drawing: Drawing, sizes: NDArray[np.int64]) -> None:
    drawing.canvas.resize(sizes, drawing.active, widens(step.interpolation, step.antialias))


def _resize(step: Resize, drawing: Drawing) -> None:
    canvas = drawing.canvas
    _resize_to(step, drawing, resized_sizes(canvas.heights, canvas.widths, step.size, step.max_size))


def _center_crop(step: CenterCrop, drawing: Drawing) -> None:
    drawing.canvas.center_crop(*step.size, drawing.active)


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
    canvas.crop(boxes, drawing.active)
    _resize_to(step, drawing, np.array([step.size], dtype=np.int64))


def _scale_jitter(step: ScaleJitter, drawing: Drawing) -> None:
    canvas = drawing.canvas
    scale = uniform(drawing.words()[0], *step.scale_range)
    ratio = np.minimum(step.target_size[1] / canvas.heights, step.target_size[0] / canvas.widths) * scale
    _resize_by(step, drawing, ratio)


def _random_shortest_size(step: RandomShortestSize, drawing: Drawing) -> None:
    canvas = drawing.canvas
    chosen = integers(drawing.words()[0], len(step.min_size))
    ratio = np.array(step.min_size)[chosen] / np.minimum(canvas.heights, canvas.widths)
    if step.max_size is not None:
        ratio = np.minimum(ratio, step.max_size / np.maximum(canvas.heights, canvas.widths))
    _resize_by(step, drawing, ratio)


def _resize_by(step: Any, drawing: Drawing, ratio: NDArray[np.float64]) -> None:
    # Cut off as torchvision does: 640 * (480 / 640) may come out as 479.
    sizes = (drawing.canvas.sizes * ratio[:, None]).astype(np.int64)
    _resize_to(step, drawing, np.maximum(sizes, 1))


def _random_resize(step: RandomResize, drawing: Drawing) -> None:
    canvas = drawing.canvas
    short = step.min_size + integers(drawing.words()[0], step.max_size - step.min_size)
    _resize_to(step, drawing, resized_sizes(canvas.heights, canvas.widths, short, None))


def _flip(axis: int) -> Kind:
    def draw(step: RandomHorizontalFlip | RandomVerticalFlip, drawing: Drawing) -> None:
        where = drawing.active & (uniform(drawing.words()[0]) < step.p)
        # What was done to pixels before is done to their mirror images: sampling comes first.
        drawing.after.mirror(where, drawing.canvas.sizes[:, axis], axis)
        drawing.canvas.flip(where, axis)

    return Kind(draw, geometric=True, flips=True)


@functools.lru_cache(maxsize=64)
def _crop_rule(step: RandomResizedCrop) -> CropRule:
    low, high = step.ratio
    return CropRule(scale=step.scale, ratio=step.ratio, log_ratio=(portable.log(low), portable.log(high)))


GEOMETRY: Final[dict[type[Transform], Kind]] = {
    CenterCrop: Kind(_center_crop, random=False, geometric=True),
    RandomHorizontalFlip: _flip(1),
    RandomResize: Kind(_random_resize, geometric=True),
    RandomResizedCrop: Kind(_random_resized_crop, geometric=True),
    RandomShortestSize: Kind(_random_shortest_size, geometric=True),
    RandomVerticalFlip: _flip(0),
    Resize: Kind(_resize, random=False, geometric=True),
    ScaleJitter: Kind(_scale_jitter, geometric=True),
}
