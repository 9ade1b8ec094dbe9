"""How the transforms draw that look at a pixel's neighbours, add noise, or compress."""

from __future__ import annotations

from typing import Final

import numpy as np

from fastload.augment.color import with_probability
from fastload.augment.drawing import Drawing
from fastload.augment.program import Code
from fastload.augment.rng import integers, uniform
from fastload.augment.steps import Kind
from fastload.transforms import JPEG, GaussianBlur, GaussianNoise, RandomAdjustSharpness, Transform


def _gaussian_blur(step: GaussianBlur, drawing: Drawing) -> None:
    sigma = uniform(drawing.words()[0], *step.sigma)
    width, height = (np.full(len(sigma), side) for side in step.kernel_size)
    drawing.add(Code.BLUR, np.stack((width, height, sigma, sigma), axis=1))


def _gaussian_noise(step: GaussianNoise, drawing: Drawing) -> None:
    words = drawing.words()
    fixed = np.broadcast_to([step.mean, step.sigma, float(step.clip)], (words.shape[1], 3))
    drawing.add(Code.NOISE, np.hstack((fixed, words[:2].T)))


def _jpeg(step: JPEG, drawing: Drawing) -> None:
    low, high = step.quality
    drawing.add(Code.JPEG, (low + integers(drawing.words()[0], high - low + 1))[:, None])


FILTERS: Final[dict[type[Transform], Kind]] = {
    GaussianBlur: Kind(_gaussian_blur),
    GaussianNoise: Kind(_gaussian_noise),
    JPEG: Kind(_jpeg, mirrors=False),
    RandomAdjustSharpness: with_probability(Code.SHARPNESS, "sharpness_factor"),
}
