"""Whether the disk is being waited for, so that the images of the next batches are asked for beforehand."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from fastload.dataset.reads import Reads
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.deliver import read_ahead
from fastload.stats import Stats

# Reads that take longer than this were not in memory, where an image of 114 KB takes 15 to 20 us. To ask in vain costs
# 2 us an image; of a cold virtual disk one thread reads 835 MB/s in place of 362 (random order, 256 images ahead).
_SECONDS_PER_IMAGE: Final = 30e-6
_SECONDS_PER_BYTE: Final = 0.5e-9
# For so many batches images are asked for beforehand; then the next slow read begins the same anew.
_BATCHES: Final = 64


class ReadAhead:
    """Shared by the threads of an engine; which of two that write at once is heard makes no difference."""

    def __init__(self) -> None:
        self._batches = 0

    def notice(self, seconds: float, images: int, num_bytes: int) -> None:
        """Takes notice of how long reading took."""
        if self._batches <= 0 and seconds > images * _SECONDS_PER_IMAGE + num_bytes * _SECONDS_PER_BYTE:
            self._batches = _BATCHES

    def ask(self, reads: Reads, first: int, end: int, stats: Stats) -> None:
        """Asks for items ``first`` to ``end``, a batch that has just been planned, if reading was slow lately."""
        if self._batches > 0 and system.ADVISES:
            self._batches -= 1
            begin = perf_counter()
            read_ahead(reads.descriptor[first:end], reads.offset[first:end], reads.size[first:end])
            stats.add("read", perf_counter() - begin, 0)
