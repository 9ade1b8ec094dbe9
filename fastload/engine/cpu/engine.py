"""The CPU engine as the loader sees it: threads that serve requests in the order in which they were submitted."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, Final

from numpy.typing import NDArray

from fastload import jit
from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.base import Engine, LateSlot, OpenSlot, Pending, Request
from fastload.engine.cpu.crew import Crew
from fastload.engine.cpu.job import KERNEL_READS, Job
from fastload.engine.cpu.programs import compile_operations
from fastload.engine.cpu.warm_up import warm_up, warm_up_items
from fastload.engine.requests import check_output, check_slot
from fastload.engine.serving import PendingJob
from fastload.errors import ConfigError
from fastload.jpeg import decoder
from fastload.processors import available_processors
from fastload.stats import Stats

_COMPILE_DECODER: Final = "from fastload.jpeg.decoder import warm_up; warm_up()"
_COMPILE_OPERATIONS: Final = "from fastload.engine.cpu.programs import compile_operations; compile_operations()"


class CpuEngine(Engine):
    """Reads, decodes and resamples on the threads of this process.

    Args:
        dataset: Where the samples are. It stays the caller's to close, after the engine.
        output: The form of every image.
        num_workers: Number of threads, at least 1; None for one per processor that this process may use.
        stats: Takes the spans "plan", "read", "decode", "before", "resize", "warp" and "augment", the counters
            "decoder.fastload", "decoder.turbo", "decoder.pillow" and "decoder.raw" (images by decoder), "bytes.read"
            and "index.refused" (images that were decoded without their seek index, because it does not fit them).

        augmented: Whether requests will ask for more than one resampling: the kernels for it are then compiled here,
            not with the first such request.

    An engine that is let go of without close() ends its threads by itself, and so does the end of the program.
    """

    name = "cpu"

    def __init__(
        self,
        dataset: Dataset,
        output: Output,
        *,
        num_workers: int | None = None,
        stats: Stats | None = None,
        augmented: bool = False,
    ) -> None:
        check_output(output)
        if num_workers is None:
            num_workers = available_processors()
        if num_workers < 1:
            raise ConfigError(f"num_workers must be at least 1, not {num_workers}")
        # On a new machine another process compiles the decoder meanwhile: 10 s in place of 17 on two cores.
        with contextlib.ExitStack() as beside:
            beside.enter_context(jit.compiling_beside("decoder", _COMPILE_DECODER))
            if augmented:
                beside.enter_context(jit.compiling_beside("operations", _COMPILE_OPERATIONS))
            jit.compile_once("cpu engine", warm_up)
        decoder.warm_up()
        if KERNEL_READS:  # last, because it is made of the others
            jit.compile_once("delivery", warm_up_items)
        if augmented:
            compile_operations()
        self._output = output
        self._crew = Crew(dataset, output, num_workers, stats if stats is not None else Stats())
        # Threads know the crew, never the engine: so an abandoned engine is collected, and lets them go.
        self._finalizer = weakref.finalize(self, self._crew.abandon)
        self._finalizer.atexit = False

    def submit(self, plan: Callable[[], Request], images: NDArray[Any] | OpenSlot | LateSlot) -> Pending:
        """See Engine. Raises ConfigError for a slot that does not fit the output, FastloadError after close()."""
        job = Job(plan, images if isinstance(images, LateSlot) else _ready(check_slot(images, self._output)))
        self._crew.enqueue(job)
        return PendingJob(self, self._crew, job)

    def waker(self) -> Callable[[], None]:
        return self._crew.wake

    def close(self) -> None:
        self._crew.dismiss()
        self._crew.join()


def _ready(images: NDArray[Any]) -> LateSlot:
    """A slot that is there."""
    return LateSlot(len(images), lambda at_once: images)
