"""What one epoch of one rank consists of: batch number in, sample numbers and drawn parameters out; pure."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment import AugmentPlan, Draws
from fastload.augment.rng import streams
from fastload.batch import Batch
from fastload.dataset import Dataset
from fastload.engine.base import Request, Requests
from fastload.loader.mixing import Mixer
from fastload.loader.targets import TargetReader, read_boxes
from fastload.order import BatchPlan, GlobalOrder, replacement

# Samples that are planned together, in whole batches. Numpy takes about 1 ms for the order and the draws of a batch,
# however small: 17 us an image for batches of 64, 2.4 us for 1,024 together and 1.9 us for 2,048.
_TOGETHER: Final = 2048
# Boxes of a sample take 0.1 ms to read: batches must not wait for those of many.
_TOGETHER_WITH_BOXES: Final = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class EpochPlan:
    """All that decides what the batches of an epoch are; none of it changes while the epoch is read.

    Attributes:
        epoch: Number of the epoch.
        dataset: Where labels and image sizes come from.
        order: Which sample comes when, for all ranks together.
        batches: Which positions of that order are this rank's.
        augment: What happens to each sample.
        mixer: What happens to each batch.
        targets: Reads what is marked in the images; None where nobody asks.
    """

    epoch: int
    dataset: Dataset
    order: GlobalOrder
    batches: BatchPlan
    augment: AugmentPlan
    mixer: Mixer | None = None
    targets: TargetReader | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _latest: dict[int, tuple[Requests, NDArray[np.int64]]] = field(default_factory=dict, init=False, repr=False)

    def batch(self, index: int) -> tuple[Request, NDArray[np.int64]]:
        """The work of a batch, row after row, and its labels.

        Plans its neighbours with it, which the next calls then need not.
        """
        together = _TOGETHER_WITH_BOXES if self.augment.needs_boxes else _TOGETHER
        per_chunk = max(1, together // (self.batches.batch_size * len(self.augment.views)))
        number, place = divmod(index, per_chunk)
        with self._lock:  # the batches of a chunk are asked for one after the other, by several threads
            latest = self._latest.get(number)
            if latest is None:
                requests = self._plan(number, per_chunk)
                # Labels of a batch of 64 alone take as long, 65 us between kernels that leave nothing in the caches.
                labels = self.dataset.labels(requests.draws.ids[:: len(self.augment.views)])
                latest = self._latest[number] = requests, labels
                while len(self._latest) > 2:
                    del self._latest[next(iter(self._latest))]
        requests, labels = latest
        first, end = requests.starts[place : place + 2]
        return requests[place], labels[first:end]

    def _plan(self, number: int, per_chunk: int) -> Requests:
        first = number * per_chunk
        last = min(first + per_chunk, self.batches.num_batches)
        positions = [self.batches.slice(index).positions for index in range(first, last)]
        places = np.concatenate(positions)
        starts = (0, *itertools.accumulate(map(len, positions)))
        draws = self._draw(self.order.at(self.epoch, places), places)
        return Requests(draws=draws, starts=starts, views=len(self.augment.views))

    def _draw(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> Draws:
        return self.augment.draw(
            seed=self.order.seed,
            epoch=self.epoch,
            ids=ids,
            sizes=self.dataset.sizes(ids),
            boxes=read_boxes(self.dataset, ids) if self.augment.needs_boxes else None,
            repeats=self.order.repeat(positions) if self.order.repeats > 1 else None,
        )

    def request(self, index: int, rows: NDArray[np.int64], ids: NDArray[np.int64]) -> Request:
        """Work that puts sample ``ids[i]`` into row ``rows[i]`` of batch ``index``; may read image headers."""
        return Request(rows=rows, draws=self._draw(ids, self.batches.slice(index).positions[rows]))

    def mix(self, batch: Batch, index: int) -> Batch:
        """Batch ``index`` as the user is to see it: mixed, if that was asked for."""
        if self.mixer is None:
            return batch
        repeats = self.order.repeat(self.batches.slice(index).positions)
        ids = streams(batch.ids.numpy(), repeats)
        return self.mixer.mix(batch, seed=self.order.seed, epoch=self.epoch, number=index, streams=ids)

    def coming(self, first: int) -> Iterator[NDArray[np.int64]]:
        """The samples of the batches from ``first`` on, in their order, as many at a time as are planned together."""
        per_piece = max(1, _TOGETHER // self.batches.batch_size)
        for begin in range(first, self.batches.num_batches, per_piece):
            end = min(begin + per_piece, self.batches.num_batches)
            positions = [self.batches.slice(index).positions for index in range(begin, end)]
            yield self.order.at(self.epoch, np.concatenate(positions))

    def substitute(self, sample_id: int, attempt: int) -> int:
        """The sample that stands in for one that cannot be delivered; attempts count from 0."""
        order = self.order
        return replacement(sample_id, attempt, num_samples=order.num_samples, seed=order.seed, epoch=self.epoch)
