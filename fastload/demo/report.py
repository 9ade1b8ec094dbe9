"""What the demo found: its numbers, its account of the samples, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastload.stats import Span


@dataclass(frozen=True, kw_only=True)
class Feed:
    """The Loader alone: one epoch of the training data with nobody to train.

    Attributes:
        images: Images delivered.
        seconds: Wall seconds for them.
        cpu_seconds: Seconds of processor time for them, all threads of the process together.
        num_workers: Threads that decoded.
    """

    images: int
    seconds: float
    cpu_seconds: float
    num_workers: int

    @property
    def images_per_second(self) -> float:
        """Images per wall second."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def cpu_ms_per_image(self) -> float:
        """Milliseconds of processor time for one image."""
        return 1000.0 * self.cpu_seconds / self.images if self.images else 0.0


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """The result of one demo.

    Attributes:
        folder: Where images, shards and run were kept; None where they were temporary.
        seed: What the pictures, the initial weights and every augmentation follow from.
        classes: Name of each class, in label order.
        found, written, skipped: Files of both splits, and what the conversion made of them; found = written + skipped.
        skips: Each skipped file as (path below the images, reason).
        top1: Share of the held-out images that were recognised.
        evaluated: How many held-out images that is a share of.
        confusion: Row per class, column per prediction.
        epochs: Passes over the training data.
        expected, read, replaced: Samples that the training's batches owed, that came themselves, and that another one
            stood in for; expected = read + replaced.
        images_per_second: Training speed, evaluation not counted.
        wait_share: Share of the training time that was spent waiting for data, 0 to 1.
        device: Where the network computed.
        feed: The Loader alone.
        phases: Wall seconds of each phase, in order: render, convert, feed, train (with its evaluations).
        stages: Where the Loader's time went while training: seconds (over all threads) and items per stage.
        commands: The two commands with which users go on to data of their own.
    """

    folder: str | None
    seed: int
    classes: tuple[str, ...]
    found: int
    written: int
    skipped: int
    skips: tuple[tuple[str, str], ...]
    top1: float
    evaluated: int
    confusion: tuple[tuple[int, ...], ...]
    epochs: int
    expected: int
    read: int
    replaced: int
    images_per_second: float
    wait_share: float
    device: str
    feed: Feed
    phases: Mapping[str, float]
    stages: Mapping[str, Span]
    commands: tuple[str, str]

    @property
    def seconds(self) -> float:
        """Wall seconds of all phases."""
        return sum(self.phases.values())

    def to_json(self) -> dict[str, Any]:
        """All of it, with what follows from it, as plain data."""
        data = asdict(self)
        data["seconds"] = self.seconds
        data["feed"]["images_per_second"] = self.feed.images_per_second
        data["feed"]["cpu_ms_per_image"] = self.feed.cpu_ms_per_image
        return data
