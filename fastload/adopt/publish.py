"""Turns what is known of foreign shards into the files of a data set, dataset.json last."""

from __future__ import annotations

import os
from typing import Any

from fastload.adopt.part import ShardAccount, read_columns
from fastload.convert.part import part_path
from fastload.convert.publish import move, write_ledger, write_manifest
from fastload.convert.workspace import Workspace
from fastload.dataset.manifest import LEDGER_NAME, Counts, Manifest, Shard
from fastload.dataset.seek import seek_path
from fastload.errors import DataError
from fastload.sources.tar_samples import check_extras


def publish(
    workspace: Workspace,
    paths: list[str],
    accounts: dict[int, ShardAccount],
    conversion: dict[str, Any],
    *,
    linked: bool,
) -> Manifest:
    """Gives every file its final name, dataset.json last; may be interrupted anywhere and called again."""
    numbers = [number for number in sorted(accounts) if accounts[number].samples]
    extras = sorted({suffix for account in accounts.values() for suffix in account.extras})
    check_extras(extras, workspace.destination)
    columns = read_columns(workspace.folder, accounts, extras)
    shards = []
    for number in numbers:
        account, name = accounts[number], os.path.basename(paths[number])
        shards.append(Shard(name=name, size=account.size, samples=account.samples, crc32=account.crc32))
        place = os.path.join(workspace.destination, name)
        if linked:
            _link(paths[number], place)
        move(part_path(workspace.folder, number, "seek"), seek_path(place), None)
    write_ledger(workspace, [], len(paths), os.path.join(workspace.destination, LEDGER_NAME))
    skipped = sum(account.skipped for account in accounts.values())
    written = sum(account.samples for account in accounts.values())
    num_classes = max(account.classes for account in accounts.values())
    return write_manifest(
        workspace,
        columns,
        shards=shards,
        classes=[str(number) for number in range(num_classes)],
        extras=extras,
        counts=Counts(found=written + skipped, written=written, skipped=skipped, reencoded=0),
        conversion=conversion,
    )


def _link(path: str, place: str) -> None:
    if os.path.exists(place) and os.path.samefile(path, place):
        return
    if os.path.lexists(place):
        raise DataError("another file lies where the link to a shard should be; choose another folder", path=place)
    os.symlink(os.path.abspath(path), place)
