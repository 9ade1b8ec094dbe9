"""What augmentation drew for a batch: plain arrays that every engine turns into the same pixels."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fastload.augment.program import Program, Rows, spans

DType = Literal["uint8", "float16", "bfloat16", "float32"]
MemoryFormat = Literal["channels_last", "contiguous"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "area"]


class Function(Protocol):
    """A user's own function on an image."""

    def __call__(self, image: NDArray[np.uint8], parameters: NDArray[np.float64], /) -> None:
        """Changes an image.

        Args:
            image: uint8 (height, width, 3), C-contiguous.
            parameters: float64 (VALUES - 1,), what stands behind the number in the operation.
        """


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
        further: Form of the further views of each image, which are of the same type and memory format.
    """

    height: int
    width: int
    dtype: DType
    scale: tuple[float, float, float]
    bias: tuple[float, float, float]
    interpolation: Interpolation
    antialias: bool
    memory_format: MemoryFormat = "channels_last"
    further: tuple[Output, ...] = ()

    @property
    def views(self) -> tuple[Output, ...]:
        """The form of each view, this one first."""
        return (self, *self.further)

    def as_levels(self) -> Output:
        """The same images as grey levels (uint8), not yet scaled."""
        return self.altered(dtype="uint8", scale=(1.0, 1.0, 1.0), bias=(0.0, 0.0, 0.0))

    def altered(self, **changes: Any) -> Output:
        """With other attributes, in all views."""
        further = tuple(dataclasses.replace(view, **changes) for view in self.further)
        return dataclasses.replace(self, **changes, further=further)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what a slot holds of one sample: one image; of several views all their values, of which those of all
        samples in one view come before those in the next."""
        if self.further:
            return (sum(math.prod(view.image_shape) for view in self.views),)
        return self.image_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of one image in memory."""
        if self.memory_format == "contiguous":
            return 3, self.height, self.width
        return self.height, self.width, 3


@dataclass(frozen=True, kw_only=True)
class Warp:
    """Rotations, affine and perspective maps of n samples, composed to one sampling of what ``Draws.window`` shows.

    Coordinates are (x, y) in pixels, the upper left corner of an image at (0, 0), so that the middle of its first pixel
    lies at (0.5, 0.5). A pixel of the output at (x, y) takes what lies at ``matrix[i, 0] @ (x, y, 1)`` (divided by its
    last element) in image 0, which is the window of the grid. Images 1 to k - 1 stand between the two: their edges cut,
    as each step's does when steps are done one by one. Where the middle of an output pixel falls outside of image j
    it is ``fill[i, j]`` (of several j the greatest: the step that was done last paints last). Samples with fewer
    maps than others have (the identity, the output's size) in the last places.

    Attributes:
        matrix: float64 (n, k, 3, 3), from the output to image j.
        size: int32 (n, k, 2), height and width of image j; of image 0 the window's.
        fill: float64 (n, k, 3), levels of red, green and blue; of image 0 perhaps -1 (see
            part). (0, -1, -1) is black into which bilinear fades once: ``mixed`` alone (see bilinear).
        active: bool (n,), False where a sample has no map at all: its window is the output.
        bilinear: bool (n,), or nearest. At the edges of image 0 ``mask * (mixed - fill) + fill`` is left of bilinear,
            as in torchvision: ``mixed`` is the weighted sum of the neighbours that there are, ``mask`` that of 1.
        part: bool (n,), whether image 0 is not an image of any step, but that part of one which is seen (so that
            targets are not cut off at its edges); None where no sample has only a part. Where ``fill[i, 0]`` is below 0
            it was made smaller as well, and has no edges at all: its outermost pixels repeat beyond it.
    """

    matrix: NDArray[np.float64]
    size: NDArray[np.int32]
    fill: NDArray[np.float64]
    active: NDArray[np.bool_]
    bilinear: NDArray[np.bool_]
    part: NDArray[np.bool_] | None = None

    def rows(self, rows: Rows) -> Warp:
        """The maps of some of the samples; of a slice views, not copies."""
        return Warp(
            matrix=self.matrix[rows],
            size=self.size[rows],
            fill=self.fill[rows],
            active=self.active[rows],
            bilinear=self.bilinear[rows],
            part=None if self.part is None else self.part[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Flags of the bounding boxes of n samples, in the order of :class:`fastload.augment.drawing.Boxes`.

    Attributes:
        start: int64 (n + 1,): those of sample i are ``start[i]`` to ``start[i + 1]``.
        flags: bool (m,).
    """

    start: NDArray[np.int64]
    flags: NDArray[np.bool_]

    def rows(self, rows: Rows) -> Marks:
        """Those of some of the samples."""
        start, places = spans(self.start, rows)
        return Marks(start=start, flags=self.flags[places])


@dataclass(frozen=True, kw_only=True)
class Draws:
    """All that was drawn for a batch of n samples. Row i belongs to sample ``ids[i]``.

    In this order: ``before`` works on the pixels of the source. The source is cut down to the pixels that ``box``
    touches, and the box within them is resampled onto a grid of ``grid`` pixels, as Pillow's
    ``cut.resize((grid_w, grid_h), resample, box=...)`` does it (Pillow's filter reaches beyond its box, torchvision
    crops first: taps never leave the cut). ``window`` is the part of that grid that is put out, and what of the window
    lies outside the grid is ``pad`` (black where it is None). ``flip`` mirrors the window left to right, and
    ``flip_vertical`` top to bottom. ``warp`` maps it onto the output. ``after`` works on that. Then comes the store:
    scale, bias and rounding to the output's type.

    Attributes:
        ids: int64 (n,), sample numbers.
        box: float64 (n, 4), top, left, height, width in source pixels; inside the image.
        grid: int32 (n, 2), height, width of the whole resampled grid.
        window: int32 (n, 4), top, left, height, width in grid pixels; height and width equal the output's, but for
            samples with a map.
        flip: bool (n,).
        flip_vertical: bool (n,); None where no sample is mirrored top to bottom.
        nudge: float64 (n, 2), y and x: how far keypoints lie beside the pixels, because torchvision's flips take x to
            width - 1 - x and all else to where the pixels go. None for 0.
        pad: float64 (n, 3), levels of red, green and blue outside the grid; None for black.
        warp: Maps that are not parallel to the axes; None where no sample has one.
        before, after: Operations on pixels; None where no sample has any.
        functions: What the numbers of Code.LAMBDA mean.
        removed: Bounding boxes that a RandomIoUCrop has left out: they become empty. None where there was none.
    """

    ids: NDArray[np.int64]
    box: NDArray[np.float64]
    grid: NDArray[np.int32]
    window: NDArray[np.int32]
    flip: NDArray[np.bool_]
    flip_vertical: NDArray[np.bool_] | None = None
    nudge: NDArray[np.float64] | None = None
    pad: NDArray[np.float64] | None = None
    warp: Warp | None = None
    before: Program | None = None
    after: Program | None = None
    functions: tuple[Function, ...] = ()
    removed: Marks | None = None

    @property
    def plain(self) -> bool:
        """Whether one separable resampling is all there is to do."""
        return self.pad is None and self.warp is None and self.before is None and self.after is None

    def rows(self, rows: Rows) -> Draws:
        """The draws of some of the samples; of a slice views, not copies, of all but a few words."""
        parts = {name: None if part is None else part.rows(rows) for name, part in self._parts().items()}
        return Draws(
            ids=self.ids[rows],
            box=self.box[rows],
            grid=self.grid[rows],
            window=self.window[rows],
            flip=self.flip[rows],
            flip_vertical=None if self.flip_vertical is None else self.flip_vertical[rows],
            nudge=None if self.nudge is None else self.nudge[rows],
            pad=None if self.pad is None else self.pad[rows],
            functions=self.functions,
            **parts,  # type: ignore[arg-type]
        )

    def _parts(self) -> dict[str, Warp | Program | Marks | None]:
        return {"warp": self.warp, "before": self.before, "after": self.after, "removed": self.removed}
