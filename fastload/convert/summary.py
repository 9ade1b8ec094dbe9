"""The account that convert gives when it is done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from fastload.dataset.beton_notes import Notes
from fastload.dataset.manifest import LEDGER_NAME, Counts, Manifest

_LISTED: Final = 20


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What a conversion found and wrote; found = written + skipped.

    Attributes:
        path: The data set.
        found, written, skipped: Images of the source, and what became of them.
        reencoded: Written images whose pixels were encoded anew.
        retiled: Written images that were rewritten without loss with restart tiles.
        shards: Tar files, or 1 for a .beton file.
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
    retiled: int
    shards: int
    num_bytes: int
    classes: int
    skips: tuple[tuple[str, str], ...]
    ledger: str
    already_done: bool


def summarise(destination: str, manifest: Manifest, *, already_done: bool) -> ConvertSummary:
    """The account of a finished data set."""
    sizes = [shard.size for shard in manifest.shards]
    ledger = os.path.join(destination, LEDGER_NAME)
    return _summary(destination, ledger, manifest.counts, sizes, len(manifest.classes), already_done)


def summarise_beton(path: str, notes: Notes, *, already_done: bool) -> ConvertSummary:
    """The account of a finished .beton file."""
    return _summary(path, f"{path}.jsonl", notes.counts, [notes.size], len(notes.classes), already_done)


def _summary(
    path: str, ledger: str, counts: Counts, sizes: list[int], classes: int, already_done: bool
) -> ConvertSummary:
    return ConvertSummary(
        path=path,
        found=counts.found,
        written=counts.written,
        skipped=counts.skipped,
        reencoded=counts.reencoded,
        retiled=counts.retiled,
        shards=len(sizes),
        num_bytes=sum(sizes),
        classes=classes,
        skips=first_skips(ledger) if counts.skipped else (),
        ledger=ledger,
        already_done=already_done,
    )


def first_skips(ledger: str) -> tuple[tuple[str, str], ...]:
    """Names and reasons of the first 20 that a ledger lists as skipped."""
    return tuple(islice(_skips(ledger), _LISTED))


def first_skipped(summary: ConvertSummary) -> tuple[str, str]:
    """Name and reason of the first image that the ledger of a data set lists as skipped."""
    return next(_skips(summary.ledger), ("", "the ledger conversion.jsonl is missing or damaged"))


def _skips(path: str) -> Iterator[tuple[str, str]]:
    try:
        with open(path, encoding="ascii") as ledger:
            for line in ledger:
                entry: dict[str, Any] = json.loads(line)
                if entry.get("action") == "skipped":
                    yield str(entry.get("source")), str(entry.get("reason"))
    except (OSError, ValueError):
        return
