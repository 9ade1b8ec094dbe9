"""The end of a batch: its images after their maps and operations, scaled, biased and rounded to the output's type."""

from __future__ import annotations

from typing import Final

import torch

from fastload.augment.parameters import Draws, Output
from fastload.augment.program import Program
from fastload.engine.batched.erasing import erase_stored
from fastload.engine.batched.maps import warp_levels
from fastload.engine.batched.program import in_parts, operate, planes_of
from fastload.engine.batched.schedule import schedule
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
        ConfigError: Not levels of that shape.
    """
    count = len(draws.ids)
    if levels.ndim != 4 or levels.shape[3] != 3 or levels.dtype != torch.uint8 or len(levels) != count:
        raise ConfigError(
            f"uint8 levels ({count}, height, width, 3) were expected, not {tuple(levels.shape)} {levels.dtype}"
        )
    stored = torch.empty((count, *output.image_shape), dtype=_TYPES[output.dtype], device=levels.device)
    values = 3 * max(levels.shape[1] * levels.shape[2], output.height * output.width)
    for rows in in_parts(count, values):
        _finish_part(levels[rows], draws.rows(rows), output, stored[rows])
    return stored


def _finish_part(levels: torch.Tensor, draws: Draws, output: Output, stored: torch.Tensor) -> None:
    images = levels[:, : output.height, : output.width]
    if draws.warp is not None:
        images = warp_levels(levels, draws.warp, draws.window[:, 2:], output.height, output.width)
    if draws.after is not None:
        images = operate(planes_of(images), draws.after, draws.functions).permute(0, 2, 3, 1)
    channels_last = stored if output.memory_format == "channels_last" else stored.permute(0, 2, 3, 1)
    if output.dtype != "uint8":
        scale, bias = (torch.tensor(numbers, dtype=torch.float32) for numbers in (output.scale, output.bias))
        images = images.float() * scale.to(images.device, non_blocking=True)
        images += bias.to(images.device, non_blocking=True)
    channels_last.copy_(images)
    if draws.after is not None:
        _erase(channels_last, draws.after)


def _erase(images: torch.Tensor, program: Program) -> None:
    for group in schedule(program, images.device, stored=True):
        erase_stored(images.permute(0, 3, 1, 2), group)
