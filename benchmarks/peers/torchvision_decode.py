"""torchvision.io.decode_jpeg of a whole batch on the device (nvJPEG there), and its v2 transforms on each image."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import MEAN, STD

_BATCHES_AHEAD = 2


class Loader(Running):
    """An image folder; threads read the files of two batches ahead, the main thread gives the device its work."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._paths = sorted(task.data.glob("*/*.jpg"))
        self._labels = torch.tensor([int(path.parent.name) for path in self._paths])
        self._pool = ThreadPoolExecutor(task.threads)
        pipeline = task.pipeline
        self._transform = v2.Compose(
            [
                v2.RandomResizedCrop(pipeline.size, pipeline.scale, pipeline.ratio, antialias=True),
                v2.RandomHorizontalFlip(pipeline.flip),
            ]
        )
        scale = torch.tensor([1 / (255 * value) for value in STD], device=task.device)
        bias = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], device=task.device)
        self._scale, self._bias = scale.view(3, 1, 1), bias.view(3, 1, 1)
        self._dtype = getattr(torch, pipeline.dtype)
        self._format = torch.channels_last if pipeline.nhwc else torch.contiguous_format

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        order = torch.randperm(len(self._paths), generator=torch.Generator().manual_seed(number))
        batches = [part for part in order.split(self._task.batch_size) if len(part) == self._task.batch_size]
        reading: deque[Any] = deque()
        for place, ids in enumerate(batches):
            while len(reading) < _BATCHES_AHEAD + 1 and place + len(reading) < len(batches):
                reading.append(self._pool.map(_read, [self._paths[i] for i in batches[place + len(reading)].tolist()]))
            images = decode_jpeg(list(reading.popleft()), mode=ImageReadMode.RGB, device=self._task.device)
            pixels = torch.stack([self._transform(image) for image in images])
            values = pixels.to(memory_format=self._format) * self._scale + self._bias
            yield values.to(self._dtype), self._labels[ids].to(self._task.device)

    def close(self) -> None:
        self._pool.shutdown()


def _read(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.fromfile(path, np.uint8))
