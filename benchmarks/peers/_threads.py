"""A loader by hand: threads that each fill a slice of a batch, the next batch ahead of its use."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.loaders import Running, Task
from benchmarks.peers._folder import list_folder, read

_AHEAD = 2


class ThreadedLoader(Running):
    """Reuses three batches, as a careful user would."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._paths, self._labels = list_folder(task.data)
        self._pool = ThreadPoolExecutor(task.threads)
        size = task.pipeline.size
        self._slots = [
            np.zeros((task.batch_size, size, size, 3), task.pipeline.dtype) for _ in range(_AHEAD + 1 if size else 0)
        ]
        self._fillers = [self.make_filler(seed) for seed in range(task.threads)] if size else []

    @abstractmethod
    def decode(self, jpeg: bytes) -> NDArray[np.uint8]:
        """All pixels, height x width x 3."""

    def make_filler(self, seed: int) -> Any:
        """An object for one thread with ``fill(jpeg, row)``; for pipelines other than "decode"."""
        raise NotImplementedError(f"{type(self).__name__} offers no pipeline but decode")

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        order = np.random.default_rng(number).permutation(len(self._paths))
        batch_size = self._task.batch_size
        starts = range(0, len(order) - batch_size + 1, batch_size)
        pending: list[tuple[list[Future[Any]], Any, NDArray[np.int64]]] = []
        for count, start in enumerate(starts):
            ids = order[start : start + batch_size]
            pending.append(self._submit(ids, count))
            if len(pending) > _AHEAD - 1:
                yield self._finish(pending.pop(0))
        while pending:
            yield self._finish(pending.pop(0))

    def _submit(self, ids: NDArray[np.int64], count: int) -> tuple[list[Future[Any]], Any, NDArray[np.int64]]:
        slices = np.array_split(np.arange(len(ids)), self._task.threads)
        if self._task.pipeline.kind == "decode":
            images: Any = [None] * len(ids)
            work = [self._pool.submit(self._decode, ids, rows, images) for rows in slices]
        else:
            images = self._slots[count % len(self._slots)]
            work = [
                self._pool.submit(self._fill, filler, ids, rows, images)
                for filler, rows in zip(self._fillers, slices, strict=True)
            ]
        return work, images, self._labels[ids]

    @staticmethod
    def _finish(pending: tuple[list[Future[Any]], Any, NDArray[np.int64]]) -> tuple[Any, Any]:
        for work in pending[0]:
            work.result()
        return pending[1], pending[2]

    def _fill(self, filler: Any, ids: NDArray[np.int64], rows: NDArray[np.int64], images: NDArray[Any]) -> None:
        for row in rows.tolist():
            filler.fill(read(self._paths[ids[row]]), images[row])

    def _decode(self, ids: NDArray[np.int64], rows: NDArray[np.int64], images: list[Any]) -> None:
        for row in rows.tolist():
            images[row] = self.decode(read(self._paths[ids[row]]))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
