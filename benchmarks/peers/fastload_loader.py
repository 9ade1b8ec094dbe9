"""fastload.Loader with its default settings, on tar shards or on the image folder as it is, to any device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastload
from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import (
    ERASING,
    JITTER,
    MEAN,
    RANDAUGMENT,
    SIMCLR_BLUR,
    SIMCLR_BLUR_P,
    SIMCLR_GREY_P,
    SIMCLR_JITTER,
    SIMCLR_JITTER_P,
    STD,
    Pipeline,
)
from fastload import transforms as T


class Loader(Running):
    """One engine, global shuffle."""

    def __init__(self, task: Task, *, engine: str = "cpu", **options: Any) -> None:
        pipeline = task.pipeline
        self._detects = pipeline.kind == "detect"
        store = [T.ToDtype(pipeline.dtype, scale=True), T.Normalize(MEAN, STD)]
        view = [*_geometry(pipeline), *_pixel_steps(pipeline.augment)]
        erasing = [T.RandomErasing(ERASING)] if pipeline.augment == "trivial" else []
        self._loader = fastload.Loader(
            task.data,
            batch_size=task.batch_size,
            transforms=[*(_views(view) if pipeline.kind == "views" else view), *store, *erasing],
            last_batch="drop",
            engine=engine,
            device=task.device,
            num_workers=task.threads,
            **({"targets": "list"} if self._detects else {}),
            **options,
        )
        self._photographs = _photographs(task) if self._detects else np.empty(0, np.int64)

    def epoch(self, number: int) -> Iterator[tuple[Any, ...]]:
        self._loader.set_epoch(number)
        for batch in self._loader:
            if self._detects:
                targets = [(target["boxes"], target["labels"]) for target in batch.targets]
                yield batch.images, self._photographs[batch.ids.numpy()], targets
            else:
                yield batch.images, batch.labels

    def close(self) -> None:
        self._loader.close()


def _views(chain: list[T.Transform]) -> list[T.Transform]:
    return [T.MultiView([chain, chain])]


def _photographs(task: Task) -> Any:
    """Which photograph each sample shows."""
    with fastload.open_dataset(str(task.data)) as dataset:
        numbers = [dataset[i].fields["image_id"] for i in range(len(dataset))]
    return np.array(numbers, np.int64) % len(list((task.data.parent / "folder").iterdir()))


def _geometry(pipeline: Pipeline) -> list[T.Transform]:
    flip = T.RandomHorizontalFlip(pipeline.flip)
    if pipeline.kind == "eval":
        return [T.Resize(pipeline.resize), T.CenterCrop(pipeline.size)]
    if pipeline.kind == "detect":
        # An overlap above 1 stands for the image as it is.
        crop = T.RandomIoUCrop() if pipeline.chance else T.RandomIoUCrop(sampler_options=[2.0])
        return [crop, flip, T.Resize((pipeline.size, pipeline.size)), T.SanitizeBoundingBoxes()]
    return [T.RandomResizedCrop(pipeline.size, scale=pipeline.scale, ratio=pipeline.ratio), flip]


def _pixel_steps(augment: str) -> list[T.Transform]:
    match augment:
        case "jitter":
            return [T.ColorJitter(*JITTER)]
        case "jitter-nohue":
            return [T.ColorJitter(*JITTER[:3])]
        case "randaugment":
            return [T.RandAugment(*RANDAUGMENT)]
        case "trivial":
            return [T.TrivialAugmentWide()]
        case "simclr":
            return [
                T.RandomApply([T.ColorJitter(*SIMCLR_JITTER)], p=SIMCLR_JITTER_P),
                T.RandomGrayscale(SIMCLR_GREY_P),
                T.RandomApply([T.GaussianBlur(*SIMCLR_BLUR)], p=SIMCLR_BLUR_P),
            ]
        case "distort":
            return [T.RandomPhotometricDistort()]
    return []
