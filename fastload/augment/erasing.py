"""How the transforms draw that overwrite rectangles, and where they may stand."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment import portable
from fastload.augment.drawing import Drawing
from fastload.augment.parameters import Output
from fastload.augment.program import Code
from fastload.augment.rng import integers, random_words, uniform
from fastload.augment.steps import Kind
from fastload.augment.values import Values
from fastload.errors import ConfigError
from fastload.transforms import Cutout, RandomErasing, Transform

# torchvision tries so often, and then leaves the image alone.
_TRIES: Final = 10


def check_erasing(step: RandomErasing, values: Values, *, sampled: bool) -> None:
    """Raises ConfigError where it means nothing in the units that values have, or before the first geometric step."""
    if values.dtype != "uint8":
        if not sampled:
            raise ConfigError(f"{step} overwrites finished values: put it behind all that changes sizes")
        return
    if step.value == "random":
        raise ConfigError(
            f"{step} erases with normal noise of mean 0 and deviation 1, but the images are uint8 here: put it behind "
            "ToDtype('float32', scale=True) and Normalize"
        )
    levels = _triple(step)
    if not 0 <= min(levels) <= max(levels) <= 255:
        raise ConfigError(
            f"{step} must erase with levels from 0 to 255, because the images are uint8 here: put it behind Normalize "
            "for other values"
        )


def stored_value(step: RandomErasing, values: Values, output: Output) -> tuple[float, ...]:
    """What a value of the units ``values`` is when it is stored."""
    if (values.scale, values.bias) == (output.scale, output.bias):
        return _triple(step)
    channels = zip(_triple(step), values.scale, values.bias, output.scale, output.bias, strict=True)
    return tuple(
        (value - bias) * (scale_out / scale) + bias_out for value, scale, bias, scale_out, bias_out in channels
    )


def _triple(step: RandomErasing) -> tuple[float, ...]:
    assert step.value != "random"
    return step.value if isinstance(step.value, tuple) else (step.value,) * 3


def _random_erasing(step: RandomErasing, drawing: Drawing) -> None:
    words = drawing.words()
    rows = np.flatnonzero(drawing.active & (uniform(words[0]) < step.p))
    boxes, fits = (found[:, 0] for found in _tries(step, drawing, rows, np.arange(1, 2)))
    again = np.flatnonzero(~fits)
    if again.size:
        more, good = _tries(step, drawing, rows[again], np.arange(2, _TRIES + 1))
        first = good.argmax(axis=1)
        boxes[again] = more[np.arange(again.size), first]
        fits[again] = good.any(axis=1)
    count = len(drawing.ids)
    values, done = np.zeros((count, 7)), np.zeros(count, np.bool_)
    values[rows, :4] = boxes
    done[rows] = fits & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    if step.value == "random":
        values[:, 4:6] = words[1:3].T
        drawing.add(Code.ERASE_NOISE, values, done)
    elif drawing.values.dtype == "uint8":
        values[:, 4:] = np.trunc(_triple(step))
        drawing.add(Code.ERASE, values, done)
    else:
        values[:, 4:] = stored_value(step, drawing.values, drawing.output)
        drawing.add(Code.ERASE_STORED, values, done)


def _tries(
    step: RandomErasing, drawing: Drawing, rows: NDArray[np.int64], blocks: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A rectangle for each of some samples and blocks, (rows, blocks, 4), and whether it is smaller than the image."""
    words = random_words(
        drawing.ids[rows, None], seed=drawing.seed, epoch=drawing.epoch, transform=drawing.number, block=blocks
    )
    heights, widths = drawing.canvas.heights[rows, None], drawing.canvas.widths[rows, None]
    area = (heights * widths).astype(np.float64) * uniform(words[0], *step.scale)
    ratio = portable.exp(uniform(words[1], *_log_ratio(step)))
    height = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    width = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    top = integers(words[2], np.maximum(heights - height + 1, 1))
    left = integers(words[3], np.maximum(widths - width + 1, 1))
    return np.stack((top, left, height, width), axis=-1), np.asarray((height < heights) & (width < widths))


@functools.lru_cache(maxsize=64)
def _log_ratio(step: RandomErasing) -> tuple[float, float]:
    low, high = step.ratio
    return portable.log(low), portable.log(high)


def _cutout(step: Cutout, drawing: Drawing) -> None:
    words = drawing.words()
    heights, widths = (np.minimum(step.crop_size, side) for side in (drawing.canvas.heights, drawing.canvas.widths))
    top = integers(words[0], drawing.canvas.heights - heights + 1)
    left = integers(words[1], drawing.canvas.widths - widths + 1)
    fill = np.broadcast_to(np.trunc(step.fill), (len(top), 3))
    drawing.add(Code.ERASE, np.hstack((np.stack((top, left, heights, widths), axis=1), fill)))


ERASING: Final[dict[type[Transform], Kind]] = {
    Cutout: Kind(_cutout),
    RandomErasing: Kind(_random_erasing),
}
