"""Carries out the programs of a batch on its planes: the interpreter of augment/program.py's codes on torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch

from fastload.augment.parameters import Function
from fastload.augment.program import Code, Program
from fastload.engine.batched import erasing, noise, pointwise, tables
from fastload.engine.batched.schedule import LEVELS, Group, schedule
from fastload.errors import ConfigError

# Values (three a pixel) of the images that are worked on at a time: 222 images of 224 x 224.
MOST_VALUES: Final = 1 << 25


def run_operations(levels: torch.Tensor, program: Program, functions: tuple[Function, ...] = ()) -> torch.Tensor:
    """Images after the operations of their programs, where they lie and without waiting for the device.

    Programs are those that ``check_operations`` lets through; what erases stored values is passed over. However many
    images there are, each operation is some 5 to 60 calls of torch for all that wait for it: the host's work depends on
    how many different operations there are. JPEG and LAMBDA go by way of the host's memory (fastload's own kernels, a
    user's function on numpy arrays), and so wait for the device. Some MOST_VALUES levels are worked on at a time: what
    is in between takes up to 30 bytes for each of them, 1 GB, whatever the size of the batch.

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
    result = torch.empty_like(levels, memory_format=torch.contiguous_format)
    for rows in in_parts(len(levels), levels[:1].numel()):
        planes = operate(planes_of(levels[rows]), program.rows(rows), functions)
        result[rows].copy_(planes.permute(0, 2, 3, 1))
    return result


def in_parts(count: int, values: int) -> Iterator[slice]:
    """Slices of ``count`` images of so many values that are worked on at a time, none much smaller than another."""
    parts = max(1, -(-count * values // MOST_VALUES))
    size = max(1, -(-count // parts))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def planes_of(levels: torch.Tensor) -> torch.Tensor:
    """Levels (n, h, w, 3) as planes of their own memory, (n, 3, h, w)."""
    return levels.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)


def operate(planes: torch.Tensor, program: Program, functions: tuple[Function, ...]) -> torch.Tensor:
    """Planes, uint8 (n, 3, h, w), after the programs of n samples; they may be written over."""
    for group in schedule(program, planes.device):
        if group.code == Code.ERASE:
            erasing.erase(planes, group)
            continue
        # Samples rise: as many as there are, they are all.
        every = len(group.rows) == len(planes)
        chosen = planes if every else planes.index_select(0, group.samples)
        made = _OPERATIONS[group.code](chosen, group)
        planes = made.contiguous() if every else planes.index_copy_(0, group.samples, made)
    return planes


_Operation = Callable[[torch.Tensor, Group], torch.Tensor]

_OPERATIONS: Final[dict[int, _Operation]] = {
    LEVELS: lambda planes, group: tables.look_up(planes, group.tables),
    Code.CONTRAST: lambda planes, group: tables.look_up(
        planes, tables.contrast(pointwise.find_grey(planes), group.numbers[:, 0])
    ),
    Code.AUTOCONTRAST: lambda planes, _: tables.look_up(planes, tables.autocontrast(planes)),
    Code.EQUALIZE: lambda planes, _: tables.look_up(planes, tables.equalize(planes)),
    Code.SATURATION: lambda planes, group: pointwise.saturation(planes, group.numbers[:, 0]),
    Code.HUE: lambda planes, group: pointwise.hue(planes, group.numbers[:, 0]),
    Code.GRAYSCALE: lambda planes, _: pointwise.grayscale(planes),
    Code.PERMUTE: lambda planes, group: pointwise.permute(planes, group.numbers[:, :3]),
    Code.NOISE: lambda planes, group: noise.add_noise(planes, group.numbers),
    Code.COLOR_MATRIX: lambda planes, group: pointwise.color_matrix(planes, group.numbers[:, :12]),
}
