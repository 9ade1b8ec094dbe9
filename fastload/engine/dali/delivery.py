"""Images from DALI's memory to where the loader wants them: rows of a slot, or its own tensor as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from fastload.augment.parameters import Output
from fastload.engine.base import OpenSlot
from fastload.engine.dali.arguments import Arguments


def deliver(
    images: Any,
    arguments: Arguments,
    rows: NDArray[np.int64],
    num_rows: int,
    slot: NDArray[Any] | OpenSlot,
    output: Output,
) -> None:
    """Puts image i into row ``rows[i]``.

    Args:
        images: n x height x width x 3, DALI's tensor.
        arguments: What they were made with.
        rows: int64 (n,).
        num_rows: Rows of the request, failed ones included; they are what an OpenSlot has.
        slot: Where to.
        output: The form of the images.
    """
    if not isinstance(slot, OpenSlot):
        made = _painted(from_dlpack(images), arguments, output)
        if output.dtype == "bfloat16":
            slot[rows] = made.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        else:
            slot[rows] = made.numpy()
        return
    whole = slot.images is None and len(rows) == num_rows and np.array_equal(rows, np.arange(num_rows))
    if whole and not arguments.painted.any():
        slot.images = images  # the user's thread takes it over: his stream, not this thread's, has to wait for it
        return
    made = _painted(from_dlpack(images), arguments, output)
    if slot.images is None:
        slot.images = made.new_zeros((num_rows, *made.shape[1:]))
    elif not isinstance(slot.images, torch.Tensor):
        slot.images = from_dlpack(slot.images)
    slot.images[torch.from_numpy(rows).to(made.device)] = made
    if made.is_cuda:  # substitutes are rare: the host may wait for them
        torch.cuda.synchronize(made.device)


def _painted(images: torch.Tensor, arguments: Arguments, output: Output) -> torch.Tensor:
    """The images, in their place, with what of them lies beside the grid in its colour."""
    chosen = np.flatnonzero(arguments.painted)
    if not chosen.size:
        return images
    rows = torch.from_numpy(chosen).to(images.device)
    levels = torch.from_numpy(arguments.pad[chosen]).float()
    colours = (levels * torch.tensor(output.scale) + torch.tensor(output.bias)).to(images)[:, None, None]
    top, left, bottom, right = torch.from_numpy(arguments.seen[chosen]).to(images.device).T[:, :, None]
    y, x = (torch.arange(side, device=images.device) for side in (output.height, output.width))
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
    inside = inside[..., None]
    if output.memory_format == "contiguous":
        inside, colours = inside.movedim(-1, 1), colours.movedim(-1, 1)
    images[rows] = torch.where(inside, images[rows], colours)
    return images
