"""The checks of one shard's files: size and checksum of the tar, its headers against the index, .idx and .seek."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from fastload.adopt.run import KIND
from fastload.dataset.index import IndexTable
from fastload.dataset.manifest import Manifest
from fastload.dataset.reading import open_regular
from fastload.dataset.seek import seek_path
from fastload.errors import ConfigError, DataError
from fastload.jpeg.seek_file import SeekFile
from fastload.sources.tar_members import Member, TarScan
from fastload.sources.tar_samples import LARGEST_LABEL_MEMBER, Choice, Group, group_members
from fastload.verify.report import Finding, Kind
from fastload.verify.work import Stop, checksum, fill


def is_ours(manifest: Manifest) -> bool:
    """Whether convert wrote the tars, so that each of their bytes is known from the index and the images."""
    source = manifest.conversion.get("source")
    return not (isinstance(source, dict) and source.get("kind") == KIND)


def choice_of(manifest: Manifest) -> Choice:
    """Which members of a sample are its image and its label.

    Raises:
        ConfigError: dataset.json says nothing that can be meant.
    """
    if is_ours(manifest):
        return Choice(image="jpg")
    options = manifest.conversion.get("options")
    image, label = (options.get(name) if isinstance(options, dict) else None for name in ("image", "label"))
    if not all(value is None or isinstance(value, str) for value in (image, label)):
        raise ConfigError("expected the names of image and label under conversion.options in dataset.json")
    return Choice(image=image, label=label)


def dali_index(groups: list[Group]) -> bytes:
    """The bytes of a .idx file, as convert writes them."""
    lines = [
        " ".join(f"{m.name.partition('.')[2]} {m.offset} {m.size} {m.name}" for m in group.members.values())
        for group in groups
    ]
    return "".join([f"v1.2 {len(groups)}\n", *(f"{line}\n" for line in lines)]).encode("utf-8", "surrogateescape")


class ShardCheck:
    """One shard.

    Args:
        path: The data set.
        manifest, index: Its dataset.json and index.arrow; the index may be None.
        number: Number of the shard.
        first: Its first sample.
        stop: Ends the work.
    """

    def __init__(
        self, path: str, manifest: Manifest, index: IndexTable | None, number: int, first: int, stop: Stop
    ) -> None:
        self._manifest = manifest
        self._index = index
        self._shard = manifest.shards[number]
        self._first = first
        self._stop = stop
        self._file = os.path.join(path, self._shard.name)
        self._others = {(shard.size, shard.crc32): shard.name for shard in manifest.shards}
        self.groups: list[Group] = []

    def findings(self) -> list[Finding]:
        """All that is off about the files of the shard."""
        try:
            found = self._of_tar()
        except DataError as error:
            return [self._finding("shard", error.reason)]
        return found + self._of_seek()

    def _finding(self, kind: Kind, reason: str, key: str | None = None, sample: int = -1) -> Finding:
        return Finding(kind=kind, file=self._shard.name, key=key, reason=reason, sample=sample)

    def _of_tar(self) -> list[Finding]:
        descriptor, size = open_regular(self._file)
        try:
            found = checksum(descriptor, 0, size, self._stop)
            if self._stop:
                return []
            findings: list[Finding] = []
            if (size, found) != (self._shard.size, self._shard.crc32):
                findings.append(self._difference(size, found))
            if self._index is not None:
                findings += self._of_members(descriptor, self._index)
            if not findings and is_ours(self._manifest):
                findings += self._of_dali_index()
            return findings
        finally:
            os.close(descriptor)

    def _difference(self, size: int, crc32: int) -> Finding:
        expected, other = self._shard, self._others.get((size, crc32))
        if other is not None:
            return self._finding("name", f"this is {other} under another name; --repair gives names back")
        if size != expected.size:
            reason = f"expected a shard of {expected.size:,} bytes, as dataset.json says, but the file has {size:,}"
            return self._finding("shard", reason)
        reason = f"expected crc32 {expected.crc32:08x} of the whole tar, as dataset.json says, but it has {crc32:08x}"
        return self._finding("checksum", reason)

    def _of_members(self, descriptor: int, index: IndexTable) -> list[Finding]:
        """What tar and webdataset read against what the index says, which is what fastload reads."""
        try:
            choice = choice_of(self._manifest)
        except ConfigError as error:
            return [Finding(kind="manifest", file="dataset.json", reason=str(error))]
        rows = {index.key[row]: row for row in range(self._first, self._first + self._shard.samples)}
        findings: list[Finding] = []
        scan = TarScan(self._file)
        for group in self._in_rows(scan, rows):
            row = rows.pop(group.key)
            self.groups.append(group)
            reason = self._compare(descriptor, index, choice, group, row)
            if reason:
                findings.append(self._finding("tar", reason, group.key, row))
        if scan.damage:
            lost = f" ({len(rows):,} samples, for tar and WebDataset; fastload finds them by their position)"
            return [*findings, self._finding("tar", scan.damage + (lost if rows else ""))]
        if not self._stop:
            missing = "no member of the tar has its key"
            findings += [self._finding("tar", missing, key, row) for key, row in rows.items()]
        return findings

    def _in_rows(self, scan: TarScan, rows: dict[str, int]) -> Iterator[Group]:
        for group in group_members(scan):
            if self._stop:
                return
            if not isinstance(group, Member) and group.key in rows:
                yield group

    def _compare(self, descriptor: int, index: IndexTable, choice: Choice, group: Group, row: int) -> str:
        """Why the members of a sample are not what its row says; empty if they are."""
        if group.problem:
            return group.problem
        try:
            suffix = choice.image_of(group)
            places = {suffix: (int(index.offset[row]), int(index.size[row]))}
            for name, columns in index.extras.items():
                if columns.offset[row]:
                    places[name] = int(columns.offset[row]), int(columns.size[row])
            for name, place in places.items():
                member = group.members.get(name.lower())
                if member is None or (member.offset, member.size) != place:
                    return f"its member .{name} is not where the index says"
            label = group.members.get(choice.label_suffix)
            if label is not None and label.size > LARGEST_LABEL_MEMBER:
                return f"its label has {label.size:,} bytes"
            data = bytearray(label.size if label is not None else 0)
            if label is not None:
                fill(descriptor, memoryview(data), label.offset)
            found = choice.read_label(None if label is None else bytes(data))
        except (DataError, ConfigError) as error:
            return error.reason if isinstance(error, DataError) else str(error)
        if found != index.label[row]:
            return f"its label in the tar is {found}, in the index {index.label[row]}"
        return ""

    def _of_dali_index(self) -> list[Finding]:
        if self._index is None or self._stop:
            return []
        name = f"{os.path.splitext(self._shard.name)[0]}.idx"
        expected = dali_index(self.groups)
        try:
            descriptor, _ = open_regular(os.path.join(os.path.dirname(self._file), name))
            with open(descriptor, "rb") as file:
                if file.read(len(expected) + 1) == expected:
                    return []
            reason = "it does not say where the samples lie in the shard, which misleads DALI's reader"
        except (OSError, DataError) as error:
            why = error.reason if isinstance(error, DataError) else error.strerror
            reason = f"the index of the shard for DALI's reader cannot be read: {why}"
        return [Finding(kind="idx", file=name, reason=reason)]

    def _of_seek(self) -> list[Finding]:
        """A seek file that is missing costs speed alone and is no finding."""
        if self._index is None or self._stop:
            return []
        path = seek_path(self._file)
        crcs = self._index.crc32[self._first : self._first + self._shard.samples]
        try:
            with SeekFile(path, crcs) as file:
                if file.fits:
                    return []
                reason = f"{int(np.count_nonzero(file.image_crcs != crcs)):,} of its indexes were made of other images"
        except FileNotFoundError:
            return []
        except (DataError, OSError) as error:
            reason = error.reason if isinstance(error, DataError) else f"it cannot be read: {error.strerror}"
        return [Finding(kind="seek", file=os.path.basename(path), reason=reason)]
