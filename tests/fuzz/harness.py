"""Gives a parser one hostile input after another, under limits of time and memory, and counts what becomes of them."""

import contextlib
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np

from fastload.errors import ConfigError, DataError

# A reader that works longer on a file of some kilobytes hangs (what is compiled for the first time takes 20 s); so does
# one that waits so long, on a busy machine too.
MOST_SECONDS = {signal.ITIMER_PROF: 60, signal.ITIMER_REAL: 1800}
# What a reader may map beyond what is mapped when it is warm: its files have some kilobytes, an image that a header
# announces may have 256 MB of pixels.
MOST_BYTES = 1 << 30
WARM_INPUTS = 20


@dataclass(frozen=True, kw_only=True)
class Parser:
    """Something that parses bytes, and where its hostile inputs come from.

    Attributes:
        name: What is parsed.
        share: Part of the inputs of a long job, as a weight.
        short: Inputs in the ordinary test run.
        make: Gets an empty folder and gives the function that makes one input and has it parsed. It gets a generator,
            or with ``strategy`` a value that hypothesis has drawn; it returns what became of the input, and may raise
            DataError or ConfigError ("refused").
        outcomes: What ``short`` inputs must come to, some of them each: otherwise they test nothing.
        strategy: Where hypothesis makes the inputs, in place of a generator.
    """

    name: str
    share: float
    short: int
    make: Callable[[Path], Callable[[Any], str]]
    outcomes: tuple[str, ...] = ("refused",)
    strategy: hypothesis.strategies.SearchStrategy | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of the inputs of one parser; memory is the highest resident set beyond that of a warm parser."""

    name: str
    inputs: int
    seed: int
    cpu_seconds: float
    grown_bytes: int
    outcomes: dict[str, int] = field(default_factory=dict)


def run(parser: Parser, folder: Path, *, inputs: int, seed: int, first: int = 0, last: Path | None = None) -> Result:
    """Runs ``inputs`` inputs from number ``first`` on; input n of a seed is the same in every run.

    A parser that hangs, crashes or strays out of guarded memory ends the process: ``last`` then holds the number of
    the input. One that raises anything but the errors of fastload, a MemoryError for instance, raises it here.
    """
    parse = parser.make(folder)
    noted = np.memmap(last, np.int64, "w+", shape=1) if last else np.zeros(1, np.int64)
    outcomes: Counter[str] = Counter()

    def one(drawn: Any) -> None:
        for timer, seconds in MOST_SECONDS.items():
            signal.setitimer(timer, seconds)
        try:
            outcomes[parse(drawn)] += 1
        except (DataError, ConfigError):
            outcomes["refused"] += 1
        finally:
            for timer in MOST_SECONDS:
                signal.setitimer(timer, 0)

    def numbered(numbers: range) -> None:
        for number in numbers:
            noted[0] = number
            try:
                one(random.Random(f"{parser.name} {seed} {number}"))
            except Exception as error:
                raise AssertionError(f"{parser.name}: input {number} of seed {seed}") from error

    def drawn(count: int) -> None:
        options: dict[str, Any] = {"database": None, "deadline": None, "print_blob": True}
        options["suppress_health_check"] = list(hypothesis.HealthCheck)
        settings = hypothesis.settings(max_examples=count, **options)
        hypothesis.seed(seed)(settings(hypothesis.given(parser.strategy)(lambda drawn: one(drawn))))()

    before = [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGALRM, signal.SIGPROF)]
    try:
        if parser.strategy is None:  # what is compiled, imported and mapped once is no input's
            numbered(range(-WARM_INPUTS, 0))
        outcomes.clear()
        peak = resident()
        began = time.process_time()
        with limited_memory(MOST_BYTES):
            if parser.strategy is None:
                numbered(range(first, first + inputs))
            else:
                drawn(inputs)
    finally:
        for number, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(number, handler)
    grown = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak)
    seconds = round(time.process_time() - began, 1)
    done = sum(outcomes.values())
    assert done == inputs or parser.strategy is not None
    return Result(
        name=parser.name, inputs=done, seed=seed, cpu_seconds=seconds, grown_bytes=grown, outcomes=dict(outcomes)
    )


def resident() -> int:
    """The highest resident set so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def limited_memory(most: int) -> Iterator[None]:
    """Whoever asks for more than ``most`` bytes beyond what is mapped now gets a MemoryError."""
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def write(path: Path, data: bytes) -> Path:
    """Writes a file anew: what has the old one mapped keeps it."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


def table_row(result: Result) -> str:
    """A result as a line of the table in RESULTS.md."""
    outcomes = sorted(result.outcomes.items(), key=lambda pair: -pair[1])
    words = "; ".join(f"{outcome.split(';')[0]}: {count:,}" for outcome, count in outcomes[:4])
    more = f"; {len(outcomes) - 4} more" if len(outcomes) > 4 else ""
    cells = (result.name, f"{result.inputs:,}", result.seed, result.cpu_seconds, result.grown_bytes >> 20, words + more)
    return f"| {' | '.join(map(str, cells))} |\n"
