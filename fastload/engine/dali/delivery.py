"""Images from DALI's memory to where the loader wants them: worked on, into rows of a slot, or as they are."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from fastload.augment.parameters import Output
from fastload.batch import as_tensor
from fastload.engine.base import OpenSlot
from fastload.engine.batched import finish
from fastload.engine.batched.arithmetic import send
from fastload.engine.dali.arguments import Arguments
from fastload.engine.dali.flight import Flight, View


class Deliverer:
    """Delivers the images of an engine. For one thread.

    Args:
        output: The form of the images.
        device: Where they are: a stream of its own then does what is left to do, and the host waits for nothing.
    """

    def __init__(self, output: Output, device: torch.device | None) -> None:
        self._output = output
        self._stream = None if device is None else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Images in DALI's memory that the stream may still be reading.
        self._held: deque[tuple[torch.cuda.Event, list[torch.Tensor]]] = deque()

    def deliver(self, images: Sequence[Any], flight: Flight, *, levels: bool) -> None:
        """Puts image i of each view into row ``flight.rows[i]`` of the slot.

        Args:
            images: DALI's tensor of each view, n x height x width x 3 (or 3 x height x width).
            flight: What they were made for.
            levels: Whether they are windows of levels, with all operations still to do.
        """
        slot = flight.job.slot
        if not isinstance(slot, OpenSlot):
            memory = as_tensor(slot, self._output.dtype)
            self._enter(memory, flight.rows, self._finished([from_dlpack(one) for one in images], flight, levels))
            return
        whole = np.array_equal(flight.rows, np.arange(flight.num_rows)) and slot.images is None
        alone = whole and len(images) == 1
        if alone and not levels and not flight.views[0].arguments.painted.any():
            slot.images = images[0]  # the user's thread takes it over: his stream, not this thread's, waits for it
            return
        with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            theirs = [from_dlpack(one) for one in images]
            made = self._finished(theirs, flight, levels)
            memory = made[0]
            if not alone:
                shape = (flight.num_rows, *self._output.shape)
                memory = memory.new_zeros(shape) if slot.images is None else from_dlpack(slot.images)
                self._enter(memory, flight.rows, made)
            slot.images = memory if self._stream is None else _Ready(memory)
            self._hold(theirs)

    def _finished(self, images: list[torch.Tensor], flight: Flight, levels: bool) -> list[torch.Tensor]:
        """The finished images of each view; DALI's own where there was nothing left to do."""
        return [
            _finished(one, view, output, levels)
            for one, view, output in zip(images, flight.views, self._output.views, strict=True)
        ]

    def _enter(self, memory: torch.Tensor, rows: NDArray[np.int64], made: Sequence[torch.Tensor]) -> None:
        """Copies the images of each view into their rows of a slot, rounded to its type."""
        count, flat, begin = len(memory), memory.view(-1), 0
        run = bool(np.all(np.diff(rows) == 1))
        for images, output in zip(made, self._output.views, strict=True):
            size = count * math.prod(output.image_shape)
            block = flat[begin : begin + size].view(count, *output.image_shape)
            begin += size
            if run:
                block[int(rows[0]) : int(rows[0]) + len(rows)].copy_(images)
            else:
                block.index_copy_(0, send(rows, block.device), images.to(block.dtype))

    def _hold(self, images: list[torch.Tensor]) -> None:
        """Keeps DALI from using their memory again before the stream has read it."""
        if self._stream is None:
            return
        while self._held and self._held[0][0].query():  # type: ignore[no-untyped-call]
            self._held.popleft()
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        self._held.append((event, images))


class _Ready:
    """A tensor for ``torch.from_dlpack``, that the current stream is about to make: the taker's waits for it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record()

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        stream = torch.cuda.current_stream(self._tensor.device)
        stream.wait_event(self._event)
        self._tensor.record_stream(stream)
        return self._tensor.__dlpack__(**options)


def _finished(images: torch.Tensor, view: View, output: Output, levels: bool) -> torch.Tensor:
    if not levels:
        return _painted(images, view.arguments, output)
    windows = _painted(images, view.arguments, output.as_levels().altered(memory_format="channels_last"))
    return finish(windows, view.draws, output)


def _painted(images: torch.Tensor, arguments: Arguments, output: Output) -> torch.Tensor:
    """The images, in their place, with what of them lies beside the grid in its colour."""
    chosen = np.flatnonzero(arguments.painted)
    if not chosen.size:
        return images
    contiguous = output.memory_format == "contiguous"
    height, width = images.shape[2:] if contiguous else images.shape[1:3]
    rows, pad, seen = (send(part, images.device) for part in (chosen, arguments.pad[chosen], arguments.seen[chosen]))
    scale, bias = (send(np.array(numbers), images.device) for numbers in (output.scale, output.bias))
    colours = (pad * scale + bias).float().to(images.dtype)[:, None, None]
    top, left, bottom, right = seen.T[:, :, None]
    y, x = (torch.arange(side, device=images.device) for side in (height, width))
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
    inside = inside[..., None]
    if contiguous:
        inside, colours = inside.movedim(-1, 1), colours.movedim(-1, 1)
    images[rows] = torch.where(inside, images[rows], colours)
    return images
