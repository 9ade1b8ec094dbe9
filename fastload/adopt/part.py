"""What is known of one foreign shard, kept on the disk while others are still indexed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from fastload.adopt.reading import Row
from fastload.convert.part import ledger_line, part_path, write_durably
from fastload.dataset.index import index_schema, map_batch, number_columns, write_index
from fastload.dataset.listing import printable
from fastload.jpeg.seek_file import write_seek_file
from fastload.sources.tar_samples import check_extras


@dataclass(frozen=True, kw_only=True)
class ShardAccount:
    """What a finished shard holds; written last, so that its file says that the others are complete.

    Attributes:
        samples, skipped: Rows, and what was skipped.
        indexed: Rows with a seek index.
        labelled: Rows with a label.
        classes: Largest label plus one.
        size, crc32: Of the tar.
        extras: Suffixes of the further members of its samples, sorted.
    """

    samples: int
    skipped: int
    indexed: int
    labelled: int
    classes: int
    size: int
    crc32: int
    extras: tuple[str, ...]


@dataclass
class ShardNotes:
    """What is gathered of one shard, in the order of its samples.

    Attributes:
        shard: File name of the tar.
        rows: Its samples.
        ledger: Lines of conversion.jsonl.
        skipped: How many of these lines say "skipped".
        reasons: The first three of these as sentences.
    """

    shard: str
    rows: list[Row] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)

    def skip(self, key: str | None, name: str, reason: str) -> None:
        """Enters what cannot be a sample."""
        source = f"{self.shard}/{name}" if name else self.shard
        self.ledger.append(ledger_line(source, "skipped", reason, key=key))
        self.skipped += 1
        if len(self.reasons) < 3:
            self.reasons.append(f"{printable(source)}: {reason}")

    def ignore(self, name: str) -> None:
        """Enters a member that WebDataset passes over."""
        self.ledger.append(
            ledger_line(f"{self.shard}/{name}", "ignored", "its name has no key and ending as samples have")
        )

    def finish(self, folder: str, number: int, size: int, crc32: int) -> ShardAccount:
        """Writes the files of part ``number`` into the work folder."""
        extras = tuple(sorted({suffix for row in self.rows for suffix in row.extras}))
        check_extras(extras, self.shard)
        write_index(part_path(folder, number, "arrow"), self._columns(extras), extras)
        seek = [row.seek for row in self.rows]
        write_seek_file(part_path(folder, number, "seek"), seek, [row.crc32 for row in self.rows])
        write_durably(part_path(folder, number, "jsonl"), "".join(self.ledger).encode("ascii"))
        account = ShardAccount(
            samples=len(self.rows),
            skipped=self.skipped,
            indexed=sum(1 for index in seek if index),
            labelled=sum(1 for row in self.rows if row.label >= 0),
            classes=max((row.label + 1 for row in self.rows), default=0),
            size=size,
            crc32=crc32,
            extras=extras,
        )
        write_durably(part_path(folder, number, "json"), json.dumps(asdict(account)).encode())
        return account

    def _columns(self, extras: Sequence[str]) -> dict[str, list[Any]]:
        names = ("offset", "size", "width", "height", "label", "crc32", "key")
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in self.rows] for name in names}
        columns["shard"] = [0] * len(self.rows)
        columns["source"] = [printable(f"{self.shard}/{row.name}") for row in self.rows]
        for suffix in extras:
            places = [row.extras.get(suffix, (0, 0, 0)) for row in self.rows]
            for i, name in enumerate(("offset", "size", "crc32")):
                columns[f"{suffix}:{name}"] = [place[i] for place in places]
        return columns


def read_account(folder: str, number: int) -> ShardAccount | None:
    """The account of a part that an earlier run finished; None if there is none."""
    try:
        with open(part_path(folder, number, "json"), "rb") as file:
            values = json.loads(file.read())
        numbers = {field.name: int(values[field.name]) for field in fields(ShardAccount) if field.name != "extras"}
        return ShardAccount(**numbers, extras=tuple(str(name) for name in values["extras"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_columns(folder: str, accounts: dict[int, ShardAccount], extras: Sequence[str]) -> dict[str, Any]:
    """The columns of the whole index; shards without samples have no number in it."""
    batches = [
        (account, map_batch(part_path(folder, number, "arrow"), account.extras, account.samples))
        for number, account in sorted(accounts.items())
        if account.samples
    ]
    types = dict(number_columns(extras))
    columns: dict[str, Any] = {}
    for name in index_schema(extras).names:
        suffix = name.rpartition(":")[0]
        columns[name] = pa.concat_arrays(
            [
                pa.array(np.zeros(account.samples, types[name]))
                if suffix and suffix not in account.extras
                else batch.column(name)
                for account, batch in batches
            ]
        )
    samples = [account.samples for account, _ in batches]
    columns["shard"] = pa.array(np.repeat(np.arange(len(samples), dtype=np.int32), samples))
    return columns
