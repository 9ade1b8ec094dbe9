"""Many groups in one run: a process for each loader that stays, and what is not timed by two loaders at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.harness.datasets import Corpus
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.harness.runner import Group, LoaderFailure, LoaderProcess, Outcome, checked, noted, sound

# Opening, the first epoch and the checks of so many loaders run beside each other; timed epochs are alone.
_BESIDE = 2


class Matrix:
    """Measures one group after the other.

    Each loader keeps its process, in which it is opened anew for each group: an import and the start of Python less.
    Times of starting and memory would say nothing and are left out. A loader is checked in the first group of each
    pipeline; form and number of what it delivers in every epoch, as always.

    Args:
        corpus: The photographs.
        rounds: Epochs of each loader in each group, interleaved.
    """

    def __init__(self, corpus: Corpus, rounds: int) -> None:
        self._corpus = corpus
        self._rounds = rounds
        self._processes: dict[str, LoaderProcess] = {}
        self._checks: dict[tuple[str, str], dict[str, Any]] = {}

    def measure(self, group: Group, peers: Sequence[str]) -> dict[str, Outcome]:
        """As ``runner.measure``."""
        outcomes = {peer: Outcome() for peer in peers}
        self._beside(outcomes, peers, lambda peer, outcome: self._open(peer, group))
        for _ in range(self._rounds):
            for peer in sound(outcomes):
                with noted(outcomes[peer]):
                    outcomes[peer].add_epoch(*self._processes[peer].timed_epoch())
        self._beside(outcomes, sound(outcomes), lambda peer, outcome: self._check(peer, outcome, group))
        for peer in peers:
            if outcomes[peer].failure is not None and peer in self._processes:
                self._processes.pop(peer).close()  # it has ended, or may be in any state
        return outcomes

    def _beside(self, outcomes: dict[str, Outcome], peers: Sequence[str], act: Callable[[str, Outcome], None]) -> None:
        def one(peer: str) -> None:
            with noted(outcomes[peer]):
                act(peer, outcomes[peer])

        with ThreadPoolExecutor(_BESIDE) as pool:
            list(pool.map(one, peers))

    def _open(self, peer: str, group: Group) -> None:
        if peer in self._processes:
            self._processes[peer].open(group, self._corpus)
        else:
            self._processes[peer] = LoaderProcess(peer, group, self._corpus)
            self._processes[peer].wait_until_ready()
        self._processes[peer].ask("epoch")

    def _check(self, peer: str, outcome: Outcome, group: Group) -> None:
        key = (peer, group.pipeline)
        if key not in self._checks:
            try:
                found = checked(self._processes[peer], PIPELINES[group.pipeline], self._corpus)
            except LoaderFailure as failure:
                found = {"failure": str(failure)}
            self._checks[key] = found
        if "failure" in self._checks[key]:
            raise LoaderFailure(self._checks[key]["failure"])
        outcome.check = self._checks[key]

    def close(self) -> None:
        """Ends all processes."""
        while self._processes:
            self._processes.popitem()[1].close()
