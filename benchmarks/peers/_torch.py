"""What the peers built on PyTorch's DataLoader share: torchvision v2 transforms and putting a batch together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch.utils.data import get_worker_info
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from benchmarks.harness.pipelines import ERASING, MEAN, STD, Pipeline
from benchmarks.harness.torchvision_chain import chain, with_boxes


class Recipe:
    """Turns JPEG bytes into a sample and samples into a batch, both in the worker process. Can be pickled.

    Args:
        pipeline: What to do.
        decoder: "pil" or "torchvision" (torchvision.io.decode_jpeg, which yields uint8 tensors).
        normalise: "sample" as torchvision's reference presets have it (ToDtype and Normalize on each float32 image),
            or "store": samples stay uint8, and each is normalised while it is still in the cache, straight into its
            place in a batch that lies in shared memory already. 0.2 ms of CPU an image; the whole batch at once,
            in three passes over float32, takes 0.5 to 0.8.
    """

    def __init__(self, pipeline: Pipeline, *, decoder: str, normalise: str) -> None:
        self._pipeline = pipeline
        self._decoder = decoder
        self._normalise = normalise
        self._dtype = getattr(torch, pipeline.dtype)
        self._memory = torch.channels_last if pipeline.nhwc else torch.contiguous_format
        self._mean = torch.tensor(MEAN).mul_(255).view(3, 1, 1)
        self._scale = torch.tensor(STD).mul_(255).view(3, 1, 1).reciprocal_()
        if pipeline.kind == "decode":
            self._transforms: Any = None
            return
        steps: list[Any] = [chain(pipeline)]
        if decoder == "pil":
            steps.append(v2.ToImage())  # it becomes a tensor after the resize, on fewer pixels
        if normalise == "sample":
            steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        self._transforms = v2.Compose(steps)
        self._erase = v2.RandomErasing(ERASING, inplace=True) if pipeline.augment == "trivial" else None

    def image(self, jpeg: bytes, annotated: Any = None) -> Any:
        """One image: 3 x H x W for a batch, H x W x 3 uint8 for "decode", a pair of views, or a dict with boxes."""
        if self._decoder == "pil":
            with Image.open(BytesIO(jpeg)) as opened:
                decoded: Any = opened.convert("RGB")
        else:
            decoded = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), mode=ImageReadMode.RGB)
        if self._pipeline.kind == "views":
            return self._transforms(decoded), self._transforms(decoded)
        if self._pipeline.kind == "detect":
            boxes, classes, _ = annotated
            return self._transforms(with_boxes(decoded, torch.from_numpy(boxes), torch.from_numpy(classes)))
        if self._transforms is not None:
            return self._transforms(decoded)
        return (
            v2.functional.pil_to_tensor(decoded).permute(1, 2, 0)
            if self._decoder == "pil"
            else decoded.permute(1, 2, 0)
        )

    def collate(self, samples: Sequence[tuple[Any, int]]) -> tuple[Any, ...]:
        """A batch in the final type and memory order."""
        labels = torch.tensor([label for _, label in samples])
        if self._transforms is None:
            return [image for image, _ in samples], labels
        if self._normalise == "sample":
            images = torch.stack([image for image, _ in samples])
            return images.to(self._dtype, memory_format=self._memory), labels
        if self._pipeline.kind == "views":
            return tuple(self._stored([views[number] for views, _ in samples]) for number in range(2)), labels
        if self._pipeline.kind == "detect":
            # Arrays: each tensor would go to the main process with a file descriptor of its own.
            targets = [(sample["boxes"].numpy(), sample["labels"].numpy()) for sample, _ in samples]
            return self._stored([sample["image"] for sample, _ in samples]), labels, targets
        return self._stored([image for image, _ in samples]), labels

    def _stored(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        batch = self._new_batch((len(images), 3, self._pipeline.size, self._pipeline.size))
        for row, image in zip(batch, images, strict=True):
            row.copy_(image.to(torch.float32).sub_(self._mean).mul_(self._scale))
            if self._erase is not None:
                self._erase(row)
        return batch

    def _new_batch(self, shape: tuple[int, ...]) -> torch.Tensor:
        if get_worker_info() is None:
            return torch.empty(shape, dtype=self._dtype, memory_format=self._memory)
        # As default_collate does in a worker: a batch made elsewhere would be copied there.
        storage = torch.UntypedStorage._new_shared(math.prod(shape) * self._dtype.itemsize)
        values = torch.empty(0, dtype=self._dtype).set_(storage)
        if self._memory is torch.contiguous_format:
            return values.view(shape)
        batch, channels, height, width = shape
        return values.view(batch, height, width, channels).permute(0, 3, 1, 2)
