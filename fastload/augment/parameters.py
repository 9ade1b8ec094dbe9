"""What augmentation drew for a batch: plain arrays that every engine turns into the same pixels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DType = Literal["uint8", "float16", "bfloat16", "float32"]
MemoryFormat = Literal["channels_last", "contiguous"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "area"]


@dataclass(frozen=True, kw_only=True)
class Output:
    """The form of every image that leaves an engine; the same for all samples of an epoch.

    A stored value is ``pixel * scale[c] + bias[c]`` in float32, rounded once to ``dtype``; ``uint8`` is stored as it
    is (scale 1, bias 0).

    Attributes:
        height, width: Size in pixels.
        dtype: Type of a value.
        scale, bias: One float per channel (RGB).
        interpolation: How the source is sampled: Pillow's filters of these names, and "area", OpenCV's INTER_AREA, in
            which each source pixel counts for the part of it that lies under the output pixel.
        antialias: Whether the filter widens when the source is larger than the grid, as torchvision and Pillow do.
            Never with "nearest", always with "box" and "area".
        memory_format: How an image lies in memory, in torch's words: "channels_last" is height x width x 3,
            "contiguous" is 3 x height x width. The values are the same.
    """

    height: int
    width: int
    dtype: DType
    scale: tuple[float, float, float]
    bias: tuple[float, float, float]
    interpolation: Interpolation
    antialias: bool
    memory_format: MemoryFormat = "channels_last"

    def as_levels(self) -> Output:
        """The same images as grey levels (uint8), not yet scaled."""
        return dataclasses.replace(self, dtype="uint8", scale=(1.0, 1.0, 1.0), bias=(0.0, 0.0, 0.0))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image in memory."""
        if self.memory_format == "contiguous":
            return 3, self.height, self.width
        return self.height, self.width, 3


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The geometry of a batch of n samples. Row i belongs to sample ``ids[i]``.

    The source is cut down to the pixels that ``box`` touches, and the box within them is resampled onto a grid of
    ``grid`` pixels, as Pillow's ``cut.resize((grid_w, grid_h), resample, box=...)`` does it (Pillow's filter reaches
    beyond its box, torchvision crops first: taps never leave the cut). ``window`` is the part of that grid that is put
    out, and what of the window lies outside the grid is 0 (black, before scale and bias). ``flip`` mirrors the output
    left to right.

    Attributes:
        ids: int64 (n,), sample numbers.
        box: float64 (n, 4), top, left, height, width in source pixels; inside the image.
        grid: int32 (n, 2), height, width of the whole resampled grid.
        window: int32 (n, 4), top, left, height, width in grid pixels; height and width equal the output's.
        flip: bool (n,).
    """

    ids: NDArray[np.int64]
    box: NDArray[np.float64]
    grid: NDArray[np.int32]
    window: NDArray[np.int32]
    flip: NDArray[np.bool_]

    def rows(self, rows: slice) -> Draws:
        """The geometry of some of the samples; views, not copies."""
        return Draws(
            ids=self.ids[rows], box=self.box[rows], grid=self.grid[rows], window=self.window[rows], flip=self.flip[rows]
        )
