"""What a Loader was asked for: every argument checked once, and what the environment decides where nothing was said."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from fastload.errors import ConfigError


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


def place_among_ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and world size: as given, else from torchrun's RANK and WORLD_SIZE, else 0 of 1.

    Raises:
        ConfigError: Only one of the two was given, or the rank is not below the world size.
    """
    if (rank is None) != (world_size is None):
        given, missing = ("rank", "world_size") if world_size is None else ("world_size", "rank")
        raise ConfigError(f"{given} was given without {missing}: give both, or neither to take them from torchrun")
    if rank is None or world_size is None:
        rank, world_size = _from_environment("RANK", 0), _from_environment("WORLD_SIZE", 1)
    world_size = integer("world_size", world_size, at_least=1)
    rank = integer("rank", rank, at_least=0)
    if rank >= world_size:
        raise ConfigError(f"rank must be below world_size ({world_size}), not {rank}")
    return rank, world_size


def default_num_workers() -> int:
    """Threads for one Loader: the processors that this process may use, shared among torchrun's local processes."""
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, processors // max(1, _from_environment("LOCAL_WORLD_SIZE", 1)))


def _from_environment(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"the environment variable {name} must be a whole number, not {text!r}") from None
