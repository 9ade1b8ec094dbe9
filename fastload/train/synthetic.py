"""Random pixels and labels that lie on the device: what a network can do when it never waits for data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from fastload.batch import Batch
from fastload.errors import ConfigError
from fastload.loader import LoaderStats
from fastload.train.distributed import World
from fastload.transforms import Transform


def synthetic_batch(
    rows: int,
    side: int,
    *,
    num_classes: int,
    dtype: torch.dtype,
    channels_last: bool,
    device: torch.device,
    first_id: int = 0,
) -> Batch:
    """Normally distributed pixels, as normalised photographs have them, and uniform labels; the same at each call.

    Args:
        rows: Images.
        side: Height and width in pixels.
        num_classes: Labels are below.
        dtype: Of the pixels.
        channels_last: Memory format of the images.
        device: Where images and labels are.
        first_id: Sample number of row 0.
    """
    generator = torch.Generator().manual_seed(first_id)
    # Some images in random order: drawing a whole batch would take the host seconds.
    drawn = torch.randn(min(rows, 64), 3, side, side, generator=generator).to(dtype)
    images = drawn[torch.randint(len(drawn), (rows,), generator=generator)].to(device)
    return Batch(
        images=images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format),
        labels=torch.randint(num_classes, (rows,), generator=generator).to(device),
        ids=torch.arange(first_id, first_id + rows),
        valid=torch.ones(rows, dtype=torch.bool),
    )


class SyntheticFeed:
    """Hands over one resident batch again and again, as a Loader hands over its own.

    Args:
        num_samples: Samples of an epoch over all processes; what does not fill a batch is left out.
        batch_size: Rows of a batch of this process.
        world: The processes.
        make: (side, first_id) -> a batch of ``batch_size`` rows.
        side: Epoch -> side of the images in pixels.

    Raises:
        ConfigError: The samples do not fill one batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        world: World,
        make: Callable[[int, int], Batch],
        side: Callable[[int], int],
    ) -> None:
        self.batch_size = batch_size
        self._batches = num_samples // (batch_size * world.size)
        if self._batches == 0:
            raise ConfigError(
                f"data.synthetic_samples: {num_samples} samples do not fill one batch of {batch_size * world.size}: "
                "ask for more, or set train.batch_size"
            )
        self._first_id = world.rank * batch_size
        self._make = make
        self._side = side
        self._epoch = self._done = 0
        self._resident = side(0), make(side(0), self._first_id)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        while self._done < self._batches:
            self._done += 1
            yield self._resident[1]

    def set_epoch(self, epoch: int) -> None:
        """The next epoch is this one, from its beginning."""
        self._go_to(epoch, 0)

    def set_transforms(self, transforms: Iterable[Transform]) -> None:
        """Nothing is transformed."""

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches done."""
        return {"epoch": self._epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state_dict` was taken."""
        self._go_to(int(state["epoch"]), int(state["batch"]))

    def stats(self) -> LoaderStats:
        """Nothing was read."""
        return LoaderStats(spans={}, counts={}, epoch=None, engine="none (synthetic data)")

    def _go_to(self, epoch: int, done: int) -> None:
        self._epoch, self._done = epoch, done
        side = self._side(epoch)
        if self._resident[0] != side:  # now, so that nobody waits for it when the epoch has begun
            self._resident = side, self._make(side, self._first_id)
