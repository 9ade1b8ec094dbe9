"""What a user writes: frozen declarations with torchvision v2's names, argument order and defaults."""

from __future__ import annotations

from fastload.transforms.base import Interpolation, Transform
from fastload.transforms.compose import Compose, flatten
from fastload.transforms.config import from_config, to_config
from fastload.transforms.geometry import CenterCrop, RandomHorizontalFlip, RandomResizedCrop, Resize
from fastload.transforms.mixing import CutMix, MixUp
from fastload.transforms.values import DType, Normalize, ToDtype

__all__ = [
    "CenterCrop",
    "Compose",
    "CutMix",
    "DType",
    "Interpolation",
    "MixUp",
    "Normalize",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Resize",
    "ToDtype",
    "Transform",
    "flatten",
    "from_config",
    "to_config",
]
