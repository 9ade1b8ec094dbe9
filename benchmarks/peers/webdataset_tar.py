"""WebDataset over plain tar shards, decoded and batched in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import webdataset

from benchmarks.harness.loaders import Running, Task
from benchmarks.peers._torch import Recipe


class Loader(Running):
    """Shards in random order, a shuffle buffer of 1,000 encoded samples, batches made in the workers."""

    def __init__(self, task: Task, *, decoder: str, normalise: str) -> None:
        self._recipe = Recipe(task.pipeline, decoder=decoder, normalise=normalise)
        urls = sorted(str(path) for path in task.data.glob("*.tar"))
        dataset = (
            webdataset.WebDataset(urls, shardshuffle=100, seed=0)
            .shuffle(1000)
            .to_tuple("jpg", "cls")
            .map(self._sample)
            .batched(task.batch_size, collation_fn=self._recipe.collate, partial=False)
        )
        self._loader = webdataset.WebLoader(
            dataset, batch_size=None, shuffle=False, num_workers=task.threads, persistent_workers=True
        )

    def _sample(self, members: tuple[bytes, bytes]) -> tuple[Any, int]:
        return self._recipe.image(members[0]), int(members[1])

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        yield from self._loader
