"""One pass over the evaluation data: every sample counted exactly once, by whatever number of processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from fastload.train.distributed import World
from fastload.train.metrics import Meter, Metrics


class Batches(Protocol):
    """What an evaluation needs of a Loader that is neither shuffled nor short of its last batch ("pad" or "keep")."""

    def __iter__(self) -> Any: ...

    def __len__(self) -> int: ...


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    *,
    num_classes: int,
    world: World,
    flip: bool = False,
    autocast: Callable[[], AbstractContextManager[Any]],
    on_batch: Callable[[int, int], None] | None = None,
    first_id: Callable[[int], int] | None = None,
) -> Metrics:
    """Evaluates ``model`` in evaluation mode; all processes take part and get the same result.

    Args:
        model: The network (not wrapped in DDP), the same on every process.
        batches: Yields batches with images, labels, ids and valid.
        num_classes: Outputs of the network.
        world: The processes.
        flip: Average the outputs for each image and its mirror image.
        autocast: Context in which the network runs.
        on_batch: Called with (batches done, batches in all).
        first_id: Number of the sample that row 0 of batch n stands for; the others follow. A row that holds another
            sample is a replacement for one that could not be read, and is counted in its own place: it is left out.
    """
    model.eval()
    meter = Meter(num_classes, world.device)
    for number, batch in enumerate(batches):
        counted = batch.valid
        if first_id is not None:
            counted = counted & (batch.ids == torch.arange(len(batch.ids)) + first_id(number))
        rows = counted.nonzero()[:, 0]
        if len(rows):
            images, labels = batch.images.to(world.device), batch.labels.to(world.device)
            with autocast():
                # All rows, so that every batch has one shape: another makes cudnn choose its algorithms anew.
                logits = model(images)
                if flip:
                    logits = (logits + model(images.flip(3))) / 2
            if len(rows) < len(counted):  # the usual batch is complete: no copy
                keep = rows.to(world.device)
                logits, labels = logits[keep], labels[keep]
            meter.update(logits, labels)
        if on_batch is not None:
            on_batch(number + 1, len(batches))
    return meter.compute(world)
