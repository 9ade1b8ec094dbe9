"""SPDL's thread pipeline around simplejpeg and OpenCV: each task fills a batch that is used again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from spdl.pipeline import PipelineBuilder

from benchmarks.harness.loaders import Running, Task
from benchmarks.peers._by_hand import Row
from benchmarks.peers._folder import list_folder, read


class Loader(Running):
    """One pipeline an epoch, as SPDL's examples do; a task fills a whole batch, so that threads seldom change hands.

    Batches are used again, as a careful user would: their pages need not be mapped and cleared for each (1.95 for 2.37
    CPU ms an image).
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._paths, self._labels = list_folder(task.data)
        self._local = threading.local()
        # One for each thread, two behind them, two at the sink, one in use.
        size, count = task.pipeline.size, task.threads + 5
        shape = (task.batch_size, size, size, 3)
        self._slots = [np.zeros(shape, task.pipeline.dtype) for _ in range(count if size else 0)]

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        order = np.random.default_rng(number).permutation(len(self._paths))
        batch_size = self._task.batch_size
        starts = range(0, len(order) - batch_size + 1, batch_size)
        source = [order[start : start + batch_size] for start in starts]
        self._free = free = SimpleQueue[Any]()
        for slot in self._slots:
            free.put(slot)
        pipeline = (
            PipelineBuilder()
            .add_source(source)
            .pipe(self._load, concurrency=self._task.threads)
            .add_sink(2)
            .build(num_threads=self._task.threads)
        )
        with pipeline.auto_stop():
            try:
                for images, labels in pipeline:
                    yield images, labels
                    if self._slots:
                        free.put(images)
            finally:
                for slot in self._slots:  # a thread that waits for one would keep the pipeline from stopping
                    free.put(slot)

    def _load(self, ids: NDArray[np.int64]) -> tuple[Any, Any]:
        if self._task.pipeline.kind == "decode":
            return [simplejpeg.decode_jpeg(read(self._paths[i]), "RGB") for i in ids.tolist()], self._labels[ids]
        if not hasattr(self._local, "row"):
            self._local.row = Row(self._task.pipeline, threading.get_ident())
        images = self._free.get()
        for row, i in enumerate(ids.tolist()):
            self._local.row.fill(read(self._paths[i]), images[row])
        return images, self._labels[ids]
