"""How a filled slot becomes the Batch that the user is handed: shown, or copied to a device."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from fastload.augment import Output
from fastload.augment.parameters import DType
from fastload.batch import Batch, Ring, as_tensor, torch_dtype
from fastload.device import Copy, CopyStream, SlotReturns, normalise_on_device
from fastload.engine.base import OpenSlot
from fastload.loader.flight import Flight

# Copies under way at which the host waits for the oldest. Two are there by design, the user's next batch and the one
# after it; a third means that the one of the step before last has not ended (38 MB take 1.5 ms at 25 GB/s).
COPIES_UNDER_WAY: Final = 3


class Delivery(Protocol):
    """The way of batches from the engine to the user.

    Attributes:
        lookahead: Batches that are started before the one before them is finished.
    """

    lookahead: int

    def start(self, flight: Flight) -> Any:
        """Takes over a landed flight and its slot; what it returns is for ``finish``, in the same order."""
        ...

    def finish(self, started: Any) -> Batch:
        """The batch, for the user."""
        ...

    def close(self) -> None:
        """Waits for what still reads slots."""
        ...


class ShownDelivery:
    """The user sees the slot itself: nothing is copied."""

    lookahead = 0

    def __init__(self, *, output: Output) -> None:
        self._output = output

    def start(self, flight: Flight) -> Flight:
        return flight

    def finish(self, started: Flight) -> Batch:
        slots = started.lane.slots
        assert isinstance(slots, Ring)
        assert not isinstance(started.slot, OpenSlot)
        shown = started.slot[: len(started.ids)]
        turned = self._output.memory_format == "channels_last" and len(self._output.views) == 1
        if turned:  # by numpy, before it is lent: torch takes twice as long
            shown = shown.transpose(0, 3, 1, 2)
        images = as_tensor(slots.lend(started.slot, shown), self._output.dtype)
        batch = _as_batch((images,) if turned else _as_images(images, self._output), started)
        marked = started.targets
        return batch if marked is None else dataclasses.replace(batch, targets=marked.finish(marked.tensors()))

    def close(self) -> None:
        pass


class DeviceDelivery:
    """Slots are copied to a device while the batch before them is still used there; they come back by event.

    Slots hold grey levels, a half or a quarter of what float values take on the way: they are scaled on the device, to
    the bits that the CPU engine would have stored. Slots with finished values are copied as they are. Images that an
    engine left on the device are handed over as such.

    Args:
        stream: What copies from pinned memory.
        output: The form of the images that the user is handed; slots hold them so, or ``as_levels``.
        device: Where to.
    """

    lookahead = 1

    def __init__(self, stream: CopyStream, *, output: Output, device: torch.device) -> None:
        self._stream = stream
        self._output = output
        self._scales = [
            (torch.tensor(view.scale, device=device), torch.tensor(view.bias, device=device)) for view in output.views
        ]
        self._returns = SlotReturns(limit=COPIES_UNDER_WAY)

    def start(self, flight: Flight) -> tuple[Flight, Copy]:
        beside: tuple[torch.Tensor, ...] = (torch.from_numpy(flight.labels),)
        if flight.targets is not None:
            beside += flight.targets.tensors()
        if isinstance(flight.images, OpenSlot):
            return flight, self._stream.start(beside)
        copy = self._stream.start((as_tensor(flight.images, self._stored(flight.images)), *beside))
        self._returns.add(functools.partial(flight.lane.slots.give_back, flight.slot), copy.done)
        self._returns.collect()
        return flight, copy

    def _stored(self, images: NDArray[Any]) -> DType:
        """The type of the values in a slot: levels, or finished."""
        return "uint8" if images.dtype == np.uint8 else self._output.dtype

    def finish(self, started: tuple[Flight, Copy]) -> Batch:
        flight, copy = started
        # In the user's thread and on his stream, which has waited for what was copied and waits here for DALI's images.
        tensors = self._stream.hand_over(copy)
        levels, (labels, *marked) = ((), tensors) if isinstance(flight.slot, OpenSlot) else (tensors[:1], tensors[1:])
        dtype = torch_dtype(self._output.dtype)
        if isinstance(flight.slot, OpenSlot):
            images = _as_images(from_dlpack(flight.slot.images).to(dtype), self._output)
        else:
            images = _as_images(levels[0], self._output)
            if dtype != images[0].dtype:
                pairs = zip(images, self._scales, strict=True)
                images = tuple(normalise_on_device(view, *scale, dtype) for view, scale in pairs)
        batch = _as_batch(images, flight)
        targets = None if flight.targets is None else flight.targets.finish(marked)
        return dataclasses.replace(batch, labels=labels, targets=targets)

    def close(self) -> None:
        self._returns.drain()


def _as_images(memory: torch.Tensor, output: Output) -> tuple[torch.Tensor, ...]:
    """The images that lie in a slot, N x 3 x H x W, of each view."""
    rows, views = len(memory), output.views
    if len(views) > 1:
        sizes = [rows * math.prod(view.image_shape) for view in views]
        blocks = torch.split(memory.reshape(-1), sizes)
        parts = [block.view(rows, *view.image_shape) for block, view in zip(blocks, views, strict=True)]
    else:
        parts = [memory]
    return tuple(part.permute(0, 3, 1, 2) if output.memory_format == "channels_last" else part for part in parts)


def _as_batch(images: tuple[torch.Tensor, ...], flight: Flight) -> Batch:
    return Batch(
        images=images if len(images) > 1 else images[0],
        labels=torch.from_numpy(flight.labels),
        ids=torch.from_numpy(flight.ids),
        valid=torch.from_numpy(flight.valid),
    )
