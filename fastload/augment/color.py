"""How the transforms of colours draw."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.drawing import Drawing
from fastload.augment.program import Code
from fastload.augment.rng import uniform
from fastload.augment.steps import Kind
from fastload.transforms import (
    ColorJitter,
    Grayscale,
    RandomAutocontrast,
    RandomChannelPermutation,
    RandomEqualize,
    RandomGrayscale,
    RandomInvert,
    RandomPhotometricDistort,
    RandomPosterize,
    RandomSolarize,
    Transform,
)


def permutations(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """An order of k things for each sample, int64 (k, n), from k words each."""
    # Two words are equal once in 2**32 times; the stable sort then keeps their order, on every machine.
    return np.argsort(words, axis=0, kind="stable")


def _color_jitter(step: ColorJitter, drawing: Drawing) -> None:
    ranges = (step.brightness, step.contrast, step.saturation, step.hue)
    words = drawing.many_words(8)
    known = [
        (code, uniform(word, *bounds))
        for code, word, bounds in zip(_FACTORS, words[:4], ranges, strict=True)
        if bounds is not None
    ]
    if not known:
        return
    codes = np.array([code for code, _ in known])
    values = np.stack([value for _, value in known])
    # torchvision orders all four: what is left of such an order is as random.
    for place in permutations(words[4 : 4 + len(known)]):
        drawing.add(codes[place], np.take_along_axis(values, place[None], axis=0).T)


def _photometric_distort(step: RandomPhotometricDistort, drawing: Drawing) -> None:
    ranges = (step.brightness, step.contrast, step.saturation, step.hue)
    words = drawing.many_words(13)
    done = uniform(words[:5]) < step.p
    values = [uniform(word, *bounds)[:, None] for word, bounds in zip(words[5:9], ranges, strict=True)]
    brightness, contrast, saturation, hue = zip(_FACTORS, values, done[:4], strict=True)
    early = uniform(words[9]) < 0.5
    drawing.add(*brightness)
    drawing.add(contrast[0], contrast[1], contrast[2] & early)
    drawing.add(*saturation)
    drawing.add(*hue)
    drawing.add(contrast[0], contrast[1], contrast[2] & ~early)
    drawing.add(Code.PERMUTE, permutations(words[10:13]).T, done[4])


def _channel_permutation(_: RandomChannelPermutation, drawing: Drawing) -> None:
    drawing.add(Code.PERMUTE, permutations(drawing.words()[:3]).T)


def _grayscale(_: Grayscale, drawing: Drawing) -> None:
    drawing.add(Code.GRAYSCALE)


def with_probability(code: Code, *names: str) -> Kind:
    """A transform that does one thing, with fixed numbers (the fields named), with probability ``p``."""

    def draw(step: Any, drawing: Drawing) -> None:
        values = [getattr(step, name) for name in names]
        drawing.add(code, values, uniform(drawing.words()[0]) < step.p)

    return Kind(draw)


_FACTORS: Final = (Code.BRIGHTNESS, Code.CONTRAST, Code.SATURATION, Code.HUE)

COLOR: Final[dict[type[Transform], Kind]] = {
    ColorJitter: Kind(_color_jitter),
    Grayscale: Kind(_grayscale, random=False),
    RandomAutocontrast: with_probability(Code.AUTOCONTRAST),
    RandomChannelPermutation: Kind(_channel_permutation),
    RandomEqualize: with_probability(Code.EQUALIZE),
    RandomGrayscale: with_probability(Code.GRAYSCALE),
    RandomInvert: with_probability(Code.INVERT),
    RandomPhotometricDistort: Kind(_photometric_distort),
    RandomPosterize: with_probability(Code.POSTERIZE, "bits"),
    RandomSolarize: with_probability(Code.SOLARIZE, "threshold"),
}
