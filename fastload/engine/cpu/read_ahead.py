"""Whether the disk is being waited for, so that the images of the next batches are asked for beforehand."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from fastload.dataset.reads import Reads
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.deliver import read_ahead

# For so many batches images are asked for beforehand; then the next slow read begins the same anew. To ask in vain
# costs 2 us an image; of a cold virtual disk one thread reads 835 MB/s in place of 362 (random order, 256 images
# ahead).
_BATCHES: Final = 64


class ReadAhead:
    """Shared by the threads of an engine; which of two that write at once is heard makes no difference."""

    def __init__(self) -> None:
        self._batches = 0

    def begin(self) -> None:
        """Takes notice that reading was slow."""
        if self._batches <= 0:
            self._batches = _BATCHES

    def ask(self, reads: Reads, first: int, end: int) -> float:
        """Asks for items ``first`` to ``end``, a batch that has just been planned, if reading was slow lately.

        Returns the seconds that it took.
        """
        if self._batches <= 0 or not system.ADVISES:
            return 0.0
        self._batches -= 1
        begin = perf_counter()
        read_ahead(reads.descriptor[first:end], reads.offset[first:end], reads.size[first:end])
        return perf_counter() - begin
