"""index_shards(): tar shards in, the same folder as a data set out; resumable, every sample accounted for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import PIL
import simplejpeg

import fastload
from fastload.adopt.locate import destination, digest, find_shards
from fastload.adopt.part import ShardAccount, ShardNotes, read_account
from fastload.adopt.publish import publish
from fastload.adopt.reading import Row, read_groups
from fastload.convert.pipeline import in_order
from fastload.convert.production import quiet_pillow
from fastload.convert.summary import first_skips
from fastload.convert.workspace import Workspace
from fastload.dataset.index import crc32_of_file
from fastload.dataset.manifest import LEDGER_NAME, MANIFEST_NAME
from fastload.errors import ConfigError, DataError, FastloadError
from fastload.jpeg.decoder import warm_up_indexer
from fastload.processors import available_processors
from fastload.sources.tar_members import Member, TarScan
from fastload.sources.tar_samples import Choice, Group, group_members

Progress = Callable[[int, int, int], None]

KIND: Final = "WebDataset shards"
_TASK_IMAGES: Final = 16
_TASK_BYTES: Final = 4 << 20
_MOST_BYTES: Final = 256 << 20


@dataclass(frozen=True, kw_only=True)
class AdoptSummary:
    """What ``index_shards`` found; found = samples + skipped.

    Attributes:
        path: The data set.
        shards: Tar files with samples.
        found, samples, skipped: Groups of members, and what became of them. A shard that is damaged counts as one more
            that is found and skipped: how many samples are lost in it nobody knows.
        labelled: Samples with a label.
        indexed: Samples with a seek index.
        extras: Suffixes of further members.
        num_bytes: Size of the tar files.
        skips: The first 20 skipped as (source, reason); all are in the ledger.
        ledger: Path of conversion.jsonl.
    """

    path: str
    shards: int
    found: int
    samples: int
    skipped: int
    labelled: int
    indexed: int
    extras: tuple[str, ...]
    num_bytes: int
    skips: tuple[tuple[str, str], ...]
    ledger: str


@dataclass(frozen=True, kw_only=True)
class _Task:
    shard: int
    groups: list[Group]
    ignored: list[Member]
    damage: str | None  # not None for the last one of a shard
    num_bytes: int


def index_shards(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str] | None = None,
    image: str | None = None,
    label: str | None = None,
    workers: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> AdoptSummary:
    """Makes a data set of uncompressed WebDataset shards as they lie: dataset.json, index.arrow and seek indexes.

    The tars are read once and never changed. Samples, keys and bytes are those that webdataset yields; every image is
    decoded once to prove that it can be. Class names are the labels as text. What is interrupted continues when it is
    called again.

    Args:
        shards: A folder, a tar, a pattern (``shards-{000000..000009}.tar``, ``shards-*.tar``) or several of these.
        output: Folder for what is written, with links to the tars, where theirs cannot be written to. None writes
            beside them.
        image: Suffix of the member that is the image; None takes the one that has the suffix of an image.
        label: ``"cls"`` or another suffix (a whole number as text), ``"json.label"`` (a field of the member .json) or
            ``"none"``. Samples without it are skipped. None takes .cls where a sample has it.
        workers: Threads that decode; None takes one for each core that this process may use.
        strict: Makes the first sample that cannot be read an error in place of a line in conversion.jsonl.
        progress: Called in this thread with (done, total, skipped): bytes of shards, bytes of all, skipped samples.

    Raises:
        DataError: A shard is missing or compressed, the folder holds a data set already or cannot be written to, no
            sample can be read, or with ``strict`` one cannot.
        ConfigError: An argument is wrong, or samples have several images and ``image`` does not say which is meant.
    """
    choice = Choice(image=image, label=label)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers must be a whole number of at least 1 or None, not {workers!r}")
    paths = find_shards(shards)
    folder = destination(paths, output)
    conversion = {
        "source": {"kind": KIND},
        "options": {"image": image, "label": label},
        "software": {"fastload": fastload.__version__, "pillow": PIL.__version__, "simplejpeg": _simplejpeg()},
    }
    try:
        os.makedirs(folder, exist_ok=True)
        workspace = Workspace(folder)
        with workspace.locked():
            if os.path.lexists(os.path.join(folder, MANIFEST_NAME)):
                workspace.remove_if_empty()
                raise DataError(
                    f"a data set lies here already; remove {MANIFEST_NAME} to index the shards anew", path=folder
                )
            workspace.begin(conversion | {"digest": digest(paths)}, alone=False)
            warm_up_indexer()
            run = Survey(workspace, paths, choice, workers or available_processors(), strict, progress)
            try:
                accounts = run.accounts()
            except FastloadError:  # would come again: nothing to continue
                workspace.remove()
                raise
            manifest = publish(workspace, paths, accounts, conversion, linked=output is not None)
            workspace.remove()
    except OSError as error:
        raise DataError(
            f"the index cannot be written: {error.strerror or error}; mend that (free space, permissions), or write "
            "elsewhere with output=FOLDER (--output)",
            path=error.filename or folder,
        ) from error
    ledger = os.path.join(folder, LEDGER_NAME)
    return AdoptSummary(
        path=folder,
        shards=len(manifest.shards),
        found=manifest.counts.found,
        samples=manifest.samples,
        skipped=manifest.counts.skipped,
        labelled=sum(account.labelled for account in accounts.values()),
        indexed=sum(account.indexed for account in accounts.values()),
        extras=manifest.extras,
        num_bytes=sum(shard.size for shard in manifest.shards),
        skips=first_skips(ledger) if manifest.counts.skipped else (),
        ledger=ledger,
    )


class Survey:
    """One run over the shards that are not yet done."""

    def __init__(
        self,
        workspace: Workspace,
        paths: list[str],
        choice: Choice,
        workers: int,
        strict: bool,
        progress: Progress | None,
    ) -> None:
        self._workspace = workspace
        self._paths = paths
        self._choice = choice
        self._workers = workers
        self._strict = strict
        self._progress = progress or (lambda done, total, skipped: None)
        self._status = [os.stat(path) for path in paths]
        self._stopped = False

    def accounts(self) -> dict[int, ShardAccount]:
        """Completes every shard; their accounts by number."""
        folder = self._workspace.folder
        known = {number: read_account(folder, number) for number in range(len(self._paths))}
        accounts = {number: account for number, account in known.items() if account is not None}
        total = sum(status.st_size for status in self._status)
        done = sum(self._status[number].st_size for number in accounts)
        skipped = sum(account.skipped for account in accounts.values())
        self._progress(done, total, skipped)
        reasons: list[str] = []
        notes: ShardNotes | None = None
        results = in_order(
            self._read, self._tasks(set(accounts)), workers=self._workers, most_bytes=_MOST_BYTES, stop=self._stop
        )
        with quiet_pillow(), contextlib.closing(results):
            for task, rows, crc32 in results:
                notes = notes or ShardNotes(os.path.basename(self._paths[task.shard]))
                self._enter(notes, task, rows)
                done += task.num_bytes
                if task.damage is not None:
                    self._check_unchanged(task.shard)
                    size = self._status[task.shard].st_size
                    accounts[task.shard] = notes.finish(folder, task.shard, size, crc32)
                    skipped += notes.skipped
                    reasons += notes.reasons[: 3 - len(reasons)]
                    done = sum(self._status[number].st_size for number in accounts)
                    notes = None
                self._progress(min(done, total), total, skipped + (notes.skipped if notes else 0))
        if not any(account.samples for account in accounts.values()):
            reason = "; ".join(reasons) or "no member has the name of a sample (KEY.jpg)"
            raise DataError(
                f"the {len(self._paths):,} shards hold no sample that can be read: {reason}", path=self._paths[0]
            )
        return accounts

    def _stop(self) -> None:
        self._stopped = True

    def _tasks(self, finished: set[int]) -> Iterator[_Task]:
        """Reads the headers of each tar while the threads read and decode what they name."""
        for shard, path in enumerate(self._paths):
            if shard in finished:
                continue
            scan = TarScan(path)
            groups: list[Group] = []
            ignored: list[Member] = []
            num_bytes = 0
            for found in group_members(scan):
                if isinstance(found, Member):
                    ignored.append(found)
                    continue
                groups.append(found)
                num_bytes += sum(member.size for member in found.members.values() if not member.problem)
                if len(groups) >= _TASK_IMAGES or num_bytes >= _TASK_BYTES:
                    yield _Task(shard=shard, groups=groups, ignored=ignored, damage=None, num_bytes=num_bytes)
                    groups, ignored, num_bytes = [], [], 0
            yield _Task(shard=shard, groups=groups, ignored=ignored, damage=scan.damage, num_bytes=num_bytes)

    def _read(self, task: _Task) -> tuple[_Task, list[Row], int]:
        """What the threads do; the last task of a shard also takes the checksum of the tar."""
        if self._stopped:
            return task, [], 0
        path = self._paths[task.shard]
        rows = read_groups(path, task.groups, self._choice)
        return task, rows, 0 if task.damage is None else crc32_of_file(path)

    def _enter(self, notes: ShardNotes, task: _Task, rows: list[Row]) -> None:
        for member in task.ignored:
            notes.ignore(member.name)
        for row in rows:
            if row.reason:
                notes.skip(row.key, row.name, row.reason)
            else:
                notes.rows.append(row)
        if task.damage:
            notes.skip(None, "", task.damage)
        if self._strict and notes.reasons:
            raise DataError(
                f"{notes.reasons[0]}; mend the shard, or index without strict", path=self._paths[task.shard]
            )

    def _check_unchanged(self, shard: int) -> None:
        before, now = self._status[shard], os.stat(self._paths[shard])
        if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
            raise DataError("the shard has changed while it was read; let nobody write to it", path=self._paths[shard])


def _simplejpeg() -> str:
    return str(getattr(simplejpeg, "__version__", "unknown"))
