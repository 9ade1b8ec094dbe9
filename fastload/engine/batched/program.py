"""Carries out the programs of a batch on its planes: the interpreter of augment/program.py's codes on torch tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from fastload.augment.parameters import Function, Warp
from fastload.augment.program import Code, Program
from fastload.engine.batched import erasing, host, neighbours, noise, pointwise, tables
from fastload.engine.batched.arithmetic import as_levels, per_sample
from fastload.engine.batched.maps import warp_levels
from fastload.engine.batched.schedule import LEVELS, Group, schedule
from fastload.errors import ConfigError


def run_operations(levels: torch.Tensor, program: Program, functions: tuple[Function, ...] = ()) -> torch.Tensor:
    """Images after the operations of their programs, where they lie and without waiting for the device.

    Programs are those that ``check_operations`` lets through; what erases stored values is passed over. Each operation
    is 5 to 200 calls of torch (most of them some 20) for all samples that wait for it: the host's work depends on how
    many different operations there are, not on how many images, up to MOST_VALUES (see schedule.py), which are worked
    on at a time. Beside the levels and their result that takes up to 1 GB of memory, and 5 bytes for each level where
    there are sums of chains (AugMix).

    JPEG and LAMBDA go by way of the host's memory (fastload's own kernel; a user's function on numpy arrays), one image
    after the other, and so wait for the device.

    Args:
        levels: uint8 (n, h, w, 3), on any device; left as they are.
        program: The operations of n samples.
        functions: What the numbers of Code.LAMBDA mean.

    Returns:
        uint8 (n, h, w, 3), C-contiguous.

    Raises:
        ConfigError: Not levels of that shape, or another number of samples.
    """
    if levels.ndim != 4 or levels.shape[3] != 3 or levels.dtype != torch.uint8:
        raise ConfigError(f"uint8 levels (n, height, width, 3) were expected, not {tuple(levels.shape)} {levels.dtype}")
    if len(program.start) != len(levels) + 1:
        raise ConfigError(f"programs of {len(levels)} samples were expected, not of {len(program.start) - 1}")
    planes = planes_of(levels)
    operate(planes, program, functions)
    return planes.permute(0, 2, 3, 1).contiguous()


def planes_of(levels: torch.Tensor) -> torch.Tensor:
    """Levels (n, h, w, 3) as planes of their own memory, (n, 3, h, w)."""
    return levels.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)


def operate(planes: torch.Tensor, program: Program, functions: tuple[Function, ...]) -> None:
    """Carries out the programs of n samples on their planes, uint8 (n, 3, h, w), in place."""
    sums = _Sums(planes if (program.code == Code.SAVE).any() else planes[:0])
    for group in schedule(program, planes.device):
        for part in group.parts(planes[:1].numel()):
            _carry_out(planes, part, sums, functions)


def _carry_out(planes: torch.Tensor, group: Group, sums: _Sums, functions: tuple[Function, ...]) -> None:
    if group.code == Code.ERASE:
        erasing.erase(planes, group)
        return
    # Samples rise: as many as there are, they are all.
    every = len(group.rows) == len(planes)
    chosen = planes if every else planes.index_select(0, group.samples)
    if group.code == Code.SAVE:
        sums.begin(chosen, group)
        return
    if group.code == Code.ADD:
        sums.add(chosen, group)
        return
    if group.code == Code.RESTORE:
        made = sums.kept.index_select(0, group.samples)
    elif group.code == Code.MIXED:
        made = as_levels(sums.sums.index_select(0, group.samples))
    elif group.code == Code.LAMBDA:
        made = host.call(chosen, group, functions)
    else:
        made = _OPERATIONS[group.code](chosen, group)
    if every:
        planes.copy_(made)
    else:
        planes.index_copy_(0, group.samples, made)


class _Sums:
    """Weighted sums of chains (AugMix) for images of the form of ``planes``.

    Attributes:
        kept: uint8 (n, 3, h, w), images as SAVE found them.
        sums: float32 of that shape; each product is rounded before it is added.
    """

    def __init__(self, planes: torch.Tensor) -> None:
        self.kept, self.sums = torch.empty_like(planes), torch.empty_like(planes, dtype=torch.float32)

    def begin(self, chosen: torch.Tensor, group: Group) -> None:
        self.kept.index_copy_(0, group.samples, chosen)
        self.sums.index_copy_(0, group.samples, chosen * per_sample(group.numbers[:, 0]))

    def add(self, chosen: torch.Tensor, group: Group) -> None:
        self.sums.index_add_(0, group.samples, chosen * per_sample(group.numbers[:, 0]))


def _warp(planes: torch.Tensor, group: Group) -> torch.Tensor:
    """One map of each image onto itself."""
    height, width = planes.shape[2:]
    count = len(planes)
    sizes = np.tile(np.array((height, width), np.int32), (count, 1))
    warp = Warp(
        matrix=group.values[:, 4:13].reshape(count, 1, 3, 3),
        size=sizes[:, None],
        fill=group.values[:, None, 1:4],
        active=np.ones(count, np.bool_),
        bilinear=group.values[:, 0] != 0.0,
    )
    return warp_levels(planes.permute(0, 2, 3, 1).contiguous(), warp, sizes, height, width).permute(0, 3, 1, 2)


_Operation = Callable[[torch.Tensor, Group], torch.Tensor]

_OPERATIONS: Final[dict[int, _Operation]] = {
    LEVELS: lambda planes, group: tables.look_up(planes, group.tables),
    Code.CONTRAST: lambda planes, group: tables.look_up(
        planes, tables.contrast(pointwise.find_grey(planes), group.numbers[:, 0])
    ),
    Code.SATURATION: lambda planes, group: pointwise.saturation(planes, group.numbers[:, 0]),
    Code.HUE: lambda planes, group: pointwise.hue(planes, group.numbers[:, 0]),
    Code.GRAYSCALE: lambda planes, _: pointwise.grayscale(planes),
    Code.AUTOCONTRAST: lambda planes, _: tables.look_up(planes, tables.autocontrast(planes)),
    Code.EQUALIZE: lambda planes, _: tables.look_up(planes, tables.equalize(planes)),
    Code.SHARPNESS: lambda planes, group: neighbours.sharpen(planes, group.numbers[:, 0]),
    Code.PERMUTE: lambda planes, group: pointwise.permute(planes, group.numbers[:, :3]),
    Code.BLUR: neighbours.blur,
    Code.NOISE: lambda planes, group: noise.add_noise(planes, group.numbers),
    Code.JPEG: host.compress,
    Code.WARP: _warp,
    Code.ELASTIC: neighbours.elastic,
    Code.COLOR_MATRIX: lambda planes, group: pointwise.color_matrix(planes, group.numbers[:, :12]),
    Code.FRAME: neighbours.frame,
}
