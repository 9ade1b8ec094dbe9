"""Images from DALI's memory to where the loader wants them: rows of a slot, or its own tensor as it is."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from fastload.augment.parameters import Output
from fastload.engine.base import OpenSlot

_TYPES: Final = {
    "uint8": torch.uint8,
    "float16": torch.float16,
    "bfloat16": torch.float32,  # rounded where the images go
    "float32": torch.float32,
}


def deliver(
    images: Any,
    rows: NDArray[np.int64],
    num_rows: int,
    empty: NDArray[np.bool_],
    slot: NDArray[Any] | OpenSlot,
    output: Output,
) -> None:
    """Puts image i into row ``rows[i]``.

    Args:
        images: n x height x width x 3, DALI's tensor.
        rows: int64 (n,).
        num_rows: Rows of the request, failed ones included; they are what an OpenSlot has.
        empty: bool (n,), images of which nothing lies on the grid: black.
        slot: Where to.
        output: The form of the images.
    """
    if not isinstance(slot, OpenSlot):
        made = _blackened(from_dlpack(images), empty, output)
        if output.dtype == "bfloat16":
            slot[rows] = made.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        else:
            slot[rows] = made.numpy()
        return
    whole = slot.images is None and len(rows) == num_rows and np.array_equal(rows, np.arange(num_rows))
    if whole and not empty.any():
        slot.images = images  # the user's thread takes it over: his stream, not this thread's, has to wait for it
        return
    made = _blackened(from_dlpack(images), empty, output)
    if slot.images is None:
        slot.images = made.new_zeros((num_rows, *made.shape[1:]))
    elif not isinstance(slot.images, torch.Tensor):
        slot.images = from_dlpack(slot.images)
    slot.images[torch.from_numpy(rows).to(made.device)] = made
    if made.is_cuda:  # substitutes are rare: the host may wait for them
        torch.cuda.synchronize(made.device)


def _blackened(images: torch.Tensor, empty: NDArray[np.bool_], output: Output) -> torch.Tensor:
    if empty.any():
        black = torch.tensor(output.bias, dtype=torch.float32).to(_TYPES[output.dtype]).to(images.device)
        if output.memory_format == "contiguous":
            black = black.view(3, 1, 1)
        images[torch.from_numpy(np.flatnonzero(empty)).to(images.device)] = black
    return images
