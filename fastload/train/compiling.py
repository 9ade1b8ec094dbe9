"""torch.compile for training: one graph for each resolution, all of them made before the first step that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
# These replay CUDA graphs. Each call first copies its input to memory of the graph's own, so that a Loader may use its
# slots and tensors again; what a graph puts out is overwritten by its next replay.
_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")


def uses_cuda_graphs(mode: CompileMode | None, device: torch.device) -> bool:
    """Whether networks compiled so replay CUDA graphs there."""
    return device.type == "cuda" and mode in _CUDA_GRAPHS


def compile_network(network: nn.Module, mode: CompileMode) -> Any:
    """The network, compiled at its first call with each shape; never with sides that are left open, which is slower."""
    return torch.compile(network, dynamic=False, mode=mode)


def graphs_compiled() -> int:
    """Graphs that this process has compiled so far."""
    counters = torch._dynamo.utils.counters
    return int(counters["stats"]["unique_graphs"])


@contextmanager
def room_for_graphs(shapes: int) -> Iterator[None]:
    """Lets torch keep a graph for each of so many shapes; beyond 8 it would give up and run the network as it is."""
    import torch._dynamo.config as config

    with config.patch(recompile_limit=max(config.recompile_limit, 2 * shapes + 2)):
        yield
