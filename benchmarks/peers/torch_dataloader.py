"""PyTorch's DataLoader over an image folder: what most users have (PIL), and with torchvision.io's decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from benchmarks.harness.loaders import Running, Task
from benchmarks.peers._folder import boxes_of, list_folder, read
from benchmarks.peers._torch import Recipe


class _Folder(Dataset[Any]):
    def __init__(self, task: Task, recipe: Recipe) -> None:
        self._paths, self._labels = list_folder(task.data)
        self._boxes = boxes_of(task.data, self._paths) if task.pipeline.kind == "detect" else None
        self._recipe = recipe

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        annotated = None if self._boxes is None else self._boxes[index]
        return self._recipe.image(read(self._paths[index]), annotated), int(self._labels[index])


class Loader(Running):
    """Persistent workers, two batches ahead for each (the default)."""

    def __init__(self, task: Task, *, decoder: str, normalise: str) -> None:
        recipe = Recipe(task.pipeline, decoder=decoder, normalise=normalise)
        self._loader = DataLoader(
            _Folder(task, recipe),
            batch_size=task.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=task.threads,
            persistent_workers=True,
            collate_fn=recipe.collate,
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, ...]]:
        yield from self._loader
