"""fastload's Loader as a contestant: its speed with any number of threads, its reading, and what it costs Python."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from fastload import jit
from fastload.batch import Batch
from fastload.bench import storage
from fastload.bench.system import device_bytes, memory_bytes, queued_seconds
from fastload.bench.task import Round, Task
from fastload.dataset import (
    BetonDataset,
    Dataset,
    ImageFolderDataset,
    RemoteBetonDataset,
    RemoteShardedDataset,
    open_dataset,
)
from fastload.loader import Loader
from fastload.processors import available_processors
from fastload.transforms import from_config

# Batches after which the pipeline is full and the clock starts; the Loader works on two ahead.
_FILLING: Final = 3

_FORMS: Final[dict[type[Dataset], str]] = {
    ImageFolderDataset: "folder",
    BetonDataset: "beton",
    RemoteBetonDataset: "beton",
}


class LoaderContestant:
    """The Loader over one data set that stays open; threads and slots are made anew for each round."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._dataset: Dataset = open_dataset(task.path, **task.opening)
        self._epoch = 0

    def _open(self, threads: int) -> Loader:
        loader = Loader(
            self._dataset,
            batch_size=self._task.batch_size,
            transforms=from_config(self._task.transforms),
            num_workers=threads,
            on_error="skip",
            rank=0,
            world_size=1,
            memory_format="channels_last" if self._task.channels_last else "contiguous",
            **self._task.loader,
        )
        loader.set_epoch(self._epoch)
        return loader

    def describe(self) -> dict[str, Any]:
        """The facts of the data set, and how much of it memory holds."""
        dataset = self._dataset
        ids = storage.sample_ids(dataset)
        if isinstance(dataset, RemoteShardedDataset):
            dataset.await_seek_indexes(ids[:20], seconds=10.0)
        return {
            "data": {
                "path": dataset.path,
                "form": _FORMS.get(type(dataset), "shards"),
                "samples": len(dataset),
                "classes": len(dataset.classes),
                "mean_bytes": float(dataset.num_bytes(ids).mean()),
                "seek_index": any(len(dataset.seek_index(number)) for number in ids[:20].tolist()),
            },
            "in_memory": storage.share_in_memory(dataset, ids),
        }

    def first_batch(self, threads: int) -> dict[str, Any]:
        """Delivers one batch; ``compiled`` says whether kernels were compiled for it, as on a new machine."""
        before = _compiled_kernels()
        with self._open(threads) as loader:
            next(iter(loader))
        return {"compiled": _compiled_kernels() != before}

    def measure(self, workers: int, seconds: float) -> Round:
        """One round: ``seconds`` of a pipeline that is full, or, cold, at most one pass over the data set."""
        gc.collect()  # a Loader that was closed may be held by cycles, with its slots
        with self._open(workers) as loader:
            batches = iter(loader) if self._task.cold else _endless(loader)
            for _ in range(0 if self._task.cold else _FILLING):
                next(batches)
            before, fetched = loader.stats(), device_bytes()
            images = skipped = 0
            begin, cpu = time.perf_counter(), time.process_time()
            ended = begin
            for batch in batches:
                images += len(batch)
                ended = time.perf_counter()
                if ended - begin >= seconds:
                    break
            cpu_seconds = time.process_time() - cpu
            after, now_fetched = loader.stats(), device_bytes()
            memory = memory_bytes([os.getpid()])
            skipped = 0 if after.epoch is None else after.epoch.num_skipped
            self._epoch = loader.epoch + 1
        return Round(
            workers=workers,
            images=images,
            seconds=ended - begin,
            cpu_seconds=cpu_seconds,
            memory_bytes=memory,
            device_bytes=None if fetched is None or now_fetched is None else now_fetched - fetched,
            spans={
                stage: span.seconds - (before.spans[stage].seconds if stage in before.spans else 0.0)
                for stage, span in after.spans.items()
            },
            counts={name: number - before.counts.get(name, 0) for name, number in after.counts.items()},
            skipped=skipped,
        )

    def drop(self) -> dict[str, Any]:
        """Drops the pages of the data set's files; returns the share that memory holds all the same."""
        storage.drop_pages(self._dataset)
        return {"in_memory": storage.share_in_memory(self._dataset, storage.sample_ids(self._dataset))}

    def read(self, threads: int, seconds: float) -> dict[str, Any]:
        """See :func:`fastload.bench.storage.measure_reading`."""
        return storage.measure_reading(self._dataset, threads=threads, seconds=seconds)

    def gil(self, workers: int, seconds: float) -> dict[str, Any]:
        """A main thread that runs Python alone, beside the Loader, and alone again, for a third of the time each.

        Returns nothing where there is no processor for the main thread.
        """
        threads = min(workers, available_processors() - 1)
        if threads < 1:
            return {}
        alone = _spin(seconds / 6)[0]
        with self._open(threads) as loader, _Reader(_endless(loader), filling=_FILLING) as reader:
            images, begin = reader.images, time.perf_counter()
            beside, locked_out = _spin(2 * seconds / 3)
            wall, images = time.perf_counter() - begin, reader.images - images
        alone = (alone + _spin(seconds / 6)[0]) / 2
        if locked_out is None:
            locked_out = max(0.0, 1.0 - beside / alone) * wall
        return {
            "threads": threads,
            "main_thread_speed": max(0.0, 1.0 - locked_out / wall),
            "us_per_image": 1e6 * locked_out / max(images, 1),
            "images_per_second": images / wall,
        }

    def close(self) -> None:
        """Closes the data set."""
        self._dataset.close()


class _Reader:
    """Reads batches in a thread of its own while the ``with`` block runs; counts their images."""

    def __init__(self, batches: Iterator[Batch], *, filling: int) -> None:
        self.images = 0
        self._batches = batches
        self._filling = filling
        self._full = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._error: BaseException | None = None

    def __enter__(self) -> _Reader:
        self._thread.start()
        self._full.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and exc[0] is None:
            raise self._error

    def _read(self) -> None:
        try:
            for number, batch in enumerate(self._batches, start=1):
                self.images += len(batch)
                if number == self._filling:
                    self._full.set()
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._error = error
        finally:
            self._full.set()


def _compiled_kernels() -> list[str]:
    folder = jit.kernel_cache_directory()
    return [] if folder is None else sorted(path.name for path in folder.glob("*.compiled"))


def _endless(loader: Loader) -> Iterator[Batch]:
    while True:
        yield from loader


def _spin(seconds: float) -> tuple[float, float | None]:
    """Runs Python and nothing else: (rounds per second, seconds without the interpreter's lock or None)."""
    queued, cpu = queued_seconds(), time.thread_time()
    begin = time.perf_counter()
    rounds, number = 0, 0
    while (wall := time.perf_counter() - begin) < seconds:
        for _ in range(2000):
            number = (number * 5 + 1) & 0xFFFF
        rounds += 1
    spent, now_queued = time.thread_time() - cpu, queued_seconds()
    # Neither computing nor queueing for a processor: what is left was spent waiting for the lock.
    waited = None if queued is None or now_queued is None else max(0.0, wall - spent - (now_queued - queued))
    return rounds / wall, waited
