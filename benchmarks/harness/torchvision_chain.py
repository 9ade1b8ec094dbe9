"""The pipelines in torchvision v2's own transforms on uint8 tensors: what statistics are compared with."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.harness.pipelines import (
    JITTER,
    RANDAUGMENT,
    SIMCLR_BLUR,
    SIMCLR_BLUR_P,
    SIMCLR_GREY_P,
    SIMCLR_JITTER,
    SIMCLR_JITTER_P,
    Pipeline,
)


def pixel_steps(augment: str) -> list[Any]:
    """What is done to a crop of 8-bit levels; of "trivial" without the erasing, which follows the Normalize."""
    match augment:
        case "":
            return []
        case "jitter":
            return [v2.ColorJitter(*JITTER)]
        case "jitter-nohue":
            return [v2.ColorJitter(*JITTER[:3])]
        case "randaugment":
            return [v2.RandAugment(*RANDAUGMENT)]
        case "trivial":
            return [v2.TrivialAugmentWide()]
        case "simclr":
            return [
                v2.RandomApply([v2.ColorJitter(*SIMCLR_JITTER)], p=SIMCLR_JITTER_P),
                v2.RandomGrayscale(SIMCLR_GREY_P),
                v2.RandomApply([v2.GaussianBlur(*SIMCLR_BLUR)], p=SIMCLR_BLUR_P),
            ]
        case "distort":
            return [v2.RandomPhotometricDistort()]
    raise ValueError(f"there is no augmentation {augment!r}")


def chain(pipeline: Pipeline) -> Any:
    """One view of an image, 3 x H x W uint8 and for "detect" a dict with boxes and labels, up to its Normalize."""
    if pipeline.kind == "eval":
        return v2.Compose([v2.Resize(pipeline.resize, antialias=True), v2.CenterCrop(pipeline.size)])
    flip = v2.RandomHorizontalFlip(pipeline.flip)
    if pipeline.kind == "detect":
        # An overlap above 1 stands for the image as it is. Boxes whose middle is cut off leave with the Sanitize.
        crop = v2.RandomIoUCrop() if pipeline.chance else v2.RandomIoUCrop(sampler_options=[2.0])
        geometry = [crop, v2.SanitizeBoundingBoxes(), flip, v2.Resize((pipeline.size, pipeline.size), antialias=True)]
    else:
        crop = v2.RandomResizedCrop(pipeline.size, scale=pipeline.scale, ratio=pipeline.ratio, antialias=True)
        geometry = [crop, flip]
    return v2.Compose([*geometry, *pixel_steps(pipeline.augment)])


def with_boxes(image: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """An image and its boxes (XYXY) as v2 takes them."""
    size = (image.shape[-2], image.shape[-1])
    return {
        "image": tv_tensors.Image(image),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": labels,
    }
