"""What a user writes: frozen declarations with torchvision v2's names, argument order and defaults."""

from __future__ import annotations

from fastload.transforms.base import Fill, Interpolation, PaddingMode, Transform, WarpInterpolation
from fastload.transforms.color import (
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
)
from fastload.transforms.config import from_config, to_config
from fastload.transforms.containers import Compose, Container, RandomApply, RandomChoice, RandomOrder, flatten
from fastload.transforms.custom import Lambda
from fastload.transforms.erasing import Cutout, RandomErasing
from fastload.transforms.filters import JPEG, GaussianBlur, GaussianNoise, RandomAdjustSharpness
from fastload.transforms.geometry import (
    CenterCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
)
from fastload.transforms.mixing import CutMix, MixUp
from fastload.transforms.padding import Pad, RandomCrop, RandomIoUCrop, RandomZoomOut
from fastload.transforms.policies import AugMix, AutoAugment, RandAugment, ThreeAugment, TrivialAugmentWide
from fastload.transforms.scaling import RandomResize, RandomShortestSize, ScaleJitter
from fastload.transforms.targets import ClampBoundingBoxes, ConvertBoundingBoxFormat, SanitizeBoundingBoxes
from fastload.transforms.values import DType, Normalize, ToDtype
from fastload.transforms.views import MultiCrop, MultiView
from fastload.transforms.warping import (
    ElasticTransform,
    Identity,
    RandomAffine,
    RandomPerspective,
    RandomRotation,
    RandomTranslate,
)

__all__ = [
    "JPEG",
    "AugMix",
    "AutoAugment",
    "CenterCrop",
    "ClampBoundingBoxes",
    "ColorJitter",
    "Compose",
    "Container",
    "ConvertBoundingBoxFormat",
    "CutMix",
    "Cutout",
    "DType",
    "ElasticTransform",
    "Fill",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Identity",
    "Interpolation",
    "Lambda",
    "MixUp",
    "MultiCrop",
    "MultiView",
    "Normalize",
    "Pad",
    "PaddingMode",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomChoice",
    "RandomCrop",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomIoUCrop",
    "RandomOrder",
    "RandomPerspective",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomResize",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShortestSize",
    "RandomSolarize",
    "RandomTranslate",
    "RandomVerticalFlip",
    "RandomZoomOut",
    "Resize",
    "SanitizeBoundingBoxes",
    "ScaleJitter",
    "ThreeAugment",
    "ToDtype",
    "Transform",
    "TrivialAugmentWide",
    "WarpInterpolation",
    "flatten",
    "from_config",
    "to_config",
]
