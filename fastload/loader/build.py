"""Builds what a Loader reads with: the one place that knows every engine by name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment import Output
from fastload.augment.parameters import Function
from fastload.augment.program import Program
from fastload.batch import Ring, storage_dtype
from fastload.dataset import Dataset
from fastload.device import CudaCopyStream, pinned_memory
from fastload.engine.base import Engine
from fastload.loader.delivery import Delivery, DeviceDelivery, ShownDelivery
from fastload.loader.lane import Lane, OpenSlots, Slots
from fastload.loader.machinery import Machinery
from fastload.stats import Stats

EngineName = Literal["auto", "cpu", "dali", "hybrid"]
ENGINE_NAMES: Final = ("auto", "cpu", "dali", "hybrid")


def build_machinery(
    dataset: Dataset,
    output: Output,
    *,
    rows: int,
    num_slots: int,
    shares: Mapping[str, float],
    num_workers: int,
    device: torch.device | None,
    reuse_buffers: bool,
    stats: Stats,
    augmented: bool = False,
    operates: bool = False,
    values: bool = False,
) -> Machinery:
    """Threads, slots and the way out of them, for batches of up to ``rows`` images of the form ``output``.

    Args:
        num_slots: The most slots that stay for good: those that the engine works on and those that the user sees. On
            the way to a device there are as many from the beginning; elsewhere two, and more where that is faster.
        shares: Share of the batches by name of the engine ("cpu", "dali"); one, or two whose sum is 1.
        augmented: Whether images need more than one resampling.
        operates: Whether they need more than that with borders in one colour.
        values: Whether slots hold finished values in any case, because some of them are overwritten as such.
        The others are the Loader's own.
    """
    lanes = []
    for name, share in shares.items():
        on_device = device is not None and name == "dali"
        # What a device scales itself travels as grey levels.
        stored = output if device is None or on_device or values else output.as_levels()
        ring = functools.partial(Ring, (rows, *stored.shape), storage_dtype(stored.dtype), num_slots)
        slots: Slots
        if on_device:
            slots = OpenSlots()
        else:
            slots = ring(begin=2, reuse=reuse_buffers) if device is None else ring(allocate=pinned_memory)
        engine = _build_engine(name, dataset, stored, num_workers, device, stats, (augmented, operates))
        slots.on_return = engine.waker()
        lanes.append(Lane(engine=engine, slots=slots, share=share))
    delivery: Delivery
    if device is None:
        delivery = ShownDelivery(output=output)
    else:
        delivery = DeviceDelivery(CudaCopyStream(device), output=output, device=device)
    return Machinery(lanes=tuple(lanes), delivery=delivery, output=output, values=values, operates=operates)


def _build_engine(
    name: str,
    dataset: Dataset,
    output: Output,
    num_workers: int,
    device: torch.device | None,
    stats: Stats,
    asked: tuple[bool, bool],
) -> Engine:
    augmented, operates = asked
    if name == "dali":
        from fastload.engine.dali import DaliEngine

        make = functools.partial(DaliEngine, num_workers=num_workers, device=device, stats=stats)
        return make(dataset, output, operates=operates, edit=_edit)
    from fastload.engine.cpu import CpuEngine

    return CpuEngine(dataset, output, num_workers=num_workers, stats=stats, augmented=augmented)


def _edit(image: NDArray[np.uint8], program: Program, functions: tuple[Function, ...]) -> NDArray[np.uint8]:
    """Operations on an image in the host's memory for an engine that has no kernels there, which load when needed."""
    from fastload.engine.cpu.programs import edit_image

    return edit_image(image, program, functions)
