"""Turns the finished parts of a conversion into the data set: final names, one index, one ledger, the manifest last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from fastload.convert.options import Options
from fastload.convert.part import (
    PartAccount,
    PartWriter,
    ledger_line,
    part_path,
    sync_folder,
    write_durably,
)
from fastload.convert.workspace import Workspace
from fastload.dataset.index import crc32_of_file, index_schema, map_batch, write_index
from fastload.dataset.listing import printable
from fastload.dataset.manifest import (
    INDEX_NAME,
    LEDGER_NAME,
    MANIFEST_NAME,
    Counts,
    Index,
    Manifest,
    Shard,
    dump_manifest,
)
from fastload.errors import DataError
from fastload.sources.base import Source


class Shards:
    """The shards while they are made: each part in files of its own."""

    def __init__(self, workspace: Workspace, source: Source, options: Options, *, seek_index: bool) -> None:
        self._workspace = workspace
        self._extras = source.extras
        self._dali_labels = options.dali_labels
        self._seek_index = seek_index

    def resume(self, num_parts: int) -> dict[int, PartAccount]:
        """Accounts of the parts that an earlier run completed."""
        return self._workspace.finished_parts(num_parts)

    def writer(self, number: int) -> PartWriter:
        """Begins a part."""
        return PartWriter(
            self._workspace.folder,
            number,
            extras=self._extras,
            dali_labels=self._dali_labels,
            seek_index=self._seek_index,
        )


def publish(
    workspace: Workspace,
    source: Source,
    accounts: Mapping[int, PartAccount],
    conversion: Mapping[str, Any],
    *,
    seek_index: bool,
) -> Manifest:
    """Gives every file its final name; may be interrupted anywhere and called again.

    Parts without samples become no shard. dataset.json appears last: without it there is no data set.
    """
    numbers = [number for number in sorted(accounts) if accounts[number].samples]
    shards = [
        Shard(
            name=f"shard-{position:06d}.tar",
            size=accounts[number].size,
            samples=accounts[number].samples,
            crc32=accounts[number].crc32,
        )
        for position, number in enumerate(numbers)
    ]
    columns = _columns(workspace, accounts, numbers, source.extras)
    for number, shard in zip(numbers, shards, strict=True):
        move(part_path(workspace.folder, number, "tar"), os.path.join(workspace.destination, shard.name), shard.size)
        for extension in ("idx", "seek") if seek_index else ("idx",):
            name = f"{shard.name.removesuffix('.tar')}.{extension}"
            move(part_path(workspace.folder, number, extension), os.path.join(workspace.destination, name), None)
    write_ledger(workspace, rejected_lines(source), len(accounts), os.path.join(workspace.destination, LEDGER_NAME))
    counts = count(source, accounts)
    classes = tuple(printable(name) for name in source.classes)
    return write_manifest(
        workspace,
        columns,
        shards=shards,
        classes=classes,
        extras=source.extras,
        counts=counts,
        conversion=conversion,
        fields=source.fields,
    )


def write_manifest(
    workspace: Workspace,
    columns: Mapping[str, Any],
    *,
    shards: Sequence[Shard],
    classes: Sequence[str],
    extras: Sequence[str],
    counts: Counts,
    conversion: Mapping[str, Any],
    fields: Mapping[str, str] = MappingProxyType({}),
) -> Manifest:
    """Writes index.arrow from its columns and then, when all else is in place, dataset.json."""
    temporary = os.path.join(workspace.folder, INDEX_NAME)
    write_index(temporary, columns, extras)
    index = Index(name=INDEX_NAME, size=os.stat(temporary).st_size, crc32=crc32_of_file(temporary))
    os.replace(temporary, os.path.join(workspace.destination, INDEX_NAME))
    # Classes may be those of boxes alone, and then no sample has a label of its own.
    labelled = bool(classes) and ("labels" not in fields.values() or bool((np.asarray(columns["label"]) >= 0).any()))
    schema = {"image": "image"} | ({"label": "label"} if labelled else {})
    schema |= {extension: "bytes" for extension in extras} | dict(fields) | schema
    manifest = Manifest(
        format="fastload",
        version=1,
        schema=schema,
        classes=tuple(classes),
        samples=counts.written,
        fingerprint=fingerprint_of(classes, schema, columns, extras),
        index=index,
        shards=tuple(shards),
        extras=tuple(extras),
        counts=counts,
        conversion=dict(conversion),
    )
    sync_folder(workspace.destination)
    temporary = os.path.join(workspace.folder, MANIFEST_NAME)
    write_durably(temporary, dump_manifest(manifest))
    os.replace(temporary, os.path.join(workspace.destination, MANIFEST_NAME))
    sync_folder(workspace.destination)
    return manifest


def _columns(
    workspace: Workspace, accounts: Mapping[int, PartAccount], numbers: Sequence[int], extras: Sequence[str]
) -> dict[str, Any]:
    batches = [
        map_batch(part_path(workspace.folder, number, "arrow"), extras, accounts[number].samples) for number in numbers
    ]
    columns: dict[str, Any] = {
        name: pa.concat_arrays([batch.column(name) for batch in batches]) for name in index_schema(extras).names
    }
    samples = [accounts[number].samples for number in numbers]
    columns["shard"] = pa.array(np.repeat(np.arange(len(numbers), dtype=np.int32), samples))
    return columns


def move(part: str, final: str, size: int | None) -> None:
    """Renames a file of a part, unless an interrupted run has done so already."""
    if os.path.exists(part):
        os.replace(part, final)
    elif not os.path.exists(final) or (size is not None and os.stat(final).st_size != size):
        raise DataError(
            "a finished part of this conversion has vanished; remove the destination and convert again", path=part
        )


def count(source: Source, accounts: Mapping[int, PartAccount]) -> Counts:
    """The account of a conversion from those of its parts."""
    return Counts(
        found=len(source) + len(source.rejected),
        written=sum(account.samples for account in accounts.values()),
        skipped=len(source.rejected) + sum(account.skipped for account in accounts.values()),
        reencoded=sum(account.reencoded for account in accounts.values()),
        retiled=sum(account.retiled for account in accounts.values()),
    )


def rejected_lines(source: Source) -> list[str]:
    """The lines of the ledger for what the source itself rejects."""
    return [ledger_line(name, "skipped", reason) for name, reason in source.rejected]


def write_ledger(workspace: Workspace, first: Sequence[str], num_parts: int, path: str) -> None:
    """conversion.jsonl, under whatever name: what the source itself rejects (``first``), then the parts in order."""
    temporary = os.path.join(workspace.folder, LEDGER_NAME)
    with open(temporary, "wb") as ledger:
        for line in first:
            ledger.write(line.encode("ascii"))
        for number in range(num_parts):
            with open(part_path(workspace.folder, number, "jsonl"), "rb") as lines:
                ledger.write(lines.read())
        ledger.flush()
        os.fsync(ledger.fileno())
    os.replace(temporary, path)


def fingerprint_of(
    classes: Sequence[str], schema: Mapping[str, str], columns: Mapping[str, Any], extras: Sequence[str]
) -> str:
    """Digest of the samples, their order and their bytes (by size and crc32); where they lie does not enter."""
    digest = hashlib.sha256(json.dumps([list(classes), dict(schema)]).encode())
    names = ["label", "size", "crc32"]
    for extension in extras:
        names += [f"{extension}:size", f"{extension}:crc32"]
    for name in names:
        digest.update(np.asarray(columns[name]).tobytes())
    return digest.hexdigest()
