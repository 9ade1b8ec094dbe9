"""How large images are after a geometric step, as far as that can be known without an image."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from fastload.augment.canvas import resized_sizes
from fastload.transforms import (
    CenterCrop,
    Fill,
    Pad,
    RandomCrop,
    RandomIoUCrop,
    RandomResize,
    RandomResizedCrop,
    RandomRotation,
    RandomShortestSize,
    RandomZoomOut,
    Resize,
    ScaleJitter,
    Transform,
)


@dataclass(frozen=True)
class KnownSizes:
    """Height and width of all images, where they are the same; and height and width that none falls below."""

    exact: tuple[int, int] | None = None
    least: tuple[int, int] = (1, 1)

    def joined(self, other: KnownSizes) -> KnownSizes:
        """What is known of images of either kind."""
        height, width = (min(sides) for sides in zip(self.least, other.least, strict=True))
        return KnownSizes(self.exact if self.exact == other.exact else None, (height, width))


def sizes_after(step: Transform, known: KnownSizes) -> KnownSizes:
    """What is known after a geometric step; where nothing else is said about it, it leaves sizes as they are."""
    return _after(step, known)


@functools.singledispatch
def _after(_: Transform, known: KnownSizes) -> KnownSizes:
    return known


@_after.register(CenterCrop)
@_after.register(RandomCrop)
@_after.register(RandomResizedCrop)
def _(step: CenterCrop | RandomCrop | RandomResizedCrop, _: KnownSizes) -> KnownSizes:
    return KnownSizes(step.size, step.size)


@_after.register(Resize)
def _(step: Resize, known: KnownSizes) -> KnownSizes:
    exact = step.size if isinstance(step.size, tuple) else None
    if exact is None and known.exact is not None:
        height, width = (np.array([side], dtype=np.int64) for side in known.exact)
        height_after, width_after = resized_sizes(height, width, step.size, step.max_size)[0].tolist()
        exact = height_after, width_after
    if exact is not None:
        return KnownSizes(exact, exact)
    short = step.size if isinstance(step.size, int) and step.max_size is None else 1
    return KnownSizes(None, (short, short))


@_after.register(RandomResize)
def _(step: RandomResize, _: KnownSizes) -> KnownSizes:
    return KnownSizes(None, (step.min_size, step.min_size))


@_after.register(RandomIoUCrop)
@_after.register(RandomShortestSize)
@_after.register(ScaleJitter)
def _(_: Transform, __: KnownSizes) -> KnownSizes:
    return KnownSizes()


@_after.register(Pad)
def _(step: Pad, known: KnownSizes) -> KnownSizes:
    left, top, right, bottom = step.padding
    exact = None if known.exact is None else (known.exact[0] + top + bottom, known.exact[1] + left + right)
    return KnownSizes(exact, (known.least[0] + top + bottom, known.least[1] + left + right))


@_after.register(RandomZoomOut)
def _(_: RandomZoomOut, known: KnownSizes) -> KnownSizes:
    return KnownSizes(None, known.least)


@_after.register(RandomRotation)
def _(step: RandomRotation, known: KnownSizes) -> KnownSizes:
    if not step.expand:
        return known
    return KnownSizes(None, (min(known.least),) * 2)


def keeps_sizes(step: Transform) -> bool:
    """Whether every image leaves a geometric step as large as it came."""
    if isinstance(step, RandomRotation):
        return not step.expand
    return _after.dispatch(type(step)) is _after.dispatch(Transform)


def cuts_out(step: Transform, known: KnownSizes) -> bool:
    """Whether every image after a step is a part of the one before, pixel by pixel."""
    return isinstance(step, (CenterCrop, RandomCrop)) and paint(step, known) is None and not frames(step)


def frames(step: Transform) -> bool:
    """Whether a step may repeat or mirror the edges of images in a border, which is an operation on pixels."""
    return isinstance(step, (Pad, RandomCrop)) and step.padding_mode != "constant" and _borders(step)


def paint(step: Transform, known: KnownSizes) -> Fill | None:
    """The level that a step may fill in outside of images; None where it never does."""
    if isinstance(step, (Pad, RandomCrop)):
        return step.fill if _borders(step) and step.padding_mode == "constant" else None
    if isinstance(step, CenterCrop):
        grows = any(size > least for size, least in zip(step.size, known.least, strict=True))
        return 0.0 if grows else None
    if not hasattr(step, "fill"):
        return None
    fill: Fill | None = step.fill
    return 0.0 if fill is None else fill


def _borders(step: Pad | RandomCrop) -> bool:
    return any(step.padding or ()) or (isinstance(step, RandomCrop) and step.pad_if_needed)
