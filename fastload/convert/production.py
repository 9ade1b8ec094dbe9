"""Transcodes and writes every part of a plan that is not yet done; the threads, the order, the account."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastload.convert.fitting import fit_members
from fastload.convert.options import Options
from fastload.convert.part import PartAccount
from fastload.convert.pipeline import in_order
from fastload.convert.plan import Plan, make_plan
from fastload.convert.transcode import MOST_PIXELS, Transcoded, transcode
from fastload.convert.workspace import Workspace
from fastload.errors import DataError, FastloadError
from fastload.remote.fetch import Unreachable
from fastload.sources import Item, Source

Progress = Callable[[int, int, int], None]

# A task ends after so many images or bytes: handing one over costs about 100 us.
_TASK_IMAGES: Final = 16
_TASK_BYTES: Final = 4 << 20
# Files and results under way, all together.
_MOST_BYTES: Final = 256 << 20


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


class Writer(Protocol):
    """Writes the samples of one part, in order."""

    def add(self, key: str, source: str, label: int, image: Transcoded, extras: Mapping[str, bytes]) -> None:
        """Appends one sample; DataError if it cannot be stored."""
        ...

    def skip(self, key: str, source: str, reason: str) -> None:
        """Enters a sample that cannot be read or stored into the ledger."""
        ...

    def finish(self) -> PartAccount:
        """Completes the part, durably; the account comes last."""
        ...

    def abandon(self) -> None:
        """Gives the disk space of an unfinished part back."""
        ...


class Target(Protocol):
    """What a conversion writes: shards, or one file. Parts are written one at a time, in order."""

    def resume(self, num_parts: int) -> dict[int, PartAccount]:
        """Accounts of the parts that an earlier run completed."""
        ...

    def writer(self, number: int) -> Writer:
        """Begins a part."""
        ...


class Production:
    """One run over the parts that are not yet done."""

    def __init__(
        self,
        source: Source,
        options: Options,
        workspace: Workspace,
        target: Target,
        *,
        workers: int,
        strict: bool,
        seek_index: bool,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._options = options
        self._workspace = workspace
        self._target = target
        self._workers = workers
        self._strict = strict
        self._seek_index = seek_index
        self._progress = progress or (lambda done, total, skipped: None)
        self._labels = source.labels()
        self._num_bytes = source.num_bytes()
        members = 2 + options.dali_labels + len(source.extras)
        self._plan: Plan = make_plan(self._num_bytes, shard_size=options.shard_size, seed=options.seed, members=members)
        # What an image takes in memory while it is under way: its file, or its pixels.
        pixels = 3 * min((options.max_side or 0) ** 2, MOST_PIXELS) if options.raw else 0
        self._held: NDArray[np.int64] = np.maximum(self._num_bytes, pixels)
        self._stopped = threading.Event()

    def parts(self) -> dict[int, PartAccount]:
        """Completes every part; their accounts by number."""
        if self._strict and self._source.rejected:
            raise strict_error(self._source, *self._source.rejected[0])
        accounts = self._target.resume(self._plan.num_parts)
        done = len(self._source.rejected) + sum(self._entries(number) for number in accounts)
        skipped = len(self._source.rejected) + sum(account.skipped for account in accounts.values())
        total = len(self._source) + len(self._source.rejected)
        self._progress(done, total, skipped)
        reasons: list[str] = []
        writer: Writer | None = None
        try:
            with quiet_pillow(), contextlib.closing(self._results(accounts)) as results:
                for task, images in results:
                    if writer is None:
                        writer = self._target.writer(task.part)
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
        sizes: NDArray[Any] = self._held[self._plan.order]
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
            image = transcode(
                item.image,
                max_side=self._options.max_side,
                quality=self._options.quality,
                raw=self._options.raw,
                tiles=self._options.tiles,
                seek_index=self._seek_index,
            )
            item = replace(item, extras=fit_members(item, self._source.fields, image))
        except Unreachable as error:  # not this image's fault, nor the next one's
            raise FastloadError(f"{error}; run the conversion again, it continues where it stopped") from error
        except DataError as error:
            return _Done(position=position, item=None, image=None, reason=error.reason)
        return _Done(position=position, item=item, image=image, reason="")

    def _write(self, writer: Writer, images: list[_Done]) -> list[str]:
        """Writes one task's samples in order; the reasons of those that are skipped."""
        failed = []
        for done in images:
            number = int(self._plan.order[done.position])
            name, key = self._source.name(number), self._plan.key(done.position)
            reason = done.reason
            if done.item is not None and done.image is not None:
                try:
                    writer.add(key, name, int(self._labels[number]), done.image, done.item.extras)
                    continue
                except DataError as error:
                    reason = error.reason
            if self._strict:
                raise strict_error(self._source, name, reason)
            writer.skip(key, name, reason)
            failed.append(f"{name}: {reason}")
        return failed


def strict_error(source: Source, name: str, reason: str) -> DataError:
    """What strict makes of an image that cannot be read."""
    return DataError(
        f"{reason}; mend or remove the file, or convert without strict", path=os.path.join(source.path, name)
    )


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow warns of oddities (EXIF, large images) by the thousand; what matters stands in the ledger."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        yield
