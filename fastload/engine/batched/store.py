"""The end of a batch: its images after their maps and operations, scaled, biased and rounded to the output's type."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from fastload.augment.parameters import Draws, Output
from fastload.augment.program import Program
from fastload.engine.batched.arithmetic import send
from fastload.engine.batched.erasing import erase_stored
from fastload.engine.batched.maps import warp_levels
from fastload.engine.batched.program import operate, planes_of
from fastload.engine.batched.schedule import in_parts, schedule
from fastload.errors import ConfigError

_TYPES: Final = {
    "uint8": torch.uint8,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


def finish(levels: torch.Tensor, draws: Draws, output: Output) -> torch.Tensor:
    """The stored images of a batch from the windows of its grids: ``warp``, ``after``, and the store.

    On the device where ``levels`` lie, without waiting for it (but for JPEG and LAMBDA, see ``run_operations``, which
    also says how much memory this takes).

    Args:
        levels: uint8 (n, H, W, 3): image i is ``levels[i, :h, :w]`` with h, w the size of its window, already padded
            and mirrored; left as they are.
        draws: What was drawn for these n samples, as the engines' ``check_draws`` lets it through.
        output: The form of the images; of one view.

    Returns:
        (n, *output.image_shape) of the output's type.

    Raises:
        ConfigError: Not levels of that shape, or smaller than a window.
    """
    count = len(draws.ids)
    if levels.ndim != 4 or levels.shape[3] != 3 or levels.dtype != torch.uint8 or len(levels) != count:
        raise ConfigError(
            f"uint8 levels ({count}, height, width, 3) were expected, not {tuple(levels.shape)} {levels.dtype}"
        )
    if count and np.any(draws.window[:, 2:].max(axis=0) > levels.shape[1:3]):
        raise ConfigError(f"levels of {tuple(levels.shape[1:3])} pixels are smaller than a window that was drawn")
    images = levels[:, : output.height, : output.width]
    if draws.warp is not None:
        images = warp_levels(levels, draws.warp, draws.window[:, 2:], output.height, output.width)
    if draws.after is not None:
        planes = planes_of(images)
        operate(planes, draws.after, draws.functions)
        images = planes.permute(0, 2, 3, 1)
    return _store(images, draws.after, output)


def _store(images: torch.Tensor, program: Program | None, output: Output) -> torch.Tensor:
    """Levels (n, h, w, 3), in any order in memory, as they are stored, with what a program erases of that."""
    device, count, values = images.device, len(images), 3 * output.height * output.width
    stored = torch.empty((count, *output.image_shape), dtype=_TYPES[output.dtype], device=device)
    planes = stored if output.memory_format == "contiguous" else stored.permute(0, 3, 1, 2)
    if output.dtype == "uint8":
        planes.copy_(images.permute(0, 3, 1, 2))
    else:
        scale, bias = (send(np.array(numbers, np.float32), device) for numbers in (output.scale, output.bias))
        for rows in in_parts(count, values):
            planes[rows].copy_((images[rows] * scale).add_(bias).permute(0, 3, 1, 2))
    for group in schedule(program, device, stored=True) if program is not None else ():
        for part in group.parts(values):
            erase_stored(planes, part)
    return stored
