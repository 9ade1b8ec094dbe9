"""The DALI engine as the loader sees it: requests in, a thread that serves them, and how both end."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.base import Engine, LateSlot, OpenSlot, Pending, Request
from fastload.engine.dali.feeder import Feeder
from fastload.engine.dali.flight import Job
from fastload.engine.dali.graph import check_interpolation, import_dali
from fastload.engine.dali.samples import Edit, edit_by_torch
from fastload.engine.requests import check_output, check_slot
from fastload.engine.serving import PendingJob
from fastload.errors import ConfigError
from fastload.processors import available_processors
from fastload.stats import Stats


class DaliEngine(Engine):
    """Reads in threads of this process; NVIDIA DALI decodes, resamples, mirrors, scales and stores.

    Order and all that is drawn are fastload's, so that equal seeds give equal crops on every engine. Pixels of decoded
    images are libjpeg-turbo's where DALI decodes on the CPU. Resampled ones are within 1 grey level of Pillow's, but
    for the outermost rows and columns of crops that are made smaller: where the filter reaches beyond the crop DALI
    repeats its last pixel and Pillow leaves the tap out (up to 20 grey levels were seen, 0.2 on average of an image).

    What is done after the resampling, maps and operations on pixels, engine/batched does with torch where the images
    are, a batch at a time, as close to the CPU engine as it says. What is done before it is done in the threads that
    read: such an image is decoded whole on the CPU, worked on there, and given to DALI as bare pixels, for 1.6 + 0.4 to
    0.8 ms of processor time for a photograph of ImageNet with the CPU engine's kernels (1.6 to 12 ms with torch in
    their place). Of several views of an image each is then a file of its own; else all are cut out of one that is
    decoded once.

    Args:
        dataset: Where the samples are. It stays the caller's to close, after the engine.
        output: The form of every image; bicubic without antialias, box and area are not to be had.
        num_workers: Threads that read, and threads of DALI, each at least 1; None for one per processor.
        device: The CUDA device that decodes and holds the images (slots are OpenSlots then); None: all on the CPU.
        stats: Takes the spans "plan", "read", "before" (part of "read"), "decode" (waiting for DALI: all that it does)
            and "augment" (maps, operations and store behind it, or on a device their begin), the counters
            "decoder.dali" and "bytes.read", "bytes.spared" (of files with restart tiles, as `fastload convert --tiles`
            writes them, DALI is given what the crop needs) and "dali.rebuilt" (pipelines that a damaged file ended).
        operates: Whether requests will ask for maps or operations on pixels: all of them then go the same way from the
            beginning, and equal draws give equal bits whatever is drawn for the others.
        edit: What carries out operations before the resampling; the Loader has the CPU engine's kernels for it.

    Raises:
        MissingExtraError: DALI is not installed.
        ConfigError: DALI cannot make such an output.

    An engine that is let go of without close() ends its threads by itself, and so does the end of the program.
    """

    name = "dali"

    def __init__(
        self,
        dataset: Dataset,
        output: Output,
        *,
        num_workers: int | None = None,
        device: torch.device | None = None,
        stats: Stats | None = None,
        operates: bool = False,
        edit: Edit = edit_by_torch,
    ) -> None:
        check_output(output)
        if num_workers is None:
            num_workers = available_processors()
        if num_workers < 1:
            raise ConfigError(f"num_workers must be at least 1, not {num_workers}")
        import_dali()
        check_interpolation(output)
        self._output = output
        self._device = device
        stats = stats if stats is not None else Stats()
        self._feeder = Feeder(dataset, output, num_workers, device, stats, operates=operates, edit=edit)
        # The thread knows the feeder, never the engine: so an abandoned engine is collected, and lets it go.
        self._finalizer = weakref.finalize(self, self._feeder.abandon)
        self._finalizer.atexit = False

    def submit(self, plan: Callable[[], Request], images: NDArray[Any] | OpenSlot | LateSlot) -> Pending:
        """See Engine. Raises ConfigError for a slot that does not fit the output, FastloadError after close()."""
        if isinstance(images, LateSlot):
            taken = images.claim(at_once=True)
            assert taken is not None
            images = taken
        if not isinstance(images, OpenSlot):
            if self._device is not None:
                raise ConfigError(f"the images stay on {self._device}: an OpenSlot was expected, not an array")
            check_slot(images, self._output)
        job = Job(plan, images)
        self._feeder.enqueue(job)
        return PendingJob(self, self._feeder, job)

    def close(self) -> None:
        self._feeder.dismiss()
        self._feeder.join()
