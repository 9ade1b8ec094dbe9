"""How borders draw, and crops that leave the scale as it is."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.drawing import Drawing
from fastload.augment.iou_crop import random_iou_crop
from fastload.augment.program import Code
from fastload.augment.rng import integers, uniform
from fastload.augment.steps import Kind
from fastload.errors import ConfigError
from fastload.transforms import (
    Fill,
    Pad,
    PaddingMode,
    RandomCrop,
    RandomIoUCrop,
    RandomZoomOut,
    Transform,
)

_FRAMES: Final[dict[PaddingMode, int]] = {"edge": 1, "reflect": 2, "symmetric": 3}


def border_levels(fill: Fill) -> tuple[float, float, float]:
    """Levels of a border: torchvision cuts off what is behind the point."""
    red, green, blue = (float(int(level)) for level in (fill if isinstance(fill, tuple) else (fill,) * 3))
    return red, green, blue


def _pad(step: Pad, drawing: Drawing) -> None:
    left, top, right, bottom = step.padding
    boxes = np.empty((len(drawing.ids), 4), np.int64)
    boxes[:, 0], boxes[:, 1] = -top, -left
    boxes[:, 2:] = drawing.canvas.sizes + np.array((top + bottom, left + right))
    _crop(drawing, boxes, step.fill, step.padding_mode, drawing.active)


def _crop(drawing: Drawing, boxes: NDArray[np.int64], fill: Fill, mode: PaddingMode, where: NDArray[np.bool_]) -> None:
    """Crops to boxes that may reach beyond the images, whose border is as ``mode`` says."""
    begin, end = np.maximum(-boxes[:, :2], 0), np.minimum(drawing.canvas.sizes - boxes[:, :2], boxes[:, 2:])
    drawing.canvas.crop(boxes, where, border_levels(fill))
    if mode != "constant":
        part = np.concatenate((begin, end - begin), axis=1)
        framed = where & (part[:, 2:] < boxes[:, 2:]).any(axis=1)
        values = np.concatenate((part, np.full((len(part), 1), _FRAMES[mode])), axis=1)
        drawing.add(Code.FRAME, values, framed)


def _random_crop(step: RandomCrop, drawing: Drawing) -> None:
    canvas = drawing.canvas
    left, top, right, bottom = step.padding or (0, 0, 0, 0)
    padded = canvas.sizes + np.array((top + bottom, left + right))
    missing = np.maximum(np.array(step.size) - padded, 0)
    if not step.pad_if_needed:
        _check_sizes(step, drawing, padded, missing)
    # Enough on either side wherever the crop lies, as torchvision has it.
    padded = padded + 2 * missing
    words = drawing.words()
    boxes = np.empty((len(drawing.ids), 4), np.int64)
    for axis, before in ((0, top), (1, left)):
        room = np.maximum(padded[:, axis] - step.size[axis], 0)
        boxes[:, axis] = integers(words[axis], room + 1) - before - missing[:, axis]
    boxes[:, 2:] = step.size
    _crop(drawing, boxes, step.fill, step.padding_mode, drawing.active)


def _check_sizes(step: RandomCrop, drawing: Drawing, padded: NDArray[np.int64], missing: NDArray[np.int64]) -> None:
    small = np.flatnonzero(drawing.active & drawing.canvas.known & missing.any(axis=1))
    if small.size:
        height, width = padded[small[0]].tolist()
        sample = int(drawing.ids[small[0]]) % 2**48  # without the number of its repeat (see rng.streams)
        raise ConfigError(
            f"{step} is larger than some images (sample {sample} has {height} x {width} pixels "
            "there, height x width): set pad_if_needed=True, or put a Resize before it"
        )


def _random_zoom_out(step: RandomZoomOut, drawing: Drawing) -> None:
    words, sizes = drawing.words(), drawing.canvas.sizes
    zoomed = drawing.active & (uniform(words[0]) < step.p)
    grown = (sizes * uniform(words[1], *step.side_range)[:, None]).astype(np.int64)
    room = grown - sizes
    left, top = (room[:, axis] * uniform(word) for axis, word in ((1, words[2]), (0, words[3])))
    boxes = np.concatenate((-top[:, None].astype(np.int64), -left[:, None].astype(np.int64), grown), axis=1)
    drawing.canvas.crop(boxes, zoomed, border_levels(step.fill))


PADDING: Final[dict[type[Transform], Kind]] = {
    Pad: Kind(_pad, random=False, geometric=True),
    RandomCrop: Kind(_random_crop, geometric=True),
    RandomIoUCrop: Kind(random_iou_crop, geometric=True, boxes=True),
    RandomZoomOut: Kind(_random_zoom_out, geometric=True),
}
