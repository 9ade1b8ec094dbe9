"""index.arrow from the tars' content, proven by the fingerprint that dataset.json has of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa

from fastload.adopt.part import read_columns
from fastload.adopt.run import Survey
from fastload.convert.publish import fingerprint_of
from fastload.convert.workspace import Workspace
from fastload.dataset.index import crc32_of_file
from fastload.dataset.manifest import Manifest
from fastload.errors import ConfigError, DataError
from fastload.verify.ledger import read_ledger
from fastload.verify.tars import choice_of


def rebuild_columns(workspace: Workspace, manifest: Manifest, workers: int) -> dict[str, Any]:
    """The columns of a new index.arrow.

    Where convert wrote the tars, the names of the files that samples were made of are lost with the index: the column
    "source" then names members of the tar.

    Raises:
        DataError: A shard is not as dataset.json says, or the tars hold other samples than it says.
    """
    folder = workspace.destination
    paths = [os.path.join(folder, shard.name) for shard in manifest.shards]
    for path, shard in zip(paths, manifest.shards, strict=True):
        size = os.stat(path).st_size if os.path.exists(path) else -1
        if size != shard.size or crc32_of_file(path) != shard.crc32:
            raise DataError("only sound shards say what has to be in it, and this one is not", path=path)
    try:
        accounts = Survey(workspace, paths, choice_of(manifest), workers, False, None).accounts()
    except ConfigError as error:
        raise DataError(str(error)) from error
    columns = read_columns(workspace.folder, accounts, manifest.extras)
    keep = _kept(manifest, folder, columns)
    if not keep.all():
        columns = {name: pa.array(column).filter(pa.array(keep)) for name, column in columns.items()}
    found = np.bincount(np.asarray(columns["shard"]), minlength=len(paths)).tolist()
    if found != [shard.samples for shard in manifest.shards]:
        raise DataError(f"the tars hold {sum(found):,} samples, dataset.json says {manifest.samples:,}")
    if fingerprint_of(manifest.classes, manifest.schema_, columns, manifest.extras) != manifest.fingerprint:
        raise DataError("the tars hold other samples than dataset.json says: their fingerprints differ")
    return columns


def _kept(manifest: Manifest, folder: str, columns: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which samples of the tars an earlier repair has left in the index."""
    dropped = {(str(entry.get("shard")), str(entry.get("key"))) for entry in read_ledger(folder) if _is_drop(entry)}
    names = [manifest.shards[number].name for number in np.asarray(columns["shard"]).tolist()]
    keys = columns["key"].to_pylist()
    return np.array([pair not in dropped for pair in zip(names, keys, strict=True)], bool)


def _is_drop(entry: dict[str, Any]) -> bool:
    return bool(entry["action"] == "dropped")
