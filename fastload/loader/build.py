"""Chooses and builds what a Loader reads with: the one place that knows every engine by name."""

from __future__ import annotations

import functools
from typing import Literal

import torch

from fastload.augment import Output
from fastload.batch import Ring, storage_dtype
from fastload.dataset import Dataset
from fastload.device import CudaCopyStream, pinned_memory
from fastload.engine.base import Engine
from fastload.loader.delivery import Delivery, DeviceDelivery, ShownDelivery
from fastload.loader.machinery import Machinery
from fastload.loader.options import one_of
from fastload.stats import Stats

EngineName = Literal["auto", "cpu"]


def resolve_engine(name: str) -> Literal["cpu"]:
    """The engine that ``name`` stands for on this machine.

    Raises:
        ConfigError: There is no engine of this name.
    """
    one_of("engine", name, ("auto", "cpu"))
    return "cpu"


def build_machinery(
    dataset: Dataset,
    output: Output,
    *,
    rows: int,
    num_slots: int,
    engine: Literal["cpu"],
    num_workers: int,
    device: torch.device | None,
    reuse_buffers: bool,
    stats: Stats,
) -> Machinery:
    """Threads, slots and the way out of them, for batches of up to ``rows`` images of the form ``output``.

    Args:
        num_slots: Slots that stay for good: those that the engine works on and those that the user sees.
        The others are the Loader's own.
    """
    ring = functools.partial(Ring, (rows, *output.shape), storage_dtype(output.dtype), num_slots)
    delivery: Delivery
    if device is not None:
        slots = ring(allocate=pinned_memory)
        delivery = DeviceDelivery(slots, CudaCopyStream(device), output=output, dataset=dataset)
    else:
        slots = ring(reuse=reuse_buffers)
        delivery = ShownDelivery(slots, output=output, dataset=dataset)
    return Machinery(
        engine=_build_engine(engine, dataset, output, num_workers, stats), slots=slots, delivery=delivery, output=output
    )


def _build_engine(name: Literal["cpu"], dataset: Dataset, output: Output, num_workers: int, stats: Stats) -> Engine:
    from fastload.engine.cpu import CpuEngine

    return CpuEngine(dataset, output, num_workers=num_workers, stats=stats)
