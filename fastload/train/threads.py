"""How many threads torch computes with where the processor is what trains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def training_threads(device: torch.device, wanted: int | None) -> Iterator[None]:
    """Sets torch's threads for a run, and puts the caller's number back.

    OpenMP's threads wait for each other by spinning. With as many of them as cores beside the Loader's threads, each
    decoding thread stalls all of them: two cores trained on 80 images/s at 13 ms of processor time each; with half as
    many on 380, at 3 ms. On a CUDA device nothing is changed.

    Args:
        device: Where the network computes.
        wanted: Threads; None takes what OMP_NUM_THREADS says, or half of the cores that this process may use.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        if wanted is not None:
            torch.set_num_threads(wanted)
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)
