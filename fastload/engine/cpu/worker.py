"""What one thread does: plan a job, or read, decode and resample a slice of it, and account for every image."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

from fastload.augment.parameters import Output
from fastload.dataset.base import Dataset
from fastload.engine.base import Failure
from fastload.engine.cpu.decode import Decoded, decode, decode_whole
from fastload.engine.cpu.job import Job, Work, lay_out
from fastload.engine.cpu.kernels.layout import DONE, REGION_TOO_SMALL, make_constants
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.cpu.workspace import Workspace
from fastload.errors import DataError
from fastload.stats import Stats


class Worker:
    """The part of a thread that knows pixels; it owns the thread's memory."""

    def __init__(self, dataset: Dataset, output: Output, stats: Stats) -> None:
        self._dataset = dataset
        self._output = output
        self._stats = stats
        self._workspace = Workspace(output)
        self._constants = make_constants(output)

    def plan(self, job: Job) -> Work:
        """Calls the job's planning function and checks what it planned."""
        begin = perf_counter()
        work = lay_out(job.plan(), job.images, self._output, self._dataset)
        self._stats.add("plan", perf_counter() - begin, work.count)
        return work

    def run(self, job: Job, begin: int, end: int) -> None:
        """Delivers items begin to end of a planned job; what cannot be delivered goes to ``job.failures``."""
        work = job.work
        assert work is not None
        seconds = {"read": 0.0, "decode": 0.0, "resize": 0.0}
        counts: Counter[str] = Counter()
        items = 0
        for item in range(begin, end):
            if job.stopped:
                break
            items += 1
            try:
                self._deliver(work, item, seconds, counts)
            except (DataError, OSError) as error:
                job.failures.append(self._failure(work, item, error))
        for stage, spent in seconds.items():
            self._stats.add(stage, spent, items)
        for name, number in counts.items():
            self._stats.count(name, number)

    def _deliver(self, work: Work, item: int, seconds: dict[str, float], counts: Counter[str]) -> None:
        workspace = self._workspace
        start = perf_counter()
        num_bytes = self._dataset.read_into(work.ids[item], workspace.reserve_encoded(work.num_bytes[item]))
        read = perf_counter()
        seconds["read"] += read - start
        sample_id = work.ids[item]
        result = decode(num_bytes, self._dataset.seek_index(sample_id), work.regions[item], workspace)
        decoded = perf_counter()
        seconds["decode"] += decoded - read
        status = self._resample(work, item, result)
        if status == REGION_TOO_SMALL:  # not seen; the whole image then is enough
            result = decode_whole(num_bytes, workspace)
            status = self._resample(work, item, result)
        seconds["resize"] += perf_counter() - decoded
        counts["bytes.read"] += num_bytes
        counts[f"decoder.{result.decoder}"] += 1
        if status != DONE:
            box = ", ".join(f"{number:g}" for number in work.parameters[item][:4])
            raise DataError(
                f"the image has {result.image_width} x {result.image_height} pixels, its box ({box}) (top, left, "
                "height, width) lies outside: the index does not fit the file"
            )

    def _resample(self, work: Work, item: int, decoded: Decoded) -> int:
        workspace = self._workspace
        return resample_image(
            workspace.pixels,
            decoded.image_height,
            decoded.image_width,
            *decoded.region,
            work.parameters[item],
            self._constants,
            work.slot,
            work.rows[item],
            workspace.scratch,
        )

    def _failure(self, work: Work, item: int, error: DataError | OSError) -> Failure:
        sample_id = work.ids[item]
        if isinstance(error, DataError):
            reason = error.reason
        else:
            reason = f"the image cannot be read ({error})"
        return Failure(
            row=work.rows[item],
            sample_id=sample_id,
            key=self._dataset.key(sample_id),
            path=self._dataset.location(sample_id),
            reason=reason,
        )
