"""DALI's operators and ready-made policies for what torchvision's transforms do to an 8-bit crop."""

from __future__ import annotations

from typing import Any

import numpy as np
from nvidia.dali import fn, math, types
from nvidia.dali.auto_aug import rand_augment, trivial_augment

from benchmarks.harness.pipelines import (
    ERASING,
    JITTER,
    RANDAUGMENT,
    SIMCLR_BLUR,
    SIMCLR_BLUR_P,
    SIMCLR_GREY_P,
    SIMCLR_JITTER,
    SIMCLR_JITTER_P,
    Pipeline,
)

_POLICY: dict[str, Any] = {"fill_value": 0, "interp_type": types.INTERP_NN}  # torchvision's defaults


def augmented(images: Any, pipeline: Pipeline) -> Any:
    """What ``pipeline.augment`` says, for crops of 8-bit levels."""
    # DALI rewrites functions for its conditionals, and knows no match statement.
    if pipeline.augment == "jitter":
        images = _twisted(images, JITTER)
    elif pipeline.augment == "jitter-nohue":
        images = _twisted(images, (*JITTER[:3], 0.0))
    elif pipeline.augment == "randaugment":
        count, magnitude = RANDAUGMENT
        shape = (pipeline.size, pipeline.size)
        images = rand_augment.rand_augment(
            images, count, magnitude, shape=shape, max_translate_rel=150 / 331, **_POLICY
        )
    elif pipeline.augment == "trivial":
        images = trivial_augment.trivial_augment_wide(images, max_translate_abs=32, **_POLICY)
    elif pipeline.augment == "simclr":
        images = _simclr(images)
    elif pipeline.augment == "distort":
        images = _distorted(images)
    return images


def erased(images: Any, pipeline: Pipeline) -> Any:
    """RandomErasing of stored values, for "trivial"."""
    if pipeline.augment != "trivial":
        return images
    # torchvision draws area and ratio until they fit; from these ranges they nearly always do at once.
    area = fn.random.uniform(range=(0.02, 0.33))
    root = fn.random.uniform(range=(float(np.log(0.3)), float(np.log(3.3))))
    ratio = math.exp(root)
    height, width = math.sqrt(area * ratio), math.sqrt(area / ratio)
    top = fn.random.uniform(range=(0.0, 1.0)) * (1 - height)
    left = fn.random.uniform(range=(0.0, 1.0)) * (1 - width)
    if fn.random.coin_flip(probability=ERASING, dtype=types.BOOL):
        images = fn.erase(
            images,
            anchor=fn.stack(top, left),
            shape=fn.stack(height, width),
            axis_names="HW",
            normalized=True,
            fill_value=0.0,
        )
    return images


def _factor(strength: float) -> Any:
    return fn.random.uniform(range=(max(0.0, 1 - strength), 1 + strength)) if strength else 1.0


def _twisted(images: Any, strengths: tuple[float, float, float, float]) -> Any:
    """One linear map of colours, always in the same order; hue turns in YIQ, contrast around a fixed grey."""
    brightness, contrast, saturation, hue = strengths
    return fn.color_twist(
        images,
        brightness=_factor(brightness),
        contrast=_factor(contrast),
        saturation=_factor(saturation),
        hue=fn.random.uniform(range=(-360 * hue, 360 * hue)) if hue else 0.0,
    )


def _simclr(images: Any) -> Any:
    if fn.random.coin_flip(probability=SIMCLR_JITTER_P, dtype=types.BOOL):
        images = _twisted(images, SIMCLR_JITTER)
    if fn.random.coin_flip(probability=SIMCLR_GREY_P, dtype=types.BOOL):
        images = fn.saturation(images, saturation=0.0)
    if fn.random.coin_flip(probability=SIMCLR_BLUR_P, dtype=types.BOOL):
        side, (low, high) = SIMCLR_BLUR
        images = fn.gaussian_blur(images, sigma=fn.random.uniform(range=(low, high)), window_size=side)
    return images


def _distorted(images: Any) -> Any:
    """RandomPhotometricDistort without its permutation of channels, for which DALI has no operator."""
    half = {"probability": 0.5}
    return fn.color_twist(
        images,
        brightness=1 + fn.random.coin_flip(**half) * fn.random.uniform(range=(-0.125, 0.125)),
        contrast=1 + fn.random.coin_flip(**half) * fn.random.uniform(range=(-0.5, 0.5)),
        saturation=1 + fn.random.coin_flip(**half) * fn.random.uniform(range=(-0.5, 0.5)),
        hue=fn.random.coin_flip(**half) * fn.random.uniform(range=(-18.0, 18.0)),
    )
