"""The account that convert gives when it is done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from fastload.dataset.manifest import LEDGER_NAME, Manifest

_LISTED: Final = 20


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What a conversion found and wrote; found = written + skipped.

    Attributes:
        path: The data set.
        found, written, skipped: Images of the source, and what became of them.
        reencoded: Written images that are not the bytes of the source.
        shards: Tar files.
        num_bytes: Their size, all together.
        classes: How many classes there are.
        skips: The first 20 skipped images as (source, reason); all are in the ledger.
        ledger: Path of conversion.jsonl.
        already_done: Whether an earlier run had finished and this one did nothing.
    """

    path: str
    found: int
    written: int
    skipped: int
    reencoded: int
    shards: int
    num_bytes: int
    classes: int
    skips: tuple[tuple[str, str], ...]
    ledger: str
    already_done: bool


def summarise(destination: str, manifest: Manifest, *, already_done: bool) -> ConvertSummary:
    """The account of a finished data set."""
    return ConvertSummary(
        path=destination,
        found=manifest.counts.found,
        written=manifest.counts.written,
        skipped=manifest.counts.skipped,
        reencoded=manifest.counts.reencoded,
        shards=len(manifest.shards),
        num_bytes=sum(shard.size for shard in manifest.shards),
        classes=len(manifest.classes),
        skips=first_skips(destination) if manifest.counts.skipped else (),
        ledger=os.path.join(destination, LEDGER_NAME),
        already_done=already_done,
    )


def first_skips(destination: str) -> tuple[tuple[str, str], ...]:
    """Names and reasons of the first 20 that the ledger of a data set lists as skipped."""
    return tuple(islice(_skips(destination), _LISTED))


def first_skipped(destination: str) -> tuple[str, str]:
    """Name and reason of the first image that the ledger of a data set lists as skipped."""
    return next(_skips(destination), ("", "the ledger conversion.jsonl is missing or damaged"))


def _skips(destination: str) -> Iterator[tuple[str, str]]:
    try:
        with open(os.path.join(destination, LEDGER_NAME), encoding="ascii") as ledger:
            for line in ledger:
                entry: dict[str, Any] = json.loads(line)
                if entry.get("action") == "skipped":
                    yield str(entry.get("source")), str(entry.get("reason"))
    except (OSError, ValueError):
        return
