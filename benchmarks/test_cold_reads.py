"""Images in random order from a disk, with nothing of them in memory: our loader and engine beside plain reads."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fastload
from benchmarks.harness.datasets import Corpus
from benchmarks.harness.pipelines import MEAN, STD
from fastload import transforms as T
from fastload.dataset import ShardedDataset
from fastload.engine.cpu.kernels.deliver import read_ahead

pytestmark = [
    pytest.mark.reads,
    pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="files cannot be put out of memory here"),
]

_ROUNDS = 5
_AHEAD = 256


@pytest.fixture
def dataset(corpus: Corpus) -> Iterator[ShardedDataset]:
    """The shards of the photographs."""
    with ShardedDataset(corpus.form("fastload"), verify="never") as opened:
        yield opened


def _forget(dataset: ShardedDataset) -> None:
    """Puts every shard out of memory."""
    for shard in range(len(dataset.shard_sizes())):
        descriptor = dataset.file_descriptor(shard)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _measure(benchmark: BenchmarkFixture, dataset: ShardedDataset, read: Callable[[], Any], cold: bool) -> None:
    """Times ``read``, which reads every image once; reports MB/s, images/s and CPU."""
    cpu: list[float] = []

    def timed() -> None:
        begin = time.process_time()
        read()
        cpu.append(time.process_time() - begin)

    benchmark.group = "reads, cold" if cold else "reads, warm"
    count = len(dataset)
    benchmark.pedantic(timed, setup=lambda: _forget(dataset) if cold else None, rounds=_ROUNDS, warmup_rounds=1)
    seconds = benchmark.stats.stats.median  # type: ignore[union-attr]
    megabytes = dataset.num_bytes(np.arange(count)).sum() / 1e6
    extra = {
        "items": count,
        "unit": "image",
        "megabytes_per_second": megabytes / seconds,
        "reads_per_second": count / seconds,
        "cpu_us_per_image": 1e6 * statistics.median(cpu) / count,
    }
    benchmark.extra_info = extra
    print(" ".join(f"{name} {value:,.0f}" for name, value in extra.items() if name not in ("items", "unit")))


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "warm"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ahead", [False, True], ids=["plain", "ahead"])
def test_reads(benchmark: BenchmarkFixture, dataset: ShardedDataset, ahead: bool, threads: int, cold: bool) -> None:
    """pread in random order by threads; with every 256 images asked for while the 256 before them are read."""
    ids = np.random.default_rng(0).permutation(len(dataset))
    files, offsets, sizes = dataset.extents(ids)
    descriptors = np.array([dataset.file_descriptor(file) for file in files.tolist()])
    buffers = [bytearray(int(sizes.max())) for _ in range(threads)]

    def read(thread: int, begin: int) -> int:
        end, total = min(begin + _AHEAD, len(ids)), 0
        view = memoryview(buffers[thread])
        for i in range(begin + thread, end, threads):
            total += os.preadv(int(descriptors[i]), [view[: int(sizes[i])]], int(offsets[i]))
        return total

    def ask(begin: int) -> None:
        chosen = slice(begin, begin + _AHEAD)
        read_ahead(descriptors[chosen], offsets[chosen], sizes[chosen])

    with ThreadPoolExecutor(threads) as pool:

        def all_of_them() -> None:
            total = 0
            if ahead:
                ask(0)
            for begin in range(0, len(ids), _AHEAD):
                if ahead:
                    ask(begin + _AHEAD)
                total += sum(pool.map(read, range(threads), [begin] * threads))
            assert total == sizes.sum()

        _measure(benchmark, dataset, all_of_them, cold)


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "warm"])
@pytest.mark.parametrize("ahead", [False, True], ids=["plain", "ahead"])
def test_loader(
    benchmark: BenchmarkFixture, dataset: ShardedDataset, ahead: bool, cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole epoch of the loader with two threads; "plain" with its reading ahead switched off."""
    if not ahead:
        monkeypatch.setattr("fastload.engine.cpu.kernels.system.ADVISES", False)
    transforms = [T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToDtype("float16", scale=True)]
    loader = fastload.Loader(
        dataset, batch_size=_AHEAD, transforms=[*transforms, T.Normalize(MEAN, STD)], engine="cpu", num_workers=2
    )
    epochs = iter(range(1 << 30))

    def epoch() -> None:
        loader.set_epoch(next(epochs))
        images = sum(len(batch.labels) for batch in loader)
        assert images >= len(dataset) // _AHEAD * _AHEAD

    try:
        _measure(benchmark, dataset, epoch, cold)
    finally:
        loader.close()
