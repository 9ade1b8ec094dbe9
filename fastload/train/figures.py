"""The two pictures of a report, drawn with Pillow: the confusion matrix and the curves of the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_INK, _GREY, _PAPER = (32, 32, 32), (200, 200, 200), (255, 255, 255)
_BLUE, _ORANGE, _GREEN = (31, 90, 166), (217, 95, 14), (35, 139, 69)
# With more classes than this the cells are too small for numbers and names; colour alone then shows the structure.
_MAX_NAMED = 40


def draw_confusion(path: Path, confusion: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Writes the confusion matrix as PNG: row per class, column per prediction, darker is a larger share of the row."""
    counts = np.asarray(confusion, dtype=np.int64)
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = classes <= _MAX_NAMED
    cell = max(1, min(48, 960 // classes)) if named else max(1, 960 // classes)
    font = _font(max(9, min(14, cell // 2)))
    labels = [_shorten(name) for name in names]
    margin = (int(max(font.getlength(label) for label in labels)) + 12) if named else 24
    side = classes * cell
    image = Image.new("RGB", (margin + side + 12, margin + side + 28), _PAPER)
    pixels = np.repeat(np.repeat(_colours(shares), cell, axis=0), cell, axis=1)
    image.paste(Image.fromarray(pixels), (margin, margin))
    draw = ImageDraw.Draw(image)
    draw.rectangle((margin - 1, margin - 1, margin + side, margin + side), outline=_INK)
    if named:
        for number, label in enumerate(labels):
            middle = margin + number * cell + cell // 2
            draw.text((margin - 6, middle), label, fill=_INK, font=font, anchor="rm")
            _text_upwards(image, label, middle, margin - 6, font)
        if cell >= 20:
            _draw_numbers(draw, counts, shares, margin, cell, font)
    draw.text((margin, margin + side + 6), "row: class, column: prediction", fill=_INK, font=_font(12))
    image.save(path, format="PNG")


def draw_curves(
    path: Path,
    *,
    steps: Sequence[tuple[float, float]],
    evaluations: Sequence[tuple[float, float, float]],
) -> None:
    """Writes the curves of a training as PNG: loss above, accuracy below, over epochs.

    Args:
        path: File to write.
        steps: (epoch, mean training loss) in rising order.
        evaluations: (epoch, evaluation loss, top-1 as a share) in rising order.
    """
    image = Image.new("RGB", (960, 640), _PAPER)
    draw = ImageDraw.Draw(image)
    last = max([1.0, *(point[0] for point in steps), *(point[0] for point in evaluations)])
    losses = [loss for _, loss in steps] + [loss for _, loss, _ in evaluations]
    finite = [loss for loss in losses if math.isfinite(loss)]
    upper = _Panel(draw, (70, 40, 940, 330), last, max(finite, default=1.0) or 1.0)
    upper.axes("loss")
    upper.line(steps, _BLUE)
    upper.line([(epoch, loss) for epoch, loss, _ in evaluations], _ORANGE, dots=True)
    lower = _Panel(draw, (70, 380, 940, 600), last, 1.0)
    lower.axes("top-1")
    lower.line([(epoch, top1) for epoch, _, top1 in evaluations], _GREEN, dots=True)
    legend = ((70, "training loss", _BLUE), (230, "evaluation loss", _ORANGE), (410, "evaluation top-1", _GREEN))
    for left, text, colour in legend:
        draw.line((left, 20, left + 24, 20), fill=colour, width=3)
        draw.text((left + 30, 20), text, fill=_INK, font=_font(13), anchor="lm")
    draw.text((505, 630), "epoch", fill=_INK, font=_font(12), anchor="mm")
    image.save(path, format="PNG")


class _Panel:
    """A pair of axes: x from 0 to ``last`` epochs, y from 0 to ``top``."""

    def __init__(self, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], last: float, top: float) -> None:
        self.draw, self.box, self.last, self.top = draw, box, last, top

    def place(self, x: float, y: float) -> tuple[float, float]:
        left, upper, right, lower = self.box
        return left + (right - left) * x / self.last, lower - (lower - upper) * min(y / self.top, 1.0)

    def axes(self, title: str) -> None:
        left, upper, right, lower = self.box
        for value in _ticks(self.top):
            _, y = self.place(0, value)
            self.draw.line((left, y, right, y), fill=_GREY)
            self.draw.text((left - 6, y), f"{value:g}", fill=_INK, font=_font(12), anchor="rm")
        for value in _ticks(self.last):
            x, _ = self.place(value, 0)
            self.draw.text((x, lower + 12), f"{value:g}", fill=_INK, font=_font(12), anchor="mm")
        self.draw.rectangle(self.box, outline=_INK)
        self.draw.text((left + 6, upper + 4), title, fill=_INK, font=_font(13))

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], *, dots: bool = False) -> None:
        places = [self.place(x, y) for x, y in points if math.isfinite(y)]
        if len(places) > 1:
            self.draw.line(places, fill=colour, width=2, joint="curve")
        if dots or len(places) == 1:
            for x, y in places:
                self.draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)


def _ticks(top: float) -> list[float]:
    """About five round numbers from 0 to ``top``."""
    raw = top / 5
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= raw)
    return [number * step for number in range(int(top / step + 1e-9) + 1)]


def _colours(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """White to dark blue."""
    low, high = np.array([255.0, 255.0, 255.0]), np.array([8.0, 48.0, 107.0])
    # The square root makes rare confusions visible.
    weight = np.sqrt(shares)[..., None]
    colours: NDArray[np.uint8] = (low + (high - low) * weight).round().astype(np.uint8)
    return colours


def _draw_numbers(
    draw: ImageDraw.ImageDraw,
    counts: NDArray[np.int64],
    shares: NDArray[np.float64],
    margin: int,
    cell: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    for row, column in np.argwhere(counts):
        middle = (margin + column * cell + cell // 2, margin + row * cell + cell // 2)
        colour = _PAPER if shares[row, column] > 0.3 else _INK
        draw.text(middle, str(counts[row, column]), fill=colour, font=font, anchor="mm")


def _text_upwards(
    image: Image.Image, text: str, centre: int, bottom: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    width, height = int(font.getlength(text)) + 1, 18
    strip = Image.new("RGB", (width, height), _PAPER)
    ImageDraw.Draw(strip).text((0, height // 2), text, fill=_INK, font=font, anchor="lm")
    image.paste(strip.rotate(90, expand=True), (centre - height // 2, bottom - width))


def _shorten(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}~"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
