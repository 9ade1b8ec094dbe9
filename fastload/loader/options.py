"""What a Loader was asked for: every argument checked once, and what the environment decides where nothing was said."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, get_args

import torch
import torch.distributed as dist

from fastload.augment import MemoryFormat
from fastload.errors import ConfigError
from fastload.processors import available_processors


def one_of(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Raises ConfigError unless ``value`` is one of ``allowed`` (1 is not True here)."""
    if not any(value is option or (type(value) is type(option) and value == option) for option in allowed):
        expected = ", ".join(repr(option) for option in allowed)
        raise ConfigError(f"{name} must be one of {expected}, not {value!r}")


def integer(name: str, value: Any, *, at_least: int) -> int:
    """``value`` as an int (numpy's integers are welcome); ConfigError if it is none or is too small."""
    try:
        number = value.__index__()
    except AttributeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ConfigError(f"{name} must be a whole number, not {value!r}")
    if number < at_least:
        raise ConfigError(f"{name} must be at least {at_least}, not {number}")
    return int(number)


def memory_format_name(value: Any) -> MemoryFormat:
    """The name of a memory format, given as such or as torch's object; ConfigError for any other."""
    if isinstance(value, torch.memory_format):
        value = {torch.channels_last: "channels_last", torch.contiguous_format: "contiguous"}.get(value, value)
    one_of("memory_format", value, get_args(MemoryFormat))
    name: MemoryFormat = value
    return name


def place_among_ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and world size: as given, else of torch.distributed's process group, else as torchrun says, else 0 of 1.

    Raises:
        ConfigError: Only one of the two was given, or the rank is not below the world size.
    """
    if (rank is None) != (world_size is None):
        given, missing = ("rank", "world_size") if world_size is None else ("world_size", "rank")
        raise ConfigError(f"{given} was given without {missing}: give both, or neither to take them from torchrun")
    if rank is None or world_size is None:
        rank, world_size = _process_group() or _from_torchrun()
    world_size = integer("world_size", world_size, at_least=1)
    rank = integer("rank", rank, at_least=0)
    if rank >= world_size:
        raise ConfigError(f"rank must be below world_size ({world_size}), not {rank}")
    return rank, world_size


def check_place(rank: int, world_size: int) -> None:
    """Raises ConfigError if a process group that was made since gives this process another rank or world size."""
    group = _process_group()
    if group is not None and group != (rank, world_size):
        raise ConfigError(
            f"this Loader was made as rank {rank} of {world_size}, before torch.distributed made this process rank "
            f"{group[0]} of {group[1]}: make it afterwards (with Lightning, in train_dataloader), or give rank and "
            "world_size"
        )


def _process_group() -> tuple[int, int] | None:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return None


def _from_torchrun() -> tuple[int, int]:
    world_size = _from_environment("WORLD_SIZE", 1)
    if world_size > 1 and not os.environ.get("RANK"):  # Lightning's launcher: every process would be rank 0
        raise ConfigError(
            f"the environment variable WORLD_SIZE is {world_size}, but RANK is not set: make the Loader when "
            "torch.distributed is initialised (with Lightning, in train_dataloader), or give rank and world_size"
        )
    return _from_environment("RANK", 0), world_size


def default_num_workers() -> int:
    """Threads for one Loader: the processors that this process may use, shared among torchrun's local processes."""
    return max(1, available_processors() // max(1, _from_environment("LOCAL_WORLD_SIZE", 1)))


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"the environment variable {name} must be a whole number, not {text!r}") from None
