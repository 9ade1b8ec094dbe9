"""Conversions and normalisations among the steps that are drawn: what follows them is told in other units."""

from __future__ import annotations

from typing import Final

from fastload.augment.drawing import Drawing
from fastload.augment.steps import Kind
from fastload.transforms import Normalize, ToDtype, Transform


def _to_dtype(step: ToDtype, drawing: Drawing) -> None:
    drawing.values = drawing.values.convert(step)


def _normalize(step: Normalize, drawing: Drawing) -> None:
    drawing.values = drawing.values.normalize(step)


CONVERSIONS: Final[dict[type[Transform], Kind]] = {
    Normalize: Kind(_normalize, random=False),
    ToDtype: Kind(_to_dtype, random=False),
}
