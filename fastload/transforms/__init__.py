"""What a user writes: frozen declarations with torchvision v2's names, argument order and defaults."""

from __future__ import annotations

from fastload.transforms.base import Interpolation, Transform
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
from fastload.transforms.geometry import CenterCrop, RandomHorizontalFlip, RandomResizedCrop, Resize
from fastload.transforms.mixing import CutMix, MixUp
from fastload.transforms.policies import AugMix, AutoAugment, RandAugment, ThreeAugment, TrivialAugmentWide
from fastload.transforms.targets import ClampBoundingBoxes, ConvertBoundingBoxFormat, SanitizeBoundingBoxes
from fastload.transforms.values import DType, Normalize, ToDtype

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
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Interpolation",
    "Lambda",
    "MixUp",
    "Normalize",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomChoice",
    "RandomEqualize",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomInvert",
    "RandomOrder",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomResizedCrop",
    "RandomSolarize",
    "Resize",
    "SanitizeBoundingBoxes",
    "ThreeAugment",
    "ToDtype",
    "Transform",
    "TrivialAugmentWide",
    "flatten",
    "from_config",
    "to_config",
]
