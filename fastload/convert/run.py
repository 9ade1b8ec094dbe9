"""convert(): a source in, a data set of tar shards out; resumable, reproducible, every image accounted for."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

import fastload
from fastload.convert.options import Options, parse_size
from fastload.convert.part import PartAccount, PartWriter
from fastload.convert.pipeline import in_order
from fastload.convert.plan import Plan, make_plan
from fastload.convert.publish import publish
from fastload.convert.summary import ConvertSummary, first_skipped, summarise
from fastload.convert.transcode import Transcoded, transcode
from fastload.convert.workspace import Workspace, describe_difference
from fastload.dataset.manifest import MANIFEST_NAME, Manifest
from fastload.dataset.sharded import ShardedDataset
from fastload.errors import ConfigError, DataError
from fastload.sources import Item, Source, open_source

Progress = Callable[[int, int, int], None]

# A task ends after so many images or bytes: handing one over costs about 100 us.
_TASK_IMAGES: Final = 16
_TASK_BYTES: Final = 4 << 20
# Files and results under way, all together.
_MOST_BYTES: Final = 256 << 20


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    shard_size: str | int = "256MiB",
    workers: int | None = None,
    seed: int | None = None,
    max_side: int | None = None,
    quality: int | None = None,
    strict: bool = False,
    dali_labels: bool = False,
    progress: Progress | None = None,
) -> ConvertSummary:
    """Converts a folder of images to WebDataset shards with an index.

    The bytes of JPEG files are kept, unless ``max_side`` or ``quality`` ask otherwise or no training decoder would
    take them; every image is decoded once to prove that it can be. Equal sources and options give equal bytes for any
    number of workers. A conversion that was interrupted continues when it is called again and ends with the same
    bytes; one that has finished does nothing.

    Args:
        src: Class folders of images, or a folder of images without classes.
        dst: The folder to write; new, empty, or holding this conversion unfinished or finished.
        shard_size: Source bytes in one shard ("256MiB", "1GB", a number of bytes).
        workers: Threads that decode; None takes one for each core that this process may use.
        seed: Shuffles the order in which samples are written; None keeps the order of the source.
        max_side: Reduces larger images to this longest side in pixels, by area, at quality 90 if ``quality`` is None.
        quality: Encodes every image anew at this JPEG quality, with the chroma sampling that it has.
        strict: Makes the first image that cannot be read an error in place of a line in conversion.jsonl.
        dali_labels: Adds a member .lbl (the label as 8 bytes, little-endian), which DALI reads.
        progress: Called in this thread with (done, total, skipped) images.

    Returns:
        The account: found = written + skipped.

    Raises:
        DataError: The source or the destination is not what is needed, another conversion writes there, the disk is
            full, no image can be read, or with ``strict`` one cannot.
        ConfigError: An argument is out of range.
    """
    options = Options(
        shard_size=parse_size(shard_size), seed=seed, max_side=max_side, quality=quality, dali_labels=dali_labels
    )
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers must be a whole number of at least 1 or None, not {workers!r}")
    destination = os.fspath(dst)
    _refuse_overlap(os.fspath(src), destination)
    source = open_source(src)
    conversion = {"source": {"kind": source.kind, "digest": source.digest()}, "options": options.to_json()}
    try:
        os.makedirs(destination, exist_ok=True)
        workspace = Workspace(destination)
        with workspace.locked():
            manifest = _finished(workspace, conversion)
            resumed = manifest is not None
            if manifest is None:
                software = {"fastload": fastload.__version__, "pillow": PIL.__version__, "simplejpeg": _simplejpeg()}
                workspace.begin(conversion | {"software": software})
                run = _Run(source, options, workspace, workers or _cores(), strict, progress)
                manifest = publish(workspace, source, run.parts(), conversion | {"software": software})
            workspace.remove()
    except OSError as error:
        raise DataError(
            f"the conversion cannot write: {error.strerror or error}; mend that (free space, permissions) and run it "
            "again, it continues where it stopped",
            path=error.filename or destination,
        ) from error
    summary = summarise(destination, manifest, already_done=resumed)
    if strict and summary.skipped:
        raise _strict_error(source, *first_skipped(destination))
    return summary


def _finished(workspace: Workspace, conversion: dict[str, Any]) -> Manifest | None:
    """The manifest of the destination if this very conversion has been completed there."""
    if not os.path.lexists(os.path.join(workspace.destination, MANIFEST_NAME)):
        return None
    try:
        dataset = ShardedDataset(workspace.destination, verify="never")
    except DataError:
        workspace.remove_if_empty()
        raise
    dataset.close()
    manifest = dataset.manifest
    before = {name: manifest.conversion.get(name) for name in conversion}
    if before != conversion:
        workspace.remove_if_empty()
        raise DataError(
            f"a finished data set lies here that differs in {describe_difference(before, conversion)}; "
            "choose another folder or remove this one",
            path=workspace.destination,
        )
    return manifest


@dataclass(frozen=True, kw_only=True)
class _Task:
    part: int
    begin: int
    end: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Done:
    position: int
    item: Item | None
    image: Transcoded | None
    reason: str


class _Run:
    """One run over the parts that are not yet done."""

    def __init__(
        self,
        source: Source,
        options: Options,
        workspace: Workspace,
        workers: int,
        strict: bool,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._options = options
        self._workspace = workspace
        self._workers = workers
        self._strict = strict
        self._progress = progress or (lambda done, total, skipped: None)
        self._labels = source.labels()
        self._num_bytes = source.num_bytes()
        members = 2 + options.dali_labels + len(source.extras)
        self._plan: Plan = make_plan(self._num_bytes, shard_size=options.shard_size, seed=options.seed, members=members)
        self._stopped = threading.Event()

    def parts(self) -> dict[int, PartAccount]:
        """Completes every part; their accounts by number."""
        if self._strict and self._source.rejected:
            raise _strict_error(self._source, *self._source.rejected[0])
        accounts = self._workspace.finished_parts(self._plan.num_parts)
        done = len(self._source.rejected) + sum(self._entries(number) for number in accounts)
        skipped = len(self._source.rejected) + sum(account.skipped for account in accounts.values())
        total = len(self._source) + len(self._source.rejected)
        self._progress(done, total, skipped)
        reasons: list[str] = []
        writer: PartWriter | None = None
        try:
            with _quiet_pillow(), contextlib.closing(self._results(accounts)) as results:
                for task, images in results:
                    if writer is None:
                        writer = PartWriter(
                            self._workspace.folder,
                            task.part,
                            extras=self._source.extras,
                            dali_labels=self._options.dali_labels,
                        )
                    failed = self._write(writer, images)
                    reasons += failed[: 3 - len(reasons)]
                    done += len(images)
                    skipped += len(failed)
                    if task.end == self._plan.bounds[task.part + 1]:
                        accounts[task.part] = writer.finish()
                        writer = None
                    self._progress(done, total, skipped)
        except BaseException:
            if writer is not None:
                writer.abandon()
            raise
        if not any(account.samples for account in accounts.values()):
            self._workspace.remove()
            raise DataError(
                f"none of the {total:,} images can be read; the first: {'; '.join(reasons) or 'see earlier runs'}",
                path=self._source.path,
            )
        return accounts

    def _entries(self, part: int) -> int:
        return int(self._plan.bounds[part + 1] - self._plan.bounds[part])

    def _results(self, accounts: dict[int, PartAccount]) -> Generator[tuple[_Task, list[_Done]], None, None]:
        return in_order(
            self._transcode,
            self._tasks(frozenset(accounts)),
            workers=self._workers,
            most_bytes=_MOST_BYTES,
            stop=self._stopped.set,
        )

    def _tasks(self, finished: frozenset[int]) -> Iterator[_Task]:
        sizes: NDArray[Any] = self._num_bytes[self._plan.order]
        for part in range(self._plan.num_parts):
            if part in finished:
                continue
            begin, last = int(self._plan.bounds[part]), int(self._plan.bounds[part + 1])
            while begin < last:
                end, num_bytes = begin + 1, int(sizes[begin])
                while end < last and end - begin < _TASK_IMAGES and num_bytes + int(sizes[end]) <= _TASK_BYTES:
                    num_bytes += int(sizes[end])
                    end += 1
                yield _Task(part=part, begin=begin, end=end, num_bytes=num_bytes)
                begin = end

    def _transcode(self, task: _Task) -> tuple[_Task, list[_Done]]:
        """What the threads do."""
        images = []
        for position in range(task.begin, task.end):
            if self._stopped.is_set():
                break
            images.append(self._transcode_one(position))
        return task, images

    def _transcode_one(self, position: int) -> _Done:
        try:
            item = self._source.read(int(self._plan.order[position]))
            image = transcode(item.image, max_side=self._options.max_side, quality=self._options.quality)
        except DataError as error:
            return _Done(position=position, item=None, image=None, reason=error.reason)
        return _Done(position=position, item=item, image=image, reason="")

    def _write(self, writer: PartWriter, images: list[_Done]) -> list[str]:
        """Writes one task's samples in order; the reasons of those that are skipped."""
        failed = []
        for done in images:
            number = int(self._plan.order[done.position])
            name, key = self._source.name(number), self._plan.key(done.position)
            if done.item is None or done.image is None:
                if self._strict:
                    raise _strict_error(self._source, name, done.reason)
                writer.skip(key, name, done.reason)
                failed.append(f"{name}: {done.reason}")
            else:
                writer.add(key, name, int(self._labels[number]), done.image, done.item.extras)
        return failed


def _strict_error(source: Source, name: str, reason: str) -> DataError:
    return DataError(
        f"{reason}; mend or remove the file, or convert without strict", path=os.path.join(source.path, name)
    )


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Pillow warns of oddities (EXIF, large images) by the thousand; what matters stands in the ledger."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        yield


def _refuse_overlap(source: str, destination: str) -> None:
    inner, outer = os.path.realpath(destination), os.path.realpath(source)
    if inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep):
        raise ConfigError(f"the destination {destination} lies inside the source {source}; choose a folder outside it")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _simplejpeg() -> str:
    return str(simplejpeg.__version__) if hasattr(simplejpeg, "__version__") else "unknown"
