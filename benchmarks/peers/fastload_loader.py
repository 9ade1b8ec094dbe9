"""fastload.Loader on tar shards or on the image folder as it is, to any device; with its default settings or others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastload
from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import MEAN, STD
from fastload import transforms as T


class Loader(Running):
    """One engine, global shuffle."""

    def __init__(self, task: Task, *, engine: str = "cpu", **options: Any) -> None:
        pipeline = task.pipeline
        if pipeline.kind == "train":
            geometry: list[T.Transform] = [
                T.RandomResizedCrop(pipeline.size, scale=pipeline.scale, ratio=pipeline.ratio),
                T.RandomHorizontalFlip(pipeline.flip),
            ]
        else:
            geometry = [T.Resize(pipeline.resize), T.CenterCrop(pipeline.size)]
        self._loader = fastload.Loader(
            task.data,
            batch_size=task.batch_size,
            transforms=[*geometry, T.ToDtype(pipeline.dtype, scale=True), T.Normalize(MEAN, STD)],
            last_batch="drop",
            engine=engine,
            device=task.device,
            num_workers=task.threads,
            **options,
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        self._loader.set_epoch(number)
        for batch in self._loader:
            yield batch.images, batch.labels

    def close(self) -> None:
        self._loader.close()
