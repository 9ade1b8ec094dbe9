"""What contestants are asked to do and what they answer: plain data that crosses between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Task:
    """The work that every contestant does alike.

    Attributes:
        path: The data set.
        transforms: As ``fastload.transforms.to_config`` writes them.
        batch_size: Images in a batch.
        channels_last: Memory order of a batch.
        cold: Whether a round reads an image at most once, as its pages were dropped before.
        loader: Further arguments of fastload's Loader.
        opening: Further arguments of open_dataset.
    """

    path: str
    transforms: list[dict[str, dict[str, Any]]]
    batch_size: int
    channels_last: bool
    cold: bool
    loader: Mapping[str, Any]
    opening: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a contestant did in one round.

    Attributes:
        workers: Threads or processes.
        images: Images delivered.
        seconds: Wall seconds for them.
        cpu_seconds: Processor time for them, all threads and processes.
        memory_bytes: While the round was under way, or None.
        device_bytes: Bytes that came from the storage device meanwhile, or None.
        spans: Seconds of each stage, all threads together; empty for others than fastload.
        counts: fastload's counters.
        skipped: Images that were replaced.
    """

    workers: int
    images: int
    seconds: float
    cpu_seconds: float
    memory_bytes: int | None
    device_bytes: int | None
    spans: Mapping[str, float]
    counts: Mapping[str, int]
    skipped: int
