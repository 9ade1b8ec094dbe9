"""The regression check for CI: CPU time as a ratio to a reference measured in the same run, never in milliseconds.

It needs nothing beyond the project's own test dependencies. Bounds are generous: they are there to catch a lost fast
path, not to prove a speed; that is what test_loaders.py and its stored results are for.
"""

from __future__ import annotations

import statistics

import pytest

from benchmarks.harness.datasets import Corpus
from benchmarks.harness.runner import Group, measure

_ROUNDS = 3
# Pipeline, reference, largest ratio of our median CPU time per image to the reference's.
_BOUNDS = [
    # 0.35 with every pixel decoded by libjpeg-turbo, less where only the crop is.
    ("train224-fp16", "torch-pil", 0.6),
    ("eval224-fp16", "torch-pil", 0.6),
]


@pytest.mark.ratios
@pytest.mark.parametrize(("pipeline", "reference", "bound"), _BOUNDS)
@pytest.mark.parametrize("ours", ["fastload", "fastload-folder"])
def test_ratio(corpus: Corpus, pipeline: str, reference: str, bound: float, ours: str) -> None:
    """Ours against stock PyTorch on the same photographs, both checked for correctness."""
    measured = measure(Group(pipeline=pipeline, batch_size=64, threads=2), [ours, reference], corpus, _ROUNDS)
    for outcome in measured.values():
        assert outcome.failure is None, outcome.failure
    cpu = {name: statistics.median(outcome.cpu_seconds) for name, outcome in measured.items()}
    ratio = cpu[ours] / cpu[reference]
    assert ratio <= bound, (
        f"{ours} takes {1e3 * cpu[ours]:.2f} ms of CPU an image, {reference} {1e3 * cpu[reference]:.2f}: "
        f"a ratio of {ratio:.2f}, at most {bound} allowed"
    )
