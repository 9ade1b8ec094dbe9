"""What a run tells whoever draws it: a callback object with one method per event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastload.train.metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run that begins or goes on.

    Attributes:
        directory: Folder of the run.
        model: Name of the network.
        parameters: Trainable numbers in it.
        train_samples, val_samples: Sizes of the two data sets.
        epochs: Epochs in all.
        batches_per_epoch: Batches of each process in an epoch.
        first_epoch, first_batch: Where this process begins; not 0 when it resumes.
        global_batch: Images per step over all processes.
        world_size: Processes.
        device: Where they compute.
        amp: off, bf16 or fp16.
        synthetic: Whether there are no data but random pixels on the device.
    """

    directory: str
    model: str
    parameters: int
    train_samples: int
    val_samples: int
    epochs: int
    batches_per_epoch: int
    first_epoch: int
    first_batch: int
    global_batch: int
    world_size: int
    device: str
    amp: str
    synthetic: bool


@dataclass(frozen=True, kw_only=True)
class BatchInfo:
    """One training batch that is done.

    Attributes:
        epoch: Number of the epoch, from 0.
        batch: Batches done in the epoch.
        step: Steps of the optimiser since the beginning of the run.
        resolution: Side of the images in pixels.
        lr: Learning rate of this step.
        loss: Mean training loss between the last two lines of the log; None before the first.
        images: Images of all processes trained on in this epoch since this process joined it.
        seconds: Wall seconds for them.
        wait_seconds: How many of these the CUDA device stood still for want of data, as far as it has come; without
            one, the host.
        host_wait_seconds: How many of these the host waited for data.
    """

    epoch: int
    batch: int
    step: int
    resolution: int
    lr: float
    loss: float | None
    images: int
    seconds: float
    wait_seconds: float
    host_wait_seconds: float


@dataclass(frozen=True, kw_only=True)
class EpochInfo:
    """One epoch that is done.

    Attributes:
        epoch: Number of the epoch, from 0.
        loss: Mean training loss of the epoch.
        images_per_second: Over all processes, evaluation not counted.
        wait_share: Share of the time for which rank 0's CUDA device stood still for want of data (by its own clock);
            without one, the host. 0 to 1.
        host_wait_share: Share of the time for which rank 0's host waited for data. Where it runs ahead of the device,
            its waiting costs nothing.
        metrics: Of the evaluation, if there was one.
        is_best: Whether it was the best so far.
    """

    epoch: int
    loss: float
    images_per_second: float
    wait_share: float
    host_wait_share: float
    metrics: Metrics | None
    is_best: bool


class Progress:
    """Does nothing; the command line draws by overriding what it shows. Called on rank 0 alone, in its main thread."""

    def begin(self, info: RunInfo) -> None:
        """The run begins or goes on."""

    def batch(self, info: BatchInfo) -> None:
        """A training batch is done. Called for every batch: must be quick."""

    def evaluating(self, done: int, total: int) -> None:
        """``done`` of ``total`` batches of an evaluation are done."""

    def epoch(self, info: EpochInfo) -> None:
        """An epoch is done, with its evaluation."""

    def message(self, text: str, details: Mapping[str, Any]) -> None:
        """Something that the user should know: a checkpoint was found, the training stops early."""
