"""What stands on the page of transforms: how each is declared there, and what differs from torchvision."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESIZE = "T.Resize((120, 160))"
_FLOAT = f'{_RESIZE}, T.ToDtype("float32")'
_PALE = f"{_RESIZE}, T.ColorJitter(contrast=(0.4, 0.4))"


@dataclasses.dataclass(frozen=True)
class Item:
    """One transform.

    Attributes:
        code: Its declaration, as it is drawn and printed.
        pixels: How far levels lie from torchvision's.
        note: What is otherwise than in torchvision, or to be known of the picture, if anything.
        before, after: What else the chain of the picture needs.
        variants: Declarations of which each is drawn once, in place of four draws of ``code``.
        moves: Whether it moves boxes, masks and keypoints.
        mixes: Whether it mixes images of a batch.
        views: Whether it makes several images of one.
        drawn: Whether it has a picture.
    """

    code: str
    pixels: str = ""
    note: str = ""
    before: str = ""
    after: str = ""
    variants: tuple[str, ...] = ()
    moves: bool = False
    mixes: bool = False
    views: bool = False
    drawn: bool = True

    @property
    def name(self) -> str:
        return self.code.partition("(")[0].removeprefix("T.")

    @property
    def seed(self) -> int:
        """Of the draws: one of its own, so that not all transforms draw alike."""
        return _SEEDS.get(self.name, zlib.crc32(self.name.encode()) % 1000)

    def chain(self, code: str) -> str:
        """The whole chain of a picture."""
        sanitized = "T.SanitizeBoundingBoxes()" if self.moves else ""
        return ", ".join(part for part in (self.before, code, self.after, sanitized) if part)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    text: str
    items: tuple[Item, ...]


def darken(image: NDArray[np.uint8], parameters: NDArray[np.float64]) -> None:
    """A function of one's own, for Lambda: the lower part in shadow."""
    below = int(parameters[0] * len(image))
    image[below:] = image[below:] // 2


# Seeds of lively draws.
_SEEDS = dict.fromkeys(("AugMix", "AutoAugment", "RandAugment", "RandomEqualize", "TrivialAugmentWide"), 3)
_SEEDS |= {"RandomGrayscale": 4, "RandomInvert": 4}
_SAMPLED = "1 level of Pillow's antialiased filter"
_WARPED = "1 level; nearest: equal but on the border of two pixels; chains: 2 levels of the same done in float64"


def _crop(code: str, **options: Any) -> Item:
    return Item(code, _SAMPLED, moves=True, **options)


def _warp(code: str, **options: Any) -> Item:
    return Item(code, _WARPED, before=_RESIZE, moves=True, **options)


def _pixel(code: str, pixels: str = "exact", **options: Any) -> Item:
    return Item(code, pixels, **{"before": _RESIZE} | options)


_GEOMETRY = (
    _crop("T.RandomResizedCrop((120, 160))"),
    _crop(
        "T.Resize((120, 160))",
        note="Here nearest, bilinear, bicubic, area.",
        variants=tuple(f'T.Resize((120, 160), "{name}")' for name in ("nearest", "bilinear", "bicubic", "area")),
    ),
    _crop("T.CenterCrop((120, 160))", before="T.Resize(180)", variants=("T.CenterCrop((120, 160))",)),
    _crop("T.RandomCrop((120, 160), padding=20)", before="T.Resize(160)"),
    _crop("T.RandomHorizontalFlip(p=0.5)", before=_RESIZE),
    _crop("T.RandomVerticalFlip(p=0.5)", before=_RESIZE),
    _crop(
        "T.Pad(20, fill=(255, 200, 0))",
        note="Here constant, edge, reflect, symmetric.",
        before="T.Resize((80, 120))",
        variants=(
            "T.Pad(20, fill=(255, 200, 0))",
            *(f'T.Pad(20, padding_mode="{mode}")' for mode in ("edge", "reflect", "symmetric")),
        ),
    ),
    _crop("T.RandomZoomOut(fill=128, side_range=(1.0, 2.0), p=1.0)", after=_RESIZE),
    _crop("T.RandomIoUCrop()", after=_RESIZE),
    _crop("T.ScaleJitter((120, 160), scale_range=(0.5, 1.5))", after="T.RandomCrop((120, 160), pad_if_needed=True)"),
    _crop("T.RandomShortestSize([140, 180, 240])", after="T.CenterCrop((120, 160))"),
    _crop("T.RandomResize(140, 300)", after="T.CenterCrop((120, 160))"),
)

_WARPS = (
    _warp('T.RandomRotation(30, "bilinear")'),
    _warp('T.RandomAffine(15, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=10, interpolation="bilinear")'),
    _warp("T.RandomTranslate((0.3, 0.3))"),
    _warp("T.RandomPerspective(0.5, p=1.0)"),
    Item("T.ElasticTransform(60.0, 6.0)", "1 level for the same displacements", before=_RESIZE),
)

_COLOUR = (
    _pixel("T.ColorJitter(0.4, 0.4, 0.4, 0.1)"),
    _pixel("T.RandomPhotometricDistort()"),
    _pixel("T.Grayscale(3)", variants=("T.Grayscale(3)",)),
    _pixel("T.RandomGrayscale(p=0.5)"),
    _pixel("T.RandomChannelPermutation()"),
    _pixel("T.RandomInvert(p=0.5)"),
    _pixel("T.RandomPosterize(2, p=0.5)"),
    _pixel("T.RandomSolarize(128, p=0.5)"),
    _pixel("T.RandomAutocontrast(p=0.5)", note="Here of an image with two fifths of its contrast.", before=_PALE),
    _pixel("T.RandomEqualize(p=0.5)", note="Likewise.", before=_PALE),
)

_FILTERS = (
    _pixel("T.RandomAdjustSharpness(4.0, p=0.5)"),
    _pixel("T.GaussianBlur(11, sigma=(0.1, 4.0))", "1 level, in at most one of a thousand"),
    _pixel("T.GaussianNoise(sigma=0.1)", "the same distribution"),
    _pixel("T.JPEG((5, 40))"),
    _pixel("T.RandomErasing(p=1.0)"),
    _pixel("T.Cutout(48)"),
    _pixel("T.Lambda(darken, [(0.3, 0.9)])", ""),
)

_POLICIES = (
    _pixel('T.AutoAugment("imagenet")'),
    _pixel("T.RandAugment()"),
    _pixel("T.TrivialAugmentWide()"),
    _pixel("T.AugMix()"),
    _pixel("T.ThreeAugment()"),
)

_CONTAINERS = (
    _pixel("T.Compose([T.RandomInvert(), T.RandomSolarize(128)])", ""),
    _pixel("T.RandomApply([T.GaussianBlur(11, sigma=4.0), T.Grayscale(3)], p=0.5)", ""),
    _pixel("T.RandomChoice([T.Grayscale(3), T.RandomInvert(1.0), T.GaussianBlur(11, sigma=4.0)])", ""),
    _pixel("T.RandomOrder([T.ColorJitter(0.5), T.RandomSolarize(128, p=1.0)])", ""),
    Item("T.Identity()", drawn=False),
)

_BATCH = (
    Item("T.MixUp(alpha=1.0)", before=_FLOAT, mixes=True),
    Item("T.CutMix(alpha=1.0)", before=_FLOAT, mixes=True),
)

_FLIPPED = "T.RandomResizedCrop((120, 160)), T.RandomHorizontalFlip()"
_VIEWS = (
    Item(
        f"T.MultiView([[{_FLIPPED}, T.ColorJitter(0.8, 0.8, 0.8, 0.2)], [{_FLIPPED}, T.GaussianBlur(11, 2.0)]])",
        _SAMPLED,
        views=True,
    ),
    Item("T.MultiCrop((120, 60), (2, 4), ((0.4, 1.0), (0.05, 0.4)))", _SAMPLED, views=True),
)

_VALUES = (
    Item("T.ToDtype(torch.float16, scale=True)", drawn=False),
    Item("T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))", drawn=False),
    Item("T.SanitizeBoundingBoxes()", drawn=False),
    Item("T.ClampBoundingBoxes()", drawn=False),
    Item('T.ConvertBoundingBoxFormat("CXCYWH")', drawn=False),
)

SECTIONS = (
    Section(
        "Crops, sizes, flips",
        "All of a chain become one sampling of the source, and only the part of the file that it needs is decoded.",
        _GEOMETRY,
    ),
    Section(
        "Rotations and other maps",
        "Several of them, and the crops around them, are composed, and the pixels sampled once.",
        _WARPS,
    ),
    Section("Colour", "Exact as torchvision rounds on uint8 tensors.", _COLOUR),
    Section("Neighbours, noise, holes", "", _FILTERS),
    Section("Policies", "", _POLICIES),
    Section("Containers", "They nest freely.", _CONTAINERS),
    Section(
        "Batches",
        "On the device, where there is one; labels become float32 (N, classes). Without a first cell: four images of a "
        "batch.",
        _BATCH,
    ),
    Section("Views", "`batch.images` is a tuple, with a batch for each view.", _VIEWS),
    Section("Values and boxes", "", _VALUES),
)

# Names of fastload.transforms that are no transforms of images.
NOT_DRAWN = {
    "Transform": "what all declarations are",
    "Container": "what Compose, RandomApply, RandomChoice and RandomOrder are",
    "flatten": "one list of a nested one",
    "from_config": "declarations from plain data, as recipes have them",
    "to_config": "its inverse",
    "DType": '"uint8", "float16", "bfloat16" or "float32"',
    "Interpolation": '"nearest", "bilinear", "bicubic", "box" or "area"',
    "WarpInterpolation": '"nearest" or "bilinear"',
    "PaddingMode": '"constant", "edge", "reflect" or "symmetric"',
    "Fill": "one level, or red, green and blue",
}
