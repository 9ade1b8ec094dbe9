"""What the peers built on PyTorch's DataLoader share: torchvision v2 transforms and putting a batch together."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from benchmarks.harness.pipelines import MEAN, STD, Pipeline


class Recipe:
    """Turns JPEG bytes into a sample and samples into a batch, both in the worker process. Can be pickled.

    Args:
        pipeline: What to do.
        decoder: "pil" or "torchvision" (torchvision.io.decode_jpeg, which yields uint8 tensors).
        normalise: "sample" as torchvision's reference presets have it (ToDtype and Normalize on each float32 image),
            or "batch": samples stay uint8 and the whole batch is converted at once.
    """

    def __init__(self, pipeline: Pipeline, *, decoder: str, normalise: str) -> None:
        self._pipeline = pipeline
        self._decoder = decoder
        self._normalise = normalise
        self._dtype = getattr(torch, pipeline.dtype)
        self._memory = torch.channels_last if pipeline.nhwc else torch.contiguous_format
        if pipeline.kind == "decode":
            self._transforms: Any = None
            return
        if pipeline.kind == "train":
            steps: list[Any] = [
                v2.RandomResizedCrop(pipeline.size, scale=pipeline.scale, ratio=pipeline.ratio, antialias=True),
                v2.RandomHorizontalFlip(pipeline.flip),
            ]
        else:
            steps = [v2.Resize(pipeline.resize, antialias=True), v2.CenterCrop(pipeline.size)]
        steps.append(v2.ToImage())  # a PIL image becomes a tensor after the resize, on fewer pixels
        if normalise == "sample":
            steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        self._transforms = v2.Compose(steps)

    def image(self, jpeg: bytes) -> torch.Tensor:
        """One image: 3 x H x W for a batch, H x W x 3 uint8 for "decode"."""
        if self._decoder == "pil":
            with Image.open(BytesIO(jpeg)) as opened:
                decoded: Any = opened.convert("RGB")
        else:
            decoded = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), mode=ImageReadMode.RGB)
        if self._transforms is not None:
            return self._transforms(decoded)
        return (
            v2.functional.pil_to_tensor(decoded).permute(1, 2, 0)
            if self._decoder == "pil"
            else decoded.permute(1, 2, 0)
        )

    def collate(self, samples: Sequence[tuple[torch.Tensor, int]]) -> tuple[Any, torch.Tensor]:
        """A batch in the final type and memory order."""
        labels = torch.tensor([label for _, label in samples])
        if self._transforms is None:
            return [image for image, _ in samples], labels
        images = torch.stack([image for image, _ in samples])
        if self._normalise == "batch":
            images = images.to(torch.float32, memory_format=self._memory)
            mean, std = (torch.tensor(value).mul_(255).view(1, 3, 1, 1) for value in (MEAN, STD))
            images = images.sub_(mean).div_(std)
        return images.to(self._dtype, memory_format=self._memory), labels
