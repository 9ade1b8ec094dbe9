"""How a filled slot becomes the Batch that the user is handed: shown, or copied to a device."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, Protocol

import torch
from numpy.typing import NDArray

from fastload.augment import Output
from fastload.batch import Batch, Ring, as_tensor
from fastload.dataset import Dataset
from fastload.device import Copy, CopyStream, SlotReturns
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

    def __init__(self, slots: Ring, *, output: Output, dataset: Dataset) -> None:
        self._slots = slots
        self._output = output
        self._dataset = dataset

    def start(self, flight: Flight) -> Flight:
        return flight

    def finish(self, started: Flight) -> Batch:
        shown = self._slots.lend(started.slot)[: len(started.ids)]
        return _as_batch(shown, started, self._output, self._dataset)

    def close(self) -> None:
        pass


class DeviceDelivery:
    """Slots are copied to a device while the batch before them is still used there; they come back by event.

    Args:
        slots: What the engine fills; pinned memory.
        stream: What copies.
    """

    lookahead = 1

    def __init__(self, slots: Ring, stream: CopyStream, *, output: Output, dataset: Dataset) -> None:
        self._slots = slots
        self._stream = stream
        self._output = output
        self._dataset = dataset
        self._returns = SlotReturns(slots.give_back, limit=COPIES_UNDER_WAY)

    def start(self, flight: Flight) -> tuple[Copy, Batch]:
        batch = _as_batch(flight.images, flight, self._output, self._dataset)
        copy = self._stream.start((batch.images, batch.labels))
        self._returns.add(flight.slot, copy.done)
        self._returns.collect()
        return copy, batch

    def finish(self, started: tuple[Copy, Batch]) -> Batch:
        copy, batch = started
        images, labels = self._stream.hand_over(copy)
        return dataclasses.replace(batch, images=images, labels=labels)

    def close(self) -> None:
        self._returns.drain()


def _as_batch(memory: NDArray[Any], flight: Flight, output: Output, dataset: Dataset) -> Batch:
    images = as_tensor(memory, output.dtype)
    return Batch(
        images=images.permute(0, 3, 1, 2) if output.memory_format == "channels_last" else images,
        labels=torch.from_numpy(dataset.labels(flight.ids)),
        ids=torch.from_numpy(flight.ids),
        valid=torch.from_numpy(flight.valid),
    )
