"""FFCV as its ImageNet example sets it up: random order from the page cache, normalised by table to the final type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader as FFCVLoader
from ffcv.loader import OrderOption
from ffcv.transforms import (
    NormalizeImage,
    RandomBrightness,
    RandomContrast,
    RandomHorizontalFlip,
    RandomSaturation,
    Squeeze,
    ToTensor,
    ToTorchImage,
)

from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import JITTER, MEAN, STD


class Loader(Running):
    """``os_cache=True`` (FFCV's choice for data that fit into memory) and one batch ahead."""

    def __init__(self, task: Task) -> None:
        pipeline = task.pipeline
        size = (pipeline.size, pipeline.size)
        if pipeline.kind == "train":
            geometry: list[Any] = [
                RandomResizedCropRGBImageDecoder(size, scale=pipeline.scale, ratio=pipeline.ratio),
                RandomHorizontalFlip(flip_prob=pipeline.flip),
            ]
            if pipeline.augment == "jitter-nohue":
                jitter = zip((RandomBrightness, RandomContrast, RandomSaturation), JITTER[:3], strict=True)
                geometry += [step(strength, p=1.0) for step, strength in jitter]
        else:
            geometry = [CenterCropRGBImageDecoder(size, ratio=pipeline.size / pipeline.resize)]
        normalise = NormalizeImage(np.array(MEAN) * 255, np.array(STD) * 255, np.dtype(pipeline.dtype).type)
        self._loader = FFCVLoader(
            str(task.data),
            batch_size=task.batch_size,
            num_workers=task.threads,
            order=OrderOption.RANDOM,
            os_cache=True,
            batches_ahead=1,
            drop_last=True,
            seed=0,
            pipelines={
                "image": [*geometry, normalise, ToTensor(), ToTorchImage()],
                "label": [IntDecoder(), ToTensor(), Squeeze()],
            },
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        yield from self._loader
