"""How a user's own functions are drawn: which, and with what parameters."""

from __future__ import annotations

from typing import Final

import numpy as np

from fastload.augment.drawing import Drawing
from fastload.augment.program import Code
from fastload.augment.rng import uniform
from fastload.augment.steps import Kind
from fastload.transforms import Lambda, Transform


def _lambda(step: Lambda, drawing: Drawing) -> None:
    words = drawing.many_words(len(step.parameters))
    drawn = [uniform(word, *bounds) for word, bounds in zip(words, step.parameters, strict=True)]
    number = np.full(len(drawing.ids), drawing.number_of(step))
    drawing.add(Code.LAMBDA, np.stack((number, *drawn), axis=1))


CUSTOM: Final[dict[type[Transform], Kind]] = {Lambda: Kind(_lambda, mirrors=False)}
