"""What most have now: torchvision's ImageFolder, Pillow and v2 transforms in a DataLoader, as a contestant."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Sampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from fastload.bench.system import memory_bytes
from fastload.bench.task import Round, Task
from fastload.dataset import Dataset, ImageFolderDataset, open_dataset


class TorchContestant:
    """A DataLoader with persistent workers, two batches ahead for each (its default).

    A round is a whole number of batches for each worker, from idle to idle: nothing is left over that would be made
    while others are measured.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        transform, self._dtype = torchvision_transforms(task.transforms)
        self._source = open_dataset(task.path, **task.opening)
        by_class = isinstance(self._source, ImageFolderDataset) and bool(self._source.classes)
        self._samples: Any = (
            ImageFolder(self._source.path, transform) if by_class else StoredImages(self._source, transform)
        )
        self._draws = _Draws(len(self._samples))
        self._loader: DataLoader[Any] | None = None
        self._workers = 0
        self._clocks: dict[int, float] = {}
        self._rate = 0.0

    def first_batch(self, threads: int) -> dict[str, Any]:
        """Starts the workers and lets each deliver two batches, the second to know how fast they are."""
        self._workers = threads
        self._loader = DataLoader(
            self._samples,
            batch_size=self._task.batch_size,
            sampler=self._draws,
            num_workers=threads,
            persistent_workers=True,
            collate_fn=Collate(self._dtype, channels_last=self._task.channels_last),
        )
        self._epoch(threads)
        done = self._epoch(threads)
        self._rate = done.images / done.seconds
        return {}

    def measure(self, workers: int, seconds: float) -> Round:
        """One round of about ``seconds``, at least one batch of each worker; cold, at most one pass over the data."""
        assert workers == self._workers
        per_worker = round(seconds * self._rate / (self._task.batch_size * workers))
        done = self._epoch(workers * max(1, per_worker))
        self._rate = done.images / done.seconds
        return done

    def _epoch(self, batches: int) -> Round:
        assert self._loader is not None
        self._draws.count = batches * self._task.batch_size
        if self._task.cold:
            self._draws.count = min(self._draws.count, len(self._samples))
        clocks, images = dict(self._clocks), 0
        memory = None
        begin, cpu = time.perf_counter(), time.process_time()
        for number, (pixels, _, worker, clock) in enumerate(self._loader):
            images += len(pixels)
            self._clocks[worker] = clock
            if number == batches // 2:  # the queues are full; what looking costs is not the DataLoader's
                looked = time.process_time()
                memory = memory_bytes([os.getpid(), *(one.pid or 0 for one in multiprocessing.active_children())])
                cpu += time.process_time() - looked
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
        # A worker's clock begins with its process: what it did before its first batch is part of starting.
        cpu_seconds += sum(clock - clocks.get(worker, 0.0) for worker, clock in self._clocks.items())
        return Round(
            workers=self._workers,
            images=images,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            memory_bytes=memory,
            device_bytes=None,
            spans={},
            counts={},
            skipped=0,
        )

    def close(self) -> None:
        """Ends the workers."""
        self._loader = None
        self._source.close()


class StoredImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """The samples of one of fastload's data sets, their bytes decoded by Pillow as ImageFolder does."""

    def __init__(self, source: Dataset, transform: Any) -> None:
        self._source = source
        self._transform = transform

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        sample = self._source[index]
        with Image.open(BytesIO(sample.image)) as opened:
            return self._transform(opened.convert("RGB")), sample.label


class Collate:
    """Batches in the form that fastload delivers, with the worker's process and processor time."""

    def __init__(self, dtype: torch.dtype, *, channels_last: bool) -> None:
        self._dtype = dtype
        self._memory = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, samples: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor, int, float]:
        images = torch.stack([image for image, _ in samples]).to(self._dtype, memory_format=self._memory)
        return images, torch.tensor([label for _, label in samples]), os.getpid(), time.process_time()


class _Draws(Sampler[int]):
    """``count`` samples: one shuffled pass over the data set after the other."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        left = self.count
        while left > 0:
            taken = torch.randperm(self._samples)[:left].tolist()
            left -= len(taken)
            yield from taken


def torchvision_transforms(config: Sequence[Mapping[str, Mapping[str, Any]]]) -> tuple[Any, torch.dtype]:
    """The same steps as torchvision v2 has them, and the type that a batch is to have.

    Values are scaled and normalised in float32, as torchvision's reference training does it; a batch is then converted
    at once.
    """
    steps: list[Any] = []
    dtype, in_memory = torch.uint8, False
    for entry in config:
        for name, settings in entry.items():
            arguments = dict(settings)
            if "interpolation" in arguments:
                arguments["interpolation"] = InterpolationMode(arguments["interpolation"])
            if name in ("ToDtype", "Normalize") and not in_memory:
                steps.append(v2.PILToTensor())
                in_memory = True
            if name == "ToDtype":
                dtype = getattr(torch, arguments["dtype"])
                arguments["dtype"] = torch.float32 if dtype.is_floating_point else dtype
            steps.append(getattr(v2, name)(**arguments))
    if not in_memory:
        steps.append(v2.PILToTensor())
    return v2.Compose(steps), dtype
