"""The operations of the policies, how strong each is, and AutoAugment's pairs: torchvision v2's tables."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.program import Code

# Names are torchvision's (Color is a change of saturation). "Identity" is no operation: code 0.
CODES: Final[dict[str, int]] = {
    "Identity": 0,
    "ShearX": Code.WARP,
    "ShearY": Code.WARP,
    "TranslateX": Code.WARP,
    "TranslateY": Code.WARP,
    "Rotate": Code.WARP,
    "Brightness": Code.BRIGHTNESS,
    "Color": Code.SATURATION,
    "Contrast": Code.CONTRAST,
    "Sharpness": Code.SHARPNESS,
    "Posterize": Code.POSTERIZE,
    "Solarize": Code.SOLARIZE,
    "AutoContrast": Code.AUTOCONTRAST,
    "Equalize": Code.EQUALIZE,
    "Invert": Code.INVERT,
}
NAMES: Final = tuple(CODES)
SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE = (NAMES.index(name) for name in NAMES[1:6])
_FACTORS: Final = ("Brightness", "Color", "Contrast", "Sharpness")
# Operations that are as strong one way as the other: the sign is drawn.
SIGNED: Final = frozenset(NAMES[1:10])


@dataclass(frozen=True, kw_only=True)
class Space:
    """The operations that a policy draws from, and the strongest of each.

    Attributes:
        names: Of the operations, in torchvision's order.
        shear: Pixels per pixel.
        shift: Of a shift: (a, b), a * side / b pixels.
        relative: Whether ``shift`` is a share of the image's side; otherwise it is a / b pixels.
        angle: Degrees.
        factor: How far brightness and its like go from 1.
        bits: Of a posterisation: the most bits, and how many fewer there are at the other end.
    """

    names: tuple[str, ...]
    shear: float
    shift: tuple[int, int]
    relative: bool
    angle: float
    factor: float
    bits: tuple[int, int]

    @functools.cached_property
    def operations(self) -> NDArray[np.int64]:
        """``names`` as places in ``NAMES``."""
        return np.array([NAMES.index(name) for name in self.names])

    def strengths(self, bins: int) -> NDArray[np.float64]:
        """What an operation is told at each step of the strength, float64 (len(NAMES), bins); of a shift the step."""
        step = np.arange(bins) / (bins - 1)
        most, fewer = self.bits
        table = np.zeros((len(NAMES), bins))
        table[[SHEAR_X, SHEAR_Y]] = self.shear * np.arange(bins) / (bins - 1)
        table[ROTATE] = self.angle * np.arange(bins) / (bins - 1)
        table[[TRANSLATE_X, TRANSLATE_Y]] = np.arange(bins)
        for name in _FACTORS:
            table[NAMES.index(name)] = self.factor * np.arange(bins) / (bins - 1)
        table[NAMES.index("Posterize")] = np.rint(most - fewer * step)
        table[NAMES.index("Solarize")] = 255 * np.arange(bins - 1, -1, -1) / (bins - 1)
        return table

    def shifts(self, sides: NDArray[np.int64], steps: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
        """Whole pixels of a shift of images with these sides at a step of the strength, int64 (n,), cut off."""
        above, below = self.shift
        lengths = above * sides if self.relative else np.full_like(sides, above)
        return np.asarray(lengths * steps // (below * (bins - 1)))


_WARPS: Final = NAMES[1:6]
_LEVELS: Final = ("Posterize", "Solarize", "AutoContrast", "Equalize")

RAND: Final = Space(
    names=("Identity", *_WARPS, *_FACTORS, *_LEVELS),
    shear=0.3,
    shift=(150, 331),
    relative=True,
    angle=30.0,
    factor=0.9,
    bits=(8, 4),
)
# AutoAugment's strengths are RandAugment's; it names its operations itself.
AUTO: Final = RAND
TRIVIAL: Final = Space(
    names=RAND.names, shear=0.99, shift=(32, 1), relative=False, angle=135.0, factor=0.99, bits=(8, 6)
)
MIX_PART: Final = Space(
    names=(*_WARPS, *_LEVELS), shear=0.3, shift=(1, 3), relative=True, angle=30.0, factor=0.9, bits=(4, 4)
)
MIX: Final = Space(
    names=(*_WARPS, *_LEVELS, *_FACTORS), shear=0.3, shift=(1, 3), relative=True, angle=30.0, factor=0.9, bits=(4, 4)
)

# Two operations each: name, probability in tenths, step of the strength out of ten (0 where it has none).
_Pair = tuple[tuple[str, int, int], tuple[str, int, int]]
PAIRS: Final[dict[str, tuple[_Pair, ...]]] = {
    "imagenet": (
        (("Posterize", 4, 8), ("Rotate", 6, 9)),
        (("Solarize", 6, 5), ("AutoContrast", 6, 0)),
        (("Equalize", 8, 0), ("Equalize", 6, 0)),
        (("Posterize", 6, 7), ("Posterize", 6, 6)),
        (("Equalize", 4, 0), ("Solarize", 2, 4)),
        (("Equalize", 4, 0), ("Rotate", 8, 8)),
        (("Solarize", 6, 3), ("Equalize", 6, 0)),
        (("Posterize", 8, 5), ("Equalize", 10, 0)),
        (("Rotate", 2, 3), ("Solarize", 6, 8)),
        (("Equalize", 6, 0), ("Posterize", 4, 6)),
        (("Rotate", 8, 8), ("Color", 4, 0)),
        (("Rotate", 4, 9), ("Equalize", 6, 0)),
        (("Equalize", 0, 0), ("Equalize", 8, 0)),
        (("Invert", 6, 0), ("Equalize", 10, 0)),
        (("Color", 6, 4), ("Contrast", 10, 8)),
        (("Rotate", 8, 8), ("Color", 10, 2)),
        (("Color", 8, 8), ("Solarize", 8, 7)),
        (("Sharpness", 4, 7), ("Invert", 6, 0)),
        (("ShearX", 6, 5), ("Equalize", 10, 0)),
        (("Color", 4, 0), ("Equalize", 6, 0)),
        (("Equalize", 4, 0), ("Solarize", 2, 4)),
        (("Solarize", 6, 5), ("AutoContrast", 6, 0)),
        (("Invert", 6, 0), ("Equalize", 10, 0)),
        (("Color", 6, 4), ("Contrast", 10, 8)),
        (("Equalize", 8, 0), ("Equalize", 6, 0)),
    ),
    "cifar10": (
        (("Invert", 1, 0), ("Contrast", 2, 6)),
        (("Rotate", 7, 2), ("TranslateX", 3, 9)),
        (("Sharpness", 8, 1), ("Sharpness", 9, 3)),
        (("ShearY", 5, 8), ("TranslateY", 7, 9)),
        (("AutoContrast", 5, 0), ("Equalize", 9, 0)),
        (("ShearY", 2, 7), ("Posterize", 3, 7)),
        (("Color", 4, 3), ("Brightness", 6, 7)),
        (("Sharpness", 3, 9), ("Brightness", 7, 9)),
        (("Equalize", 6, 0), ("Equalize", 5, 0)),
        (("Contrast", 6, 7), ("Sharpness", 6, 5)),
        (("Color", 7, 7), ("TranslateX", 5, 8)),
        (("Equalize", 3, 0), ("AutoContrast", 4, 0)),
        (("TranslateY", 4, 3), ("Sharpness", 2, 6)),
        (("Brightness", 9, 6), ("Color", 2, 8)),
        (("Solarize", 5, 2), ("Invert", 0, 0)),
        (("Equalize", 2, 0), ("AutoContrast", 6, 0)),
        (("Equalize", 2, 0), ("Equalize", 6, 0)),
        (("Color", 9, 9), ("Equalize", 6, 0)),
        (("AutoContrast", 8, 0), ("Solarize", 2, 8)),
        (("Brightness", 1, 3), ("Color", 7, 0)),
        (("Solarize", 4, 5), ("AutoContrast", 9, 0)),
        (("TranslateY", 9, 9), ("TranslateY", 7, 9)),
        (("AutoContrast", 9, 0), ("Solarize", 8, 3)),
        (("Equalize", 8, 0), ("Invert", 1, 0)),
        (("TranslateY", 7, 9), ("AutoContrast", 9, 0)),
    ),
    "svhn": (
        (("ShearX", 9, 4), ("Invert", 2, 0)),
        (("ShearY", 9, 8), ("Invert", 7, 0)),
        (("Equalize", 6, 0), ("Solarize", 6, 6)),
        (("Invert", 9, 0), ("Equalize", 6, 0)),
        (("Equalize", 6, 0), ("Rotate", 9, 3)),
        (("ShearX", 9, 4), ("AutoContrast", 8, 0)),
        (("ShearY", 9, 8), ("Invert", 4, 0)),
        (("ShearY", 9, 5), ("Solarize", 2, 6)),
        (("Invert", 9, 0), ("AutoContrast", 8, 0)),
        (("Equalize", 6, 0), ("Rotate", 9, 3)),
        (("ShearX", 9, 4), ("Solarize", 3, 3)),
        (("ShearY", 8, 8), ("Invert", 7, 0)),
        (("Equalize", 9, 0), ("TranslateY", 6, 6)),
        (("Invert", 9, 0), ("Equalize", 6, 0)),
        (("Contrast", 3, 3), ("Rotate", 8, 4)),
        (("Invert", 8, 0), ("TranslateY", 0, 2)),
        (("ShearY", 7, 6), ("Solarize", 4, 8)),
        (("Invert", 6, 0), ("Rotate", 8, 4)),
        (("ShearY", 3, 7), ("TranslateX", 9, 3)),
        (("ShearX", 1, 6), ("Invert", 6, 0)),
        (("Solarize", 7, 2), ("TranslateY", 6, 7)),
        (("ShearY", 8, 4), ("Invert", 8, 0)),
        (("ShearX", 7, 9), ("TranslateY", 8, 3)),
        (("ShearY", 8, 5), ("AutoContrast", 7, 0)),
        (("ShearX", 7, 2), ("Invert", 1, 0)),
    ),
}
