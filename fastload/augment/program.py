"""What is done to the pixels of each sample before or after it is sampled: operations with all their numbers drawn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Numbers that an operation has at most.
VALUES: Final = 16


class Code(IntEnum):
    """Operations on an image of 8-bit levels, RGB, as torchvision v2 defines them for uint8 tensors.

    What stands behind each is its row of ``Program.values``; the rest of the row is 0. ``seed`` is two numbers, 32
    random bits each, from which an engine draws what it needs for each pixel (see :mod:`fastload.augment.rng`).
    """

    BRIGHTNESS = 1  # factor
    CONTRAST = 2  # factor; around the mean grey of the image as it stands
    SATURATION = 3  # factor
    HUE = 4  # shift, -0.5 to 0.5 of the circle
    GRAYSCALE = 5  # all channels become the image's grey
    INVERT = 6
    POSTERIZE = 7  # bits that stay
    SOLARIZE = 8  # threshold, 0 to 255
    AUTOCONTRAST = 9
    EQUALIZE = 10
    SHARPNESS = 11  # factor
    GAMMA = 12  # gamma, gain
    PERMUTE = 13  # three channel numbers: which old channel each new one is
    BLUR = 14  # kernel width, kernel height (odd), sigma x, sigma y
    NOISE = 15  # mean, sigma (shares of 255), 1 to clip (0 to wrap as uint8 does), seed
    JPEG = 16  # quality, 1 to 100
    # Interpolation (0 nearest, 1 bilinear), fill r, g, b, and nine of a 3 x 3 map, row by row (see Warp). With a fill
    # torchvision weighs twice what it mixes at the edges; a fill of (0, -1, -1) is black that is mixed once.
    WARP = 17
    ELASTIC = 18  # interpolation, fill r, g, b, alpha x, alpha y, sigma x, sigma y, seed
    ERASE = 19  # top, left, height, width, then levels r, g, b
    ERASE_NOISE = 20  # top, left, height, width, then seed: normal noise in stored values, as after a Normalize
    ERASE_STORED = 21  # top, left, height, width, then r, g, b in stored values, after scale and bias
    # A weighted sum of chains (AugMix): SAVE keeps the image; chains each begin with RESTORE (the kept image) and end
    # with ADD (its weight), and MIXED makes their sum the image.
    SAVE = 22
    RESTORE = 23
    ADD = 24  # weight
    MIXED = 25  # weight of the kept image
    COLOR_MATRIX = 26  # 3 x 4, row by row: level = clamp(matrix @ (r, g, b, 1)), cut off to whole levels
    LAMBDA = 27  # number of a user's own function (see transforms.Lambda), and its parameters
    FRAME = 28  # top, left, height, width, mode: all outside of this part mirrors it (1 edge, 2 reflect, 3 symmetric)


# A level of the result depends on the same pixel of the source alone, and on nothing else.
POINTWISE: Final = frozenset(
    {
        Code.BRIGHTNESS,
        Code.SATURATION,
        Code.HUE,
        Code.GRAYSCALE,
        Code.INVERT,
        Code.POSTERIZE,
        Code.SOLARIZE,
        Code.GAMMA,
        Code.PERMUTE,
        Code.COLOR_MATRIX,
    }
)


# Their numbers begin with top, left, height and width of a rectangle.
_PLACED: Final = (Code.ERASE, Code.ERASE_NOISE, Code.ERASE_STORED, Code.FRAME)


# Some of the samples: a slice without a step, or int64 (k,), their numbers.
Rows = slice | NDArray[np.int64]


def spans(start: NDArray[np.int64], rows: Rows) -> tuple[NDArray[np.int64], Rows]:
    """Of things that lie sample after sample, ``start[i]`` to ``start[i + 1]``: those of some, and their ``start``."""
    if isinstance(rows, slice):
        first, last, _ = rows.indices(len(start) - 1)
        begin, end = int(start[first]), int(start[last])
        return start[first : last + 1] - begin, slice(begin, end)
    lengths = np.diff(start)[rows]
    ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return ends, np.arange(ends[-1]) + np.repeat(start[:-1][rows] - ends[:-1], lengths)


@dataclass(frozen=True, kw_only=True)
class Program:
    """The operations of n samples: those of sample i are ``start[i]`` to ``start[i + 1]``, in order.

    Attributes:
        start: int64 (n + 1,).
        code: int64 (m,), of :class:`Code`.
        values: float64 (m, VALUES).
    """

    start: NDArray[np.int64]
    code: NDArray[np.int64]
    values: NDArray[np.float64]

    def rows(self, rows: Rows) -> Program:
        """The operations of some of the samples; of a slice views but for ``start``."""
        start, places = spans(self.start, rows)
        return Program(start=start, code=self.code[places], values=self.values[places])


class ProgramBuilder:
    """Collects operations for n samples, step by step.

    Attributes:
        touched: bool (n,), samples that have any.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._samples: list[NDArray[np.int64]] = []
        self._codes: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float64]] = []
        self.touched = np.zeros(count, np.bool_)

    def add(self, code: ArrayLike, values: ArrayLike, where: NDArray[np.bool_]) -> None:
        """Appends one operation to the programs of the samples where ``where`` is set.

        Args:
            code: One Code for all, or one for each sample, (n,).
            values: Its numbers: (k,) for all, or (n, k); k at most VALUES.
            where: bool (n,).
        """
        chosen = np.flatnonzero(where)
        if not chosen.size:
            return
        numbers = np.asarray(values, np.float64)
        rows = np.zeros((chosen.size, VALUES))
        rows[:, : numbers.shape[-1]] = numbers[chosen] if numbers.ndim == 2 else numbers
        self._samples.append(chosen)
        self._codes.append(np.broadcast_to(np.asarray(code, np.int64), (self._count,))[chosen])
        self._values.append(rows)
        self.touched[chosen] = True

    def mirror(self, where: NDArray[np.bool_], lengths: NDArray[np.int64], axis: int, *, latest: bool = False) -> None:
        """Makes of the operations on some images those on their mirror images, which come out mirrored.

        What is drawn for each pixel stays: its mirror image is as likely.

        Args:
            where: bool (n,), samples.
            lengths: int64 (n,), heights or widths of the images.
            axis: 0 for top to bottom, 1 for left to right.
            latest: Only the one that was added last.
        """
        pieces = list(zip(self._samples, self._codes, self._values, strict=True))
        for samples, codes, values in pieces[-1:] if latest else pieces:
            chosen = where[samples]
            length = lengths[samples].astype(np.float64)
            placed = chosen & np.isin(codes, _PLACED)
            values[placed, axis] = (length - values[:, axis] - values[:, axis + 2])[placed]
            mapped = chosen & (codes == Code.WARP)
            if mapped.any():
                matrix, row = values[mapped, 4:13].reshape(-1, 3, 3), 1 - axis
                # Mirrored before and after: F M F, where F takes x to length - x.
                matrix[:, row] = length[mapped, None] * matrix[:, 2] - matrix[:, row]
                matrix[:, :, 2] += length[mapped, None] * matrix[:, :, row]
                matrix[:, :, row] *= -1.0
                values[mapped, 4:13] = matrix.reshape(-1, 9)

    def build(self) -> Program | None:
        """The programs; None where no sample has any operation."""
        if not self._samples:
            return None
        samples = np.concatenate(self._samples)
        order = np.argsort(samples, kind="stable")
        counts = np.bincount(samples, minlength=self._count)
        return Program(
            start=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            code=np.concatenate(self._codes)[order],
            values=np.concatenate(self._values)[order],
        )
