"""SPDL's thread pipeline around simplejpeg and OpenCV: slices of a batch are filled in threads, then put together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from spdl.pipeline import PipelineBuilder

from benchmarks.harness.loaders import Running, Task
from benchmarks.peers._by_hand import Row
from benchmarks.peers._folder import list_folder, read


class Loader(Running):
    """One pipeline an epoch, as SPDL's examples do; a task fills a whole batch, so that threads seldom change hands."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._paths, self._labels = list_folder(task.data)
        self._local = threading.local()

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        order = np.random.default_rng(number).permutation(len(self._paths))
        batch_size = self._task.batch_size
        source = [order[start : start + batch_size] for start in range(0, len(order) - batch_size + 1, batch_size)]
        pipeline = (
            PipelineBuilder()
            .add_source(source)
            .pipe(self._load, concurrency=self._task.threads)
            .add_sink(2)
            .build(num_threads=self._task.threads)
        )
        with pipeline.auto_stop():
            yield from pipeline

    def _load(self, ids: NDArray[np.int64]) -> tuple[Any, Any]:
        size = self._task.pipeline.size
        if self._task.pipeline.kind == "decode":
            return [simplejpeg.decode_jpeg(read(self._paths[i]), "RGB") for i in ids.tolist()], self._labels[ids]
        if not hasattr(self._local, "row"):
            self._local.row = Row(self._task.pipeline, threading.get_ident())
        images = np.empty((len(ids), size, size, 3), self._task.pipeline.dtype)
        for row, i in enumerate(ids.tolist()):
            self._local.row.fill(read(self._paths[i]), images[row])
        return images, self._labels[ids]
