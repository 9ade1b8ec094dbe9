"""Loaders beside a training loop that is busy in Python, time with the interpreter's lock, and a second thread's worth.

These are about wall time and need a quiet machine with at least two processors.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.harness.datasets import Corpus
from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.harness.runner import Group, LoaderProcess
from benchmarks.peers import PEERS

pytestmark = pytest.mark.threads

_BATCH = 64
_ROUNDS = 5


def _open(peer: str, corpus: Corpus, threads: int, batch_size: int = _BATCH) -> Running:
    entry = PEERS[peer]
    if entry.missing():
        pytest.skip(f"absent: {', '.join(entry.missing())} is not installed")
    task = Task(
        pipeline=PIPELINES["train224-fp16"],
        batch_size=batch_size,
        threads=threads,
        data=corpus.form(entry.form),
        samples=corpus.samples,
    )
    return entry.open(task)


def _epoch(running: Running, numbers: Iterator[int], then: Callable[[], Any] = lambda: None) -> int:
    """One epoch, with something to do after each batch; returns its images."""
    images = 0
    for _, labels in running.epoch(next(numbers)):
        images += len(labels)
        then()
    return images


def _spin(turns: int) -> int:
    """Work that needs the interpreter's lock all the time."""
    total = 0
    for i in range(turns):
        total += i * i & 255
    return total


def _seconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


@pytest.mark.parametrize("peer", ["fastload", "fastload-folder", "simplejpeg-opencv", "torch-io"])
def test_a_python_heavy_main_thread(benchmark: BenchmarkFixture, corpus: Corpus, peer: str) -> None:
    """One worker; after each batch the main thread is busy for as long as the worker needs for a batch.

    ``main_slowed``: how much longer its work takes beside the loader than alone; ``loader_slowed``: seconds per batch
    in the loop over those of the slower of the two by itself. Both are 1 where neither is in the other's way.
    torch-io works in a process of its own, and shows what the machine alone makes of it.
    """
    running, numbers = _open(peer, corpus, threads=1), iter(range(1 << 30))
    batches = corpus.samples // _BATCH
    try:
        _epoch(running, numbers)
        batch_seconds = min(_seconds(lambda: _epoch(running, numbers)) for _ in range(2)) / batches
        turns = round(200_000 * batch_seconds / min(_seconds(lambda: _spin(200_000)) for _ in range(5)))
        alone: list[float] = []
        beside: list[float] = []
        loaders: list[float] = []
        whole: list[float] = []

        def together() -> None:
            # In turns with the same by itself, because machines change their speed.
            alone.append(statistics.median(_seconds(lambda: _spin(turns)) for _ in range(5)))
            loaders.append(_seconds(lambda: _epoch(running, numbers)) / batches)
            times: list[float] = []
            images = 0

            def epoch() -> None:
                nonlocal images
                images = _epoch(running, numbers, lambda: times.append(_seconds(lambda: _spin(turns))))

            whole.append(_seconds(epoch) / batches)
            beside.append(statistics.median(times))
            assert images == batches * _BATCH

        benchmark.group = "Python-heavy main thread"
        benchmark.pedantic(together, rounds=_ROUNDS)
    finally:
        running.close()
    main = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    loop = statistics.median(w / max(a, b) for w, a, b in zip(whole, alone, loaders, strict=True))
    benchmark.extra_info = {"items": corpus.samples, "unit": "image", "main_slowed": main, "loader_slowed": loop}
    print(f"\n{peer}: main thread slowed {main:.2f} times, loop {loop:.2f} times")


@pytest.mark.parametrize("batch_size", [64, 256])
@pytest.mark.parametrize("peer", ["fastload", "fastload-folder"])
def test_time_with_the_interpreter_lock(
    benchmark: BenchmarkFixture, corpus: Corpus, peer: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor time for which a thread may hold the interpreter's lock: at most that, since numpy lets go of it too.

    Counted is all of our threads' processor time (planning, laying out, waiting for each other, numba's taking
    arguments apart) less what the kernels that read ahead and deliver took by the thread's own clock; and, apart,
    the main thread's, to take batches and to make tensors of them.
    """
    from fastload.engine.cpu import read_ahead, worker
    from fastload.engine.cpu.kernels.deliver import CALL_NS, read_totals

    inside: list[float] = []
    tallies: list[Any] = []
    spent_of, ask = worker.Spent, read_ahead.read_ahead

    def noted(tally: Any) -> Any:
        tallies.append(tally)
        return spent_of(tally)

    def timed_ask(*arguments: Any) -> None:
        begin = time.thread_time()
        ask(*arguments)
        inside.append(time.thread_time() - begin)

    def spent() -> tuple[float, float]:
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("fastload-cpu")]
        assert len(threads) == 2
        clocks = [time.pthread_getcpuclockid(thread.ident or 0) for thread in threads]
        kernels = sum(inside) + sum(read_totals(tally)[CALL_NS] * 1e-9 for tally in tallies)
        return sum(map(time.clock_gettime, clocks)) - kernels, time.thread_time()

    monkeypatch.setattr(worker, "Spent", noted)
    monkeypatch.setattr(read_ahead, "read_ahead", timed_ask)
    running, numbers = _open(peer, corpus, 2, batch_size), iter(range(1 << 30))
    images: list[int] = []
    try:
        for _ in range(2):  # checksums, headers and memory are the first epoch's
            _epoch(running, numbers)
        before = spent()
        benchmark.group = "time with the interpreter's lock"
        benchmark.pedantic(lambda: images.append(_epoch(running, numbers)), rounds=_ROUNDS)
        threads, main = ((now - then) / sum(images) * 1e6 for then, now in zip(before, spent(), strict=True))
    finally:
        running.close()
    lock = {"lock_us_per_image": threads, "main_us_per_image": main}
    benchmark.extra_info = {"items": corpus.samples, "unit": "image", **lock}
    print(
        f"\n{peer}, batch {batch_size}: per image at most {threads:.1f} us with the lock, {main:.1f} in the main thread"
    )


@pytest.mark.parametrize("peer", ["fastload", "fastload-folder", "simplejpeg-opencv"])
def test_two_threads(benchmark: BenchmarkFixture, corpus: Corpus, peer: str) -> None:
    """Images per second with two threads over those with one, in turns.

    And, as what the machine allows, those of two processes of one thread each over those of one of them.
    """
    one, two, numbers = _open(peer, corpus, threads=1), _open(peer, corpus, threads=2), iter(range(1 << 30))
    group = Group(pipeline="train224-fp16", batch_size=_BATCH, threads=1)
    processes = [LoaderProcess(peer, group, corpus) for _ in range(2)]
    ratios: list[float] = []
    of_processes: list[float] = []

    def in_processes(count: int) -> float:
        with ThreadPoolExecutor(count) as pool:
            return _seconds(lambda: list(pool.map(lambda process: process.ask("epoch"), processes[:count])))

    def both() -> None:
        ratios.append(_seconds(lambda: _epoch(one, numbers)) / _seconds(lambda: _epoch(two, numbers)))
        of_processes.append(2 * in_processes(1) / in_processes(2))

    try:
        for process in processes:
            process.wait_until_ready()
            process.ask("epoch")
        _epoch(one, numbers)
        _epoch(two, numbers)
        benchmark.group = "two threads"
        benchmark.pedantic(both, rounds=_ROUNDS)
    finally:
        one.close()
        two.close()
        for process in processes:
            process.close()
    speedup, possible = statistics.median(ratios), statistics.median(of_processes)
    benchmark.extra_info = {"items": 5 * corpus.samples, "unit": "image", "speedup": speedup, "of_processes": possible}
    print(f"\n{peer}: {speedup:.2f} times as fast with two threads, {possible:.2f} times with two processes")
