"""Starts loaders in processes of their own and measures them in turns: A B C, A B C, ..."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.harness import augmented
from benchmarks.harness.chance import fault_of_chance, reference_statistics
from benchmarks.harness.datasets import REPOSITORY, Corpus
from benchmarks.harness.pipelines import PIPELINES, Pipeline
from benchmarks.harness.process_tree import Memory, MemoryWatch, descendants, settled_cpu_seconds
from benchmarks.peers import find


class LoaderFailure(Exception):
    """A loader raised, died, or delivered what it should not have; with what it said."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """What loaders of one comparison have in common; ``device`` is where their batches end."""

    pipeline: str
    batch_size: int
    threads: int
    device: str = "cpu"

    @property
    def name(self) -> str:
        """As it appears in results: ``train224-fp16/batch256/threads2``."""
        return f"{self.pipeline}/batch{self.batch_size}/threads{self.threads}"


@dataclass(kw_only=True)
class Outcome:
    """What was measured of one loader in one group; ``failure`` says why its numbers do not count.

    Attributes:
        cpu_seconds: Per image and round, user + system of all its threads and processes.
        wall_seconds: Per image and round.
        start_seconds: From starting the process to its first batch, imports and compilation included.
        memory: Peaks.
        gpu_bytes: Memory of the device that it took, CUDA's own included; None without a device.
        gpu_seconds: Per image, of the device's kernels and copies (of all streams, added up; the fixed units of a GPU
            that decode JPEGs are not among them); None without a device.
        torch_memory: The same of a process that imported torch and has no loader.
        check: Result of the comparison with the reference.
        failure: Why the numbers do not count, or None.
    """

    cpu_seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)
    start_seconds: float = 0.0
    memory: Memory | None = None
    torch_memory: Memory | None = None
    gpu_seconds: float | None = None
    gpu_bytes: int | None = None
    check: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None

    def add_epoch(self, cpu: float, wall: float, images: int) -> None:
        """A round, as ``LoaderProcess.timed_epoch`` gives it."""
        self.cpu_seconds.append(cpu / images)
        self.wall_seconds.append(wall / images)


def _specification(peer: str, group: Group, corpus: Corpus) -> dict[str, Any]:
    form = find(peer).form
    return {
        "peer": peer,
        "pipeline": group.pipeline,
        "batch_size": group.batch_size,
        "threads": group.threads,
        "device": group.device,
        "data": str(corpus.form(form)),
        "samples": corpus.samples,
        "num_photographs": corpus.photographs,
        "photographs": str(corpus.photograph(0, form).parent.parent),
    }


class LoaderProcess:
    """One loader in a process of its own."""

    def __init__(self, peer: str, group: Group, corpus: Corpus) -> None:
        self.peer = peer
        specification = _specification(peer, group, corpus)
        self._said = tempfile.TemporaryFile("w+")
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.child"],
            cwd=REPOSITORY,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            bufsize=1,
        )
        self._send(specification)

    @property
    def pid(self) -> int:
        """Of the process at the top of the loader's tree."""
        return self._process.pid

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the process has ended; _receive says why
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise LoaderFailure(f"{self.peer} ended without an answer:\n{self._said.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoaderFailure(f"{self.peer}: {answer['error'][-3000:]}")
        return answer

    def wait_until_ready(self) -> None:
        """Until the loader is open."""
        self._receive()

    def open(self, group: Group, corpus: Corpus) -> None:
        """Ends the loader and opens one for another group, in the same process."""
        self._send({"open": _specification(self.peer, group, corpus)})
        self._receive()

    def ask(self, request: str) -> dict[str, Any]:
        """One request and its answer; an answer that names a fault raises LoaderFailure."""
        self._send(request)
        answer = self._receive()
        if answer.get("fault"):
            raise LoaderFailure(f"{self.peer}: {answer['fault']}")
        return answer

    def timed_epoch(self) -> tuple[float, float, int]:
        """CPU seconds of the whole tree, wall seconds, images."""
        # Collecting garbage takes Python 120 ms of processor time where torch and numba are imported; what fell due
        # since the last epoch is not this one's.
        self.ask("collect")
        before = settled_cpu_seconds(self.pid)
        answer = self.ask("epoch")
        cpu = settled_cpu_seconds(self.pid) - before
        return cpu, float(answer["seconds"]), int(answer["images"])

    def close(self) -> None:
        """Ends the process and whatever it started."""
        tree = []
        for pid in descendants(self.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                tree.append(psutil.Process(pid))
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _environment() -> dict[str, str]:
    # Threads of numerical libraries come on top of the loader's own, which are what is asked for. NumPy's and
    # OpenMP's are therefore held at one; loaders that use them set what they need.
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return os.environ | single | {"PYTHONPATH": str(REPOSITORY)}


@functools.cache
def memory_of_torch() -> Memory:
    """What every loader's process has before there is a loader: Python, torch and what measures."""
    code = "import benchmarks.harness.child, sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with MemoryWatch(process.pid) as watch:
            pass
        memory = watch.memory()
        process.communicate("")
    return memory


def measure(
    group: Group, peers: Sequence[str], corpus: Corpus, rounds: int, *, times_only: bool = False
) -> dict[str, Outcome]:
    """Measures ``peers`` in ``rounds`` interleaved rounds; each is checked before its numbers count.

    Args:
        group: What all are asked for.
        peers: Names in benchmarks.peers.
        corpus: The photographs.
        rounds: Epochs of each.
        times_only: Leave out memory, and of the checks all but those of form and number that every epoch has.
    """
    outcomes = {peer: Outcome() for peer in peers}
    running: dict[str, LoaderProcess] = {}
    try:
        for peer in peers:
            # One after the other: compiling beside another that compiles would say nothing about the time it takes.
            with noted(outcomes[peer]):
                running[peer] = LoaderProcess(peer, group, corpus)
                running[peer].wait_until_ready()
                opened = time.monotonic() - running[peer].started
                first = running[peer].ask("epoch")
                outcomes[peer].start_seconds = opened + first["first_batch_seconds"]
                outcomes[peer].gpu_bytes = first["gpu_bytes"]
        for _ in range(rounds):
            for peer in sound(outcomes):
                with noted(outcomes[peer]):
                    outcomes[peer].add_epoch(*running[peer].timed_epoch())
        for peer in [] if times_only else sound(outcomes):
            with noted(outcomes[peer]):
                _watch_and_check(running[peer], outcomes[peer], group, corpus)
    finally:
        for process in running.values():
            process.close()
    return outcomes


def _watch_and_check(process: LoaderProcess, outcome: Outcome, group: Group, corpus: Corpus) -> None:
    pipeline = PIPELINES[group.pipeline]
    with MemoryWatch(process.pid) as watch:
        process.ask("epoch")
    outcome.memory, outcome.torch_memory = watch.memory(), memory_of_torch()
    outcome.gpu_seconds = process.ask("gpu_time")["gpu_seconds"] if group.device != "cpu" else None
    outcome.check = checked(process, pipeline, corpus)


def checked(process: LoaderProcess, pipeline: Pipeline, corpus: Corpus) -> dict[str, Any]:
    """What the checks of a pipeline found, by statistics and pixel by pixel; LoaderFailure for what is wrong."""
    check: dict[str, Any] = {}
    if pipeline.augment:
        found = process.ask("statistics")
        reference = augmented.reference_statistics(corpus, pipeline)
        fault = augmented.fault(found["augmented"], reference, find(process.peer).allowed.get(pipeline.augment, {}))
        if fault:
            raise LoaderFailure(f"{process.peer}: {fault}")
        check |= found
    elif pipeline.kind == "train":
        found = process.ask("statistics")
        fault = fault_of_chance(found, reference_statistics(corpus, pipeline))
        if fault:
            raise LoaderFailure(f"{process.peer}: {fault}")
        check |= found
    return check | process.ask("check")


def sound(outcomes: dict[str, Outcome]) -> list[str]:
    """The loaders that have not failed."""
    return [peer for peer, outcome in outcomes.items() if outcome.failure is None]


class noted:
    """Turns a loader's failure into a note on its outcome, so that the others go on."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if isinstance(error, (LoaderFailure, RuntimeError)):
            self._outcome.failure = str(error)
            return True
        return False
