"""How a filled slot becomes the Batch that the user is handed: shown, rearranged, or copied to a device."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Final, Literal, Protocol

import torch

from fastload.augment.parameters import DType
from fastload.batch import Batch, Ring, as_tensor
from fastload.dataset import Dataset
from fastload.device import Copy, CopyStream, SlotReturns
from fastload.loader.flight import Flight
from fastload.stats import Stats

MemoryFormat = Literal["channels_last", "contiguous"]

_TORCH_FORMATS: Final = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

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

    def __init__(self, slots: Ring, *, dtype: DType, dataset: Dataset) -> None:
        self._slots = slots
        self._dtype = dtype
        self._dataset = dataset

    def start(self, flight: Flight) -> Flight:
        return flight

    def finish(self, started: Flight) -> Batch:
        shown = self._slots.lend(started.slot)[: len(started.ids)]
        return _as_batch(as_tensor(shown, self._dtype).permute(0, 3, 1, 2), started, self._dataset)

    def close(self) -> None:
        pass


class RearrangedDelivery:
    """The user sees slots of another ring, to which pixels are copied as N x 3 x H x W; the engine's come back at once.

    Args:
        slots: Rows x height x width x 3, what the engine fills.
        planar_slots: Rows x 3 x height x width, what the user sees.
    """

    lookahead = 0

    def __init__(self, slots: Ring, planar_slots: Ring, *, dtype: DType, dataset: Dataset, stats: Stats) -> None:
        self._slots = slots
        self._planar_slots = planar_slots
        self._dtype = dtype
        self._dataset = dataset
        self._stats = stats

    def start(self, flight: Flight) -> Flight:
        return flight

    def finish(self, started: Flight) -> Batch:
        begin = time.perf_counter()
        count = len(started.ids)
        images = as_tensor(self._planar_slots.lend(self._planar_slots.take())[:count], self._dtype)
        images.copy_(as_tensor(started.images, self._dtype).permute(0, 3, 1, 2))
        self._slots.give_back(started.slot)
        self._stats.add("copy", time.perf_counter() - begin, count)
        return _as_batch(images, started, self._dataset)

    def close(self) -> None:
        pass


class DeviceDelivery:
    """Slots are copied to a device while the batch before them is still used there; they come back by event.

    Args:
        slots: What the engine fills; pinned memory.
        stream: What copies.
        memory_format: Of the images on the device.
    """

    lookahead = 1

    def __init__(
        self, slots: Ring, stream: CopyStream, *, dtype: DType, memory_format: MemoryFormat, dataset: Dataset
    ) -> None:
        self._slots = slots
        self._stream = stream
        self._dtype = dtype
        self._memory_format = _TORCH_FORMATS[memory_format]
        self._dataset = dataset
        self._returns = SlotReturns(slots.give_back, limit=COPIES_UNDER_WAY)

    def start(self, flight: Flight) -> tuple[Copy, Batch]:
        images = as_tensor(flight.images, self._dtype).permute(0, 3, 1, 2)
        batch = _as_batch(images, flight, self._dataset)
        copy = self._stream.start((batch.images, batch.labels), memory_format=self._memory_format)
        self._returns.add(flight.slot, copy.done)
        self._returns.collect()
        return copy, batch

    def finish(self, started: tuple[Copy, Batch]) -> Batch:
        copy, batch = started
        images, labels = self._stream.hand_over(copy)
        return dataclasses.replace(batch, images=images, labels=labels)

    def close(self) -> None:
        self._returns.drain()


def _as_batch(images: torch.Tensor, flight: Flight, dataset: Dataset) -> Batch:
    return Batch(
        images=images,
        labels=torch.from_numpy(dataset.labels(flight.ids)),
        ids=torch.from_numpy(flight.ids),
        valid=torch.from_numpy(flight.valid),
    )
