"""Albumentations (OpenCV) in a DataLoader's workers: simplejpeg decodes, a table normalises into a shared batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # no look at the network when it is imported

import albumentations as A
import cv2
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import (
    JITTER,
    MEAN,
    SIMCLR_BLUR,
    SIMCLR_BLUR_P,
    SIMCLR_GREY_P,
    SIMCLR_JITTER,
    SIMCLR_JITTER_P,
    STD,
    Pipeline,
)
from benchmarks.peers._folder import list_folder, read


class _Folder(Dataset[Any]):
    def __init__(self, task: Task) -> None:
        self._paths, self._labels = list_folder(task.data)
        self._views = 2 if task.pipeline.kind == "views" else 1
        self._chain = A.Compose(_steps(task.pipeline))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[list[NDArray[np.uint8]], int]:
        image = simplejpeg.decode_jpeg(read(self._paths[index]), "RGB")
        return [self._chain(image=image)["image"] for _ in range(self._views)], int(self._labels[index])


class Loader(Running):
    """Persistent workers; batches are made in shared memory, as the other peers' in a DataLoader."""

    def __init__(self, task: Task) -> None:
        self._pipeline = task.pipeline
        levels = np.arange(256, dtype=np.float32)[:, None] / 255
        table = ((levels - np.float32(MEAN)) / np.float32(STD)).astype(task.pipeline.dtype)
        # OpenCV looks up a table of 16-bit integers in one vectorised pass; half floats are the same bits.
        self._as_stored = np.int16 if task.pipeline.dtype == "float16" else np.float32
        self._table = table.view(self._as_stored).reshape(1, 256, 3)
        self._loader = DataLoader(
            _Folder(task),
            batch_size=task.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=task.threads,
            persistent_workers=True,
            collate_fn=self._collate,
            worker_init_fn=_one_thread,
        )

    def _collate(self, samples: list[tuple[list[NDArray[np.uint8]], int]]) -> tuple[Any, torch.Tensor]:
        side, dtype = self._pipeline.size, getattr(torch, self._pipeline.dtype)
        views = []
        for number in range(len(samples[0][0])):
            storage = torch.UntypedStorage._new_shared(len(samples) * side * side * 3 * dtype.itemsize)
            batch = torch.empty(0, dtype=dtype).set_(storage).view(len(samples), side, side, 3)
            for row, (images, _) in zip(batch.numpy().view(self._as_stored), samples, strict=True):
                cv2.LUT(images[number], self._table, dst=row)
            views.append(batch.permute(0, 3, 1, 2))
        labels = torch.tensor([label for _, label in samples])
        return (tuple(views) if len(views) > 1 else views[0]), labels

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        yield from self._loader


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)


def _steps(pipeline: Pipeline) -> list[Any]:
    crop = A.RandomResizedCrop((pipeline.size, pipeline.size), scale=pipeline.scale, ratio=pipeline.ratio)
    steps = [crop, A.HorizontalFlip(p=pipeline.flip)]
    match pipeline.augment:
        case "jitter":
            steps.append(_jitter(*JITTER, p=1.0))
        case "jitter-nohue":
            steps.append(_jitter(*JITTER[:3], 0.0, p=1.0))
        case "simclr":
            side, sigma = SIMCLR_BLUR
            steps += [
                _jitter(*SIMCLR_JITTER, p=SIMCLR_JITTER_P),
                A.ToGray(p=SIMCLR_GREY_P),
                A.GaussianBlur(blur_limit=(side, side), sigma_limit=sigma, p=SIMCLR_BLUR_P),
            ]
    return steps


def _jitter(brightness: float, contrast: float, saturation: float, hue: float, *, p: float) -> Any:
    around = [(1 - strength, 1 + strength) for strength in (brightness, contrast, saturation)]
    return A.ColorJitter(*around, hue=(-hue, hue), p=p)
