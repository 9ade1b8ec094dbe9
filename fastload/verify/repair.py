"""What --repair does to a data set of shards, in an order in which it may be killed at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from fastload.convert.part import ledger_line, sync_folder, write_durably
from fastload.convert.publish import fingerprint_of
from fastload.convert.workspace import Workspace
from fastload.dataset.index import IndexTable, crc32_of_file, index_schema, map_batch, write_index
from fastload.dataset.indexing import write_seek_indexes
from fastload.dataset.manifest import LEDGER_NAME, MANIFEST_NAME, Index, Manifest, Shard, dump_manifest, read_manifest
from fastload.dataset.seek import seek_path
from fastload.dataset.sharded import index_of
from fastload.errors import DataError
from fastload.verify.ledger import extend_ledger, mend_ledger
from fastload.verify.names import give_names, plan_names
from fastload.verify.rebuild import rebuild_columns
from fastload.verify.report import Finding, Repair
from fastload.verify.restore import ShardRestorer
from fastload.verify.tars import ShardCheck, dali_index, is_ours
from fastload.verify.work import Stop

_LOCK: Final = "lock"
# Our own names: index.arrow, and what _put_index makes.
_INDEX: Final = re.compile(r"index(-[0-9a-f]{8})?\.arrow")


def repair_shards(path: str, findings: Sequence[Finding], source: str | None, workers: int) -> tuple[Repair, ...]:
    """Repairs what can be repaired of ``findings``.

    Every file is replaced as a whole. A new index gets a name of its own, and dataset.json, which names it, is the one
    file whose replacement makes it count; what the old dataset.json says stays on the disk until then.

    Raises:
        DataError: Another process writes to the data set.
        OSError: It cannot be written to.
    """
    workspace = Workspace(path)
    with workspace.locked():
        try:
            job = _Job(workspace, findings, source, workers)
            job.clear()
            if any(finding.kind == "manifest" for finding in findings):
                job.give_up(MANIFEST_NAME, "nothing can be repaired without it: restore it, or convert the data again")
                return tuple(job.repairs)
            job.give_names_back()
            if any(finding.kind == "index" for finding in findings):
                job.rebuild_index()
            else:
                job.mend_ledger()
                job.mend_shards()
        finally:
            workspace.remove()
    return tuple(job.repairs)


class _Job:
    """One repair."""

    def __init__(self, workspace: Workspace, findings: Sequence[Finding], source: str | None, workers: int) -> None:
        self._workspace = workspace
        self._path = workspace.destination
        self._findings = findings
        self._source = source
        self._workers = workers
        self._renamed: set[str] = set()
        self.repairs: list[Repair] = []

    def clear(self) -> None:
        """Removes what a repair that was killed left behind."""
        for name in os.listdir(self._workspace.folder):
            if name != _LOCK:
                os.unlink(self._temporary(name))
        with contextlib.suppress(DataError):
            self._sweep_indexes(read_manifest(self._path).index.name)

    def _sweep_indexes(self, counts: str) -> None:
        """Removes indexes that dataset.json does not name."""
        for name in os.listdir(self._path):
            if _INDEX.fullmatch(name) and name != counts:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._path, name))

    def _temporary(self, name: str) -> str:
        return os.path.join(self._workspace.folder, name)

    def give_up(self, file: str, reason: str) -> None:
        """Says what cannot be repaired."""
        self.repairs.append(Repair(file=file, action="impossible", reason=reason))

    def give_names_back(self) -> None:
        """Shards that were exchanged, or lie here under a name of their own, get the names that dataset.json has."""
        moves = plan_names(self._path, read_manifest(self._path), self._findings)
        extend_ledger(self._path, [_line(move.name, "renamed", move.reason) for move in moves])
        give_names(self._path, moves)
        for move in moves:
            self.repairs.append(Repair(file=move.name, action="renamed", reason=f"{move.reason} ({move.file})"))
        proven = {move.name for move in moves}
        self._renamed = proven | {move.file for move in moves}
        gone = {move.file for move in moves} - proven
        kept = [finding for finding in self._findings if finding.file not in self._renamed]
        reason = "no file of the data set has its bytes any more"
        self._findings = [*kept, *(Finding(kind="shard", file=name, reason=reason) for name in sorted(gone))]

    def rebuild_index(self) -> None:
        """index.arrow from sound tars."""
        manifest = read_manifest(self._path)
        old = manifest.index.name
        try:
            columns = rebuild_columns(self._workspace, manifest, self._workers)
        except DataError as error:
            self.give_up(old, f"it cannot be rebuilt: {error}")
            return
        index = self._put_index(columns, manifest)
        if (index.size, index.crc32) == (manifest.index.size, manifest.index.crc32):
            # The same table again: it may have its old name back, in one step.
            os.replace(os.path.join(self._path, index.name), os.path.join(self._path, old))
            index = manifest.index
        reason = f"from the {len(manifest.shards):,} shards, whose fingerprint is the one in {MANIFEST_NAME}"
        if is_ours(manifest):
            reason += "; the names of the files that samples were made of are lost with the old one"
        self.repairs.append(Repair(file=old, action="rebuilt", reason=reason))
        self._publish(manifest, manifest.model_copy(update={"index": index}), [_line(old, "rebuilt", reason)])

    def mend_ledger(self) -> None:
        """conversion.jsonl without the lines that cannot be read."""
        if any(finding.kind == "ledger" for finding in self._findings):
            self._rebuilt(LEDGER_NAME, mend_ledger(self._path))

    def mend_shards(self) -> None:
        """Restores and drops samples; then .idx and .seek."""
        manifest = read_manifest(self._path)
        index = index_of(manifest, os.path.join(self._path, manifest.index.name), check=True)
        lines: list[str] = []
        lost: dict[int, str] = {}
        shards: list[Shard | None] = []
        first = 0
        for number, shard in enumerate(manifest.shards):
            found = [finding for finding in self._findings if finding.file == shard.name]
            if found:
                shards.append(self._mend(manifest, index, number, first, found, lost, lines))
            else:
                shards.append(shard)
            first += shard.samples
        if len(lost) == manifest.samples:
            self.give_up(manifest.index.name, "no sample would be left; restore the shards from a copy")
            return
        if lost or shards != list(manifest.shards) or lines:
            self._remove_sidecars(manifest, shards)
            self._publish(manifest, self._without(manifest, index, lost, shards), lines)
        self._rewrite_sidecars({shard.name for shard in manifest.shards if self._has_findings(shard)})

    def _remove_sidecars(self, manifest: Manifest, shards: list[Shard | None]) -> None:
        """Removes .seek, and .idx where convert wrote it, of shards that dataset.json will no longer name."""
        endings = (".seek", ".idx") if is_ours(manifest) else (".seek",)
        for before, after in zip(manifest.shards, shards, strict=True):
            for ending in endings if after is None else ():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._path, os.path.splitext(before.name)[0] + ending))

    def _has_findings(self, shard: Shard) -> bool:
        if shard.name in self._renamed:
            return True
        stem = os.path.splitext(shard.name)[0]
        return any(os.path.splitext(finding.file)[0] == stem for finding in self._findings)

    def _mend(
        self,
        manifest: Manifest,
        index: IndexTable,
        number: int,
        first: int,
        found: list[Finding],
        lost: dict[int, str],
        lines: list[str],
    ) -> Shard | None:
        """Restores one shard and enters what stays damaged into ``lost``; its new entry in dataset.json."""
        shard = manifest.shards[number]
        file = os.path.join(self._path, shard.name)
        reasons = {finding.sample: finding.reason for finding in found if finding.kind == "sample"}
        if not os.path.isfile(file):
            reasons = dict.fromkeys(range(first, first + shard.samples), found[0].reason)
        if is_ours(manifest):
            restorer = ShardRestorer(self._path, manifest, index, number, first, self._source)
            self._restore(restorer, shard, index, reasons, lines)
        for row in sorted(reasons):
            lost[row] = reasons[row]
            lines.append(_line(index.source[row], "dropped", reasons[row], key=index.key[row], shard=shard.name))
            self.repairs.append(Repair(file=shard.name, key=index.key[row], action="dropped", reason=reasons[row]))
        if not os.path.isfile(file):
            return None
        size, crc32 = _identity(file)
        kept = shard.samples - len(reasons)
        if (size, crc32) != (shard.size, shard.crc32):
            reason = f"size and crc32 of the tar as it is now: {size:,} bytes, {crc32:08x}"
            lines.append(_line(shard.name, "noted", reason))
            self.repairs.append(Repair(file=shard.name, action="noted", reason=reason))
        return Shard(name=shard.name, size=size, samples=kept, crc32=crc32) if kept else None

    def _restore(
        self, restorer: ShardRestorer, shard: Shard, index: IndexTable, reasons: dict[int, str], lines: list[str]
    ) -> None:
        """Writes a shard anew as far as that can be done, and takes what came back out of ``reasons``."""
        file, temporary = os.path.join(self._path, shard.name), self._temporary(shard.name)
        result = restorer.write(temporary)
        if result is None:
            return
        before, after = _identity(file) if os.path.isfile(file) else None, _identity(temporary)
        # What is not proven by the checksum of the whole must have all that the tar had.
        whole = after == (shard.size, shard.crc32) or after[0] == shard.size
        if not (whole or (before is not None and before[0] < shard.size)) or (before is None and not result.restored):
            return
        if before != after:
            os.replace(temporary, file)
            sync_folder(self._path)
            self._note_restored(shard, index, result.restored, lines)
        for row in result.restored - result.lost:
            reasons.pop(row, None)
        for row in result.lost:
            reasons.setdefault(row, "its bytes are damaged")

    def _note_restored(self, shard: Shard, index: IndexTable, rows: set[int], lines: list[str]) -> None:
        for row in sorted(rows):
            reason = "its bytes come from its original file"
            lines.append(_line(index.source[row], "restored", reason, key=index.key[row], shard=shard.name))
            self.repairs.append(Repair(file=shard.name, key=index.key[row], action="restored", reason=reason))
        if not rows:
            reason = "headers and padding were written anew, up to the last sample of which the tar has all bytes"
            lines.append(_line(shard.name, "restored", reason))
            self.repairs.append(Repair(file=shard.name, action="restored", reason=reason))

    def _without(
        self, manifest: Manifest, index: IndexTable, lost: dict[int, str], shards: list[Shard | None]
    ) -> Manifest:
        """dataset.json, and its index on the disk, without the samples that are lost."""
        left = [shard for shard in shards if shard is not None]
        update: dict[str, Any] = {"shards": tuple(left)}
        if lost:
            keep = np.ones(len(index), bool)
            keep[list(lost)] = False
            old = os.path.join(self._path, manifest.index.name)
            batch = map_batch(old, manifest.extras, manifest.samples)
            columns = {name: batch.column(name).filter(pa.array(keep)) for name in index_schema(manifest.extras).names}
            columns["shard"] = pa.array(
                np.repeat(np.arange(len(left), dtype=np.int32), [shard.samples for shard in left])
            )
            counts, written = manifest.counts, int(keep.sum())
            update |= {
                "samples": written,
                "index": self._put_index(columns, manifest),
                "fingerprint": fingerprint_of(manifest.classes, manifest.schema_, columns, manifest.extras),
                "counts": counts.model_copy(
                    update={
                        "written": written,
                        "skipped": counts.found - written,
                        "reencoded": min(counts.reencoded, written),
                        "retiled": min(counts.retiled, written),
                    }
                ),
            }
        return manifest.model_copy(update=update)

    def _put_index(self, columns: dict[str, Any], manifest: Manifest) -> Index:
        """Writes an index beside the one that counts, under a name that no other index has."""
        temporary = self._temporary("index")
        write_index(temporary, columns, manifest.extras)
        crc32 = crc32_of_file(temporary)
        index = Index(name=f"index-{crc32:08x}.arrow", size=os.stat(temporary).st_size, crc32=crc32)
        os.replace(temporary, os.path.join(self._path, index.name))
        sync_folder(self._path)
        return index

    def _publish(self, before: Manifest, after: Manifest, lines: list[str]) -> None:
        """The ledger first: a line too many is harmless, a sample that is gone without one is not."""
        extend_ledger(self._path, lines)
        if after == before:
            return
        temporary = self._temporary(MANIFEST_NAME)
        write_durably(temporary, dump_manifest(after))
        os.replace(temporary, os.path.join(self._path, MANIFEST_NAME))
        sync_folder(self._path)
        self._sweep_indexes(after.index.name)

    def _rewrite_sidecars(self, names: set[str]) -> None:
        """.idx and .seek of shards that changed, or whose own are damaged."""
        manifest = read_manifest(self._path)
        index = index_of(manifest, os.path.join(self._path, manifest.index.name), check=None)
        again = False
        first = 0
        for number, shard in enumerate(manifest.shards):
            if shard.name in names:
                check = ShardCheck(self._path, manifest, index, number, first, Stop())
                kinds = {finding.kind for finding in check.findings()}
                stem = os.path.splitext(shard.name)[0]
                if "idx" in kinds:
                    write_durably(os.path.join(self._path, f"{stem}.idx"), dali_index(check.groups))
                    self._rebuilt(f"{stem}.idx", "from the headers of the shard")
                seek = os.path.basename(seek_path(shard.name))
                if "seek" in kinds or any(finding.file == seek for finding in self._findings):
                    os.unlink(os.path.join(self._path, seek))
                    self._rebuilt(seek, "from the images of the shard")
                    again = True
            first += shard.samples
        if again:
            try:
                write_seek_indexes(self._path, workers=self._workers)
            except DataError as error:
                self.give_up("*.seek", f"the seek indexes were deleted and could not be rebuilt: {error}")

    def _rebuilt(self, file: str, reason: str) -> None:
        self.repairs.append(Repair(file=file, action="rebuilt", reason=reason))


def _identity(path: str) -> tuple[int, int]:
    """Size and crc32 of a file."""
    return os.path.getsize(path), crc32_of_file(path)


def _line(source: str, action: str, reason: str, *, key: str | None = None, shard: str | None = None) -> str:
    """A line of the ledger; ``shard`` tells samples of equal keys apart."""
    line = ledger_line(source, action, reason, key=key)
    if shard is None:
        return line
    return json.dumps(json.loads(line) | {"shard": shard}, ensure_ascii=True) + "\n"
