"""conversion.jsonl: whether its lines can be read and are enough, and what a repair adds to them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastload.convert.part import ledger_line, write_durably
from fastload.dataset.manifest import LEDGER_NAME, Manifest
from fastload.dataset.reading import open_regular
from fastload.errors import DataError
from fastload.verify.report import Finding

# Names and reasons are short; a longer line is not one of ours.
_LONGEST_LINE: Final = 1 << 20
# What "skipped" counts in dataset.json.
LOST: Final = ("skipped", "dropped")
# What a repair leaves where lines could not be read.
INCOMPLETE: Final = "incomplete"


def check_ledger(path: str, manifest: Manifest) -> list[Finding]:
    """What is off about the ledger of a data set."""
    lost, known = 0, True
    try:
        for entry in read_ledger(path):
            lost += entry["action"] in LOST
            known &= entry["action"] != INCOMPLETE
    except DataError as error:
        return [Finding(kind="ledger", file=LEDGER_NAME, reason=error.reason)]
    if lost < manifest.counts.skipped and known:
        reason = f"expected {manifest.counts.skipped:,} entries of what was skipped, found {lost:,}; restore the file"
        return [Finding(kind="ledger", file=LEDGER_NAME, reason=reason)]
    return []


def mend_ledger(path: str) -> str:
    """Writes a ledger of the lines that can be read, and one that says that others are lost; returns what it says."""
    sound, damaged = [], 0
    with contextlib.suppress(DataError):  # missing: all of its lines are
        for line in _lines(path):
            if _entry(line) is None:
                damaged += 1
            else:
                sound.append(line.rstrip(b"\n") + b"\n")
    reason = f"{damaged:,} lines could not be read" if damaged else "lines are missing"
    note = ledger_line(LEDGER_NAME, INCOMPLETE, f"{reason}; what they said is lost")
    write_durably(os.path.join(path, LEDGER_NAME), b"".join([*sound, note.encode("ascii")]))
    return reason


def read_ledger(path: str) -> Iterator[dict[str, Any]]:
    """The entries of a ledger, each an object with an action.

    Raises:
        DataError: The file is missing, or a line is not what it should be.
    """
    for number, line in enumerate(_lines(path), 1):
        entry = _entry(line)
        if entry is None:
            raise DataError(f"line {number:,} is damaged: expected an object with key, source, action and reason")
        yield entry


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("action"), str) else None


def _lines(path: str) -> Iterator[bytes]:
    descriptor, _ = open_regular(os.path.join(path, LEDGER_NAME))
    with open(descriptor, "rb") as file:
        while line := file.readline(_LONGEST_LINE):
            yield line


def extend_ledger(path: str, lines: Sequence[str]) -> None:
    """Adds lines in one step, each of them once however often a repair is begun."""
    target = os.path.join(path, LEDGER_NAME)
    try:
        with open(target, "rb") as file:
            before = file.read()
    except FileNotFoundError:
        before = b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    known = {_identity(line) for line in before.splitlines()}
    added = b"".join(line.encode("ascii") for line in lines if _identity(line.encode("ascii")) not in known)
    if added:
        write_durably(target, before + added)


def _identity(line: bytes) -> str:
    """What makes a line the same as one of a repair that was killed, which may have seen another reason."""
    entry = _entry(line)
    if entry is None:
        return ""
    names = ("action", "key", "source", "shard") if entry.get("key") is not None else ("action", "source", "reason")
    return json.dumps([entry.get(name) for name in names])
