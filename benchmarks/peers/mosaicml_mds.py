"""MosaicML streaming over local MDS shards, through PyTorch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streaming import StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

from benchmarks.harness.loaders import Running, Task
from benchmarks.peers._torch import Recipe


class _Images(StreamingDataset):
    recipe: Recipe

    def __getitem__(self, index: Any) -> tuple[Any, int]:
        sample = super().__getitem__(index)
        return self.recipe.image(sample["image"]), int(sample["label"])


class Loader(Running):
    """Its own shuffle (py1e, the default); persistent workers."""

    def __init__(self, task: Task, *, decoder: str, normalise: str) -> None:
        clean_stale_shared_memory()  # what a loader that was killed leaves would be taken for a second user
        dataset = _Images(local=str(task.data), shuffle=True, batch_size=task.batch_size)
        dataset.recipe = Recipe(task.pipeline, decoder=decoder, normalise=normalise)
        self._loader = DataLoader(
            dataset,
            batch_size=task.batch_size,
            num_workers=task.threads,
            drop_last=True,
            persistent_workers=True,
            collate_fn=dataset.recipe.collate,
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        yield from self._loader
