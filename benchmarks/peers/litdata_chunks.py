"""LitData's optimised chunks (64 MB, JPEG bytes as they are) through its streaming data loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litdata import StreamingDataLoader, StreamingDataset

from benchmarks.harness.loaders import Running, Task
from benchmarks.peers._torch import Recipe


class _Images(StreamingDataset):
    recipe: Recipe

    def __getitem__(self, index: Any) -> tuple[Any, int]:
        sample = super().__getitem__(index)
        return self.recipe.image(sample["image"]), int(sample["label"])


class Loader(Running):
    """Shuffled by chunk and within chunks, as LitData does; persistent workers."""

    def __init__(self, task: Task, *, decoder: str, normalise: str) -> None:
        dataset = _Images(str(task.data), shuffle=True, drop_last=True)
        dataset.recipe = Recipe(task.pipeline, decoder=decoder, normalise=normalise)
        self._loader = StreamingDataLoader(
            dataset,
            batch_size=task.batch_size,
            num_workers=task.threads,
            shuffle=True,
            drop_last=True,
            persistent_workers=True,
            collate_fn=dataset.recipe.collate,
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        yield from self._loader
