"""verify(): every byte of a data set that has a checksum, and every image, looked at once; repaired if asked for."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence

from fastload.dataset.base import Dataset
from fastload.dataset.beton import BetonDataset
from fastload.dataset.manifest import MANIFEST_NAME
from fastload.dataset.opening import is_beton_url, open_dataset
from fastload.errors import ConfigError, DataError
from fastload.jpeg.decoder import warm_up_indexer
from fastload.processors import available_processors
from fastload.remote import is_url, local_path, shown
from fastload.verify.plain import PlainCheck
from fastload.verify.remote_shards import RemoteShardedCheck
from fastload.verify.repair import repair_shards
from fastload.verify.report import Finding, Progress, Repair, ShardReport, VerifyReport
from fastload.verify.shards import ShardedCheck
from fastload.verify.work import Stop, run_tasks


def verify(
    path: str | os.PathLike[str],
    *,
    repair: bool = False,
    source: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    work_dir: str | os.PathLike[str] | None = None,
) -> VerifyReport:
    """Proves that a data set is what it says, sample by sample.

    Of shards: dataset.json, index.arrow, sizes and crc32 of the tars, their headers and labels against the index, the
    crc32 and the decoding of every image, its size in pixels, the crc32 of further members, .idx, and the seek indexes
    against the images. Of image folders and .beton files: that every sample can be read and decoded; x.beton.seek, if
    it is there, has checksums for the JPEGs of such a file. Shards behind a URL are fetched one after the other, and
    checked as those that lie here.

    Memory is bounded whatever the sizes of files; nothing is written without ``repair``. A photograph of ImageNet's
    (113 KB) takes 0.85 ms of processor time (2,000 of them, median of four runs).

    ``repair`` does, for shards, and enters what it did into conversion.jsonl:

    - index.arrow is rebuilt from the tars, if these and dataset.json are sound; the fingerprint proves it;
    - shards that were exchanged or renamed get their names back, as their crc32 proves;
    - a shard of which convert wrote the headers gets them back, and the bytes of damaged or missing samples from
      ``source``; its crc32 proves it;
    - samples that stay damaged are dropped from the index (the tar keeps them); the fingerprint changes, and a shard
      that has none left loses its .idx and .seek;
    - .idx and .seek files are rebuilt, and conversion.jsonl keeps the lines that can be read.

    A repair that is killed at any moment leaves the data set as it was or repaired, and can be run again.

    Args:
        path: A data set or its URL, an image folder or a .beton file.
        repair: Repairs what can be repaired, and then verifies again.
        source: The folder that was converted, for ``repair``.
        workers: Threads; None takes one for each core that this process may use.
        progress: Called in this thread with (done, total) images and the number of findings.
        work_dir: Folder for the shards of a data set behind a URL while they are checked, two or three at a time; None
            takes the system's folder for temporary files.

    Raises:
        DataError: There is no data set at ``path``, another process writes to it, or it cannot be written to.
        ConfigError: An argument is wrong, or this storage cannot be repaired.
    """
    remote, folder = is_url(path), os.fspath(path) if is_url(path) else local_path(path)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers must be a whole number of at least 1 or None, not {workers!r}")
    if source is not None and not repair:
        raise ConfigError("source is what a repair takes lost bytes from: give repair (--repair) as well")
    if source is not None and not os.path.isdir(source):
        raise DataError("expected the folder that was converted, but there is none here", path=os.fspath(source))
    if remote and repair:
        raise ConfigError(f"{shown(folder)} cannot be repaired from here: repair the copy that was uploaded")
    sharded = not remote and os.path.lexists(os.path.join(folder, MANIFEST_NAME))
    if repair and not sharded:
        open_dataset(folder).close()
        raise ConfigError(f"{folder} has no {MANIFEST_NAME}: what is damaged there only its owner can replace")
    warm_up_indexer()
    threads = workers or available_processors()
    if sharded:
        report = _verify_shards(folder, threads, progress)
    elif remote and not is_beton_url(folder):
        report = _verify_from_afar(folder, work_dir, threads, progress)
    else:
        with open_dataset(folder, verify="always") as dataset:
            report = _verify_plain(dataset, threads, progress)
    if not repair or report.ok:
        return report
    original = None if source is None else os.fspath(source)
    try:
        repairs = repair_shards(folder, report.findings, original, threads)
    except OSError as error:
        raise DataError(
            f"the repair cannot write: {error.strerror or error}; mend that (free space, permissions) and run it again",
            path=error.filename or folder,
        ) from error
    after = _verify_shards(folder, threads, progress, repairs)
    was_blind = any(finding.kind == "index" for finding in report.findings)
    if was_blind and not after.ok and any(entry.action == "rebuilt" for entry in repairs):
        # The samples could not be looked at before the index was back.
        repairs += repair_shards(folder, after.findings, original, threads)
        after = _verify_shards(folder, threads, progress, repairs)
    return after


def _verify_shards(
    folder: str, workers: int, progress: Progress | None, repairs: Sequence[Repair] = ()
) -> VerifyReport:
    clock, stop = _Clock(), Stop()
    return _report_shards(ShardedCheck(folder, stop), folder, clock, stop, workers, progress, repairs)


def _verify_from_afar(
    url: str, work_dir: str | os.PathLike[str] | None, workers: int, progress: Progress | None
) -> VerifyReport:
    clock, stop = _Clock(), Stop()
    if work_dir is not None and not os.path.isdir(work_dir):
        raise ConfigError(f"work_dir must be a folder, but there is none at {os.fspath(work_dir)}")
    with tempfile.TemporaryDirectory(prefix="fastload-verify-", dir=work_dir) as folder:
        with contextlib.closing(RemoteShardedCheck(url, folder, stop)) as check:
            return _report_shards(check, shown(url), clock, stop, workers, progress, ())


def _report_shards(
    check: ShardedCheck,
    path: str,
    clock: _Clock,
    stop: Stop,
    workers: int,
    progress: Progress | None,
    repairs: Sequence[Repair],
) -> VerifyReport:
    samples = check.manifest.samples if check.manifest is not None else 0
    total = samples if check.index is not None else 0
    findings, decoded = _run(check, workers, stop, total, progress)
    accounts = _accounts(check.units, findings)
    everything = check.findings + [finding for found in findings for finding in found]
    return clock.report(path, "shards", samples, decoded, accounts, everything, repairs)


def _verify_plain(dataset: Dataset, workers: int, progress: Progress | None) -> VerifyReport:
    clock = _Clock()
    stop = Stop()
    check = PlainCheck(dataset, stop)
    expectation = dataset.expect(check.order())
    findings, decoded = _run(check, workers, stop, len(dataset), progress)
    expectation.close()
    storage = "beton" if isinstance(dataset, BetonDataset) else "folder"
    everything = [finding for found in findings for finding in found]
    return clock.report(dataset.path, storage, len(dataset), decoded, _accounts(check.units, findings), everything)


def _run(
    check: ShardedCheck | PlainCheck, workers: int, stop: Stop, total: int, progress: Progress | None
) -> tuple[list[list[Finding]], int]:
    """The findings of each unit, and how many images were decoded."""
    findings: list[list[Finding]] = [[] for _ in check.units]
    done = count = 0
    for task, found in run_tasks(check.tasks(), workers=workers, stop=stop):
        findings[task.unit] += found
        count += len(found)
        done += task.images
        if progress is not None and task.images:
            progress(done, total, count)
    return [_essential(found) for found in findings], done


def _essential(findings: list[Finding]) -> list[Finding]:
    """Without what follows from another finding: one flipped byte is one finding."""
    kinds = {finding.kind for finding in findings}
    if "name" in kinds:  # nothing of another shard can be where the index says
        return [finding for finding in findings if finding.kind == "name"]
    explained: set[str] = {"checksum"} if kinds & {"sample", "tar"} else set()
    lost = {finding.sample for finding in findings if finding.kind == "sample"}
    return [
        finding
        for finding in findings
        if finding.kind not in explained and not (finding.kind == "tar" and finding.sample in lost)
    ]


def _accounts(units: list[tuple[str, int, int]], findings: list[list[Finding]]) -> tuple[ShardReport, ...]:
    return tuple(
        ShardReport(name=name, samples=samples, num_bytes=num_bytes, findings=len(found))
        for (name, samples, num_bytes), found in zip(units, findings, strict=True)
    )


class _Clock:
    """Time since it was made, and the report that bears it."""

    def __init__(self) -> None:
        self._begin, self._cpu = time.perf_counter(), time.process_time()

    def report(
        self,
        path: str,
        storage: str,
        samples: int,
        decoded: int,
        shards: tuple[ShardReport, ...],
        findings: Sequence[Finding],
        repairs: Sequence[Repair] = (),
    ) -> VerifyReport:
        return VerifyReport(
            path=path,
            storage=storage,  # type: ignore[arg-type]
            samples=samples,
            decoded=decoded,
            shards=shards,
            findings=tuple(findings),
            repairs=tuple(repairs),
            seconds=time.perf_counter() - self._begin,
            cpu_seconds=time.process_time() - self._cpu,
        )
