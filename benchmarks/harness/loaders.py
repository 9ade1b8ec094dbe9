"""What a loader under measurement is, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.pipelines import Pipeline


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a loader is asked to do.

    Attributes:
        pipeline: What happens to each image.
        batch_size: Images in a batch; an incomplete last batch is dropped.
        threads: Worker threads, or worker processes where a loader works with processes.
        data: Folder or file in the format that the loader reads.
        samples: Samples in it.
        device: Where batches are to end: "cpu" or "cuda".
    """

    pipeline: Pipeline
    batch_size: int
    threads: int
    data: Path
    samples: int
    device: str = "cpu"


class Running(ABC):
    """A loader that was opened for a task. Opening, compiling and starting workers are not timed."""

    @abstractmethod
    def epoch(self, number: int) -> Iterator[tuple[Any, ...]]:
        """Batches of one epoch in a random order ("train") or any order: (images, labels).

        Images are a tensor N x 3 x H x W or an array N x H x W x 3; for "decode" a sequence of H x W x 3 uint8; for
        "views" a tuple of two batches. For "detect" a third element has, for each image, its boxes (n, 4; XYXY in
        pixels of the output) and their classes (n,).
        """

    def close(self) -> None:  # noqa: B027  (most have nothing to do)
        """Ends threads and processes."""
