"""Shards that lie under the wrong names, and how they get their own back: size and crc32 prove whose they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastload.convert.part import sync_folder
from fastload.dataset.index import crc32_of_file
from fastload.dataset.manifest import Manifest
from fastload.verify.report import Finding

# Between two names. What a repair that was killed left under such a name, the next one finds by its checksum.
_MOVED: Final = ".moved"


@dataclass(frozen=True, kw_only=True)
class Move:
    """A file of the data set that is to have another name.

    Attributes:
        file: Its name now.
        name: The name that dataset.json has for it; where another file has that already, a name beside it.
        reason: One sentence for the ledger.
    """

    file: str
    name: str
    reason: str


def plan_names(path: str, manifest: Manifest, findings: Sequence[Finding]) -> list[Move]:
    """What has to be renamed so that every tar that dataset.json vouches for has its own name.

    Looked at are the shards that verify found missing or to be another one, and files that the data set does not name.

    Raises:
        OSError: A file cannot be read.
    """
    suspects = {finding.file for finding in findings if finding.kind in ("name", "shard")}
    wanted = {shard.name: (shard.size, shard.crc32) for shard in manifest.shards if shard.name in suspects}
    sizes = {size for size, _ in wanted.values()}
    owner_of = {(shard.size, shard.crc32): shard.name for shard in manifest.shards}
    named = {shard.name for shard in manifest.shards}
    moves: list[Move] = []
    taken: set[str] = set()
    # The shards first: a stranger may be a copy of one of them.
    candidates = sorted(name for name in os.listdir(path) if name in wanted or (name not in named and wanted))
    for file in sorted(candidates, key=lambda name: name not in wanted):
        size = _size(os.path.join(path, file))
        if size is None or (file not in wanted and size not in sizes):
            continue
        identity = size, crc32_of_file(os.path.join(path, file))
        if identity == wanted.get(file):
            taken.add(file)
            continue
        owner = next((name for name, each in wanted.items() if each == identity and name not in taken), None)
        if owner is not None and not _is_whole(path, owner, identity):
            taken.add(owner)
            reason = "it lay here under another name, as size and crc32 prove"
            moves.append(Move(file=file, name=owner, reason=reason))
        elif file in wanted and identity in owner_of:
            reason = f"{file} was a copy of {owner_of[identity]}, which is kept under this name"
            moves.append(Move(file=file, name=_free(path, f"{file}.copy"), reason=reason))
    return moves


def give_names(path: str, moves: Sequence[Move]) -> None:
    """Renames the files, two and more of them in a ring if need be; nothing is overwritten, nothing removed.

    May be killed at any moment: every file then has its old name, its new one, or one that ends in ".moved".

    Raises:
        OSError: The folder cannot be written to.
    """
    for move in moves:
        os.rename(os.path.join(path, move.file), os.path.join(path, move.name + _MOVED))
    for move in moves:
        target = os.path.join(path, move.name)
        if os.path.lexists(target):  # damaged, of no use to any shard, and perhaps to its owner
            os.rename(target, os.path.join(path, _free(path, f"{move.name}.damaged")))
        os.rename(target + _MOVED, target)
    sync_folder(path)


def _is_whole(path: str, name: str, identity: tuple[int, int]) -> bool:
    file = os.path.join(path, name)
    return _size(file) == identity[0] and crc32_of_file(file) == identity[1]


def _size(file: str) -> int | None:
    """Size of a regular file (or of one that a link leads to); None for anything else."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _free(path: str, name: str) -> str:
    found, number = name, 1
    while os.path.lexists(os.path.join(path, found)):
        number += 1
        found = f"{name}{number}"
    return found
