"""Opens whatever data set lies at a path."""

from __future__ import annotations

import os

from fastload.dataset.base import Dataset
from fastload.dataset.beton import BetonDataset
from fastload.dataset.image_folder import ImageFolderDataset
from fastload.dataset.manifest import LEDGER_NAME, MANIFEST_NAME
from fastload.dataset.remote import RemoteShardedDataset, check_cache
from fastload.dataset.remote_beton import RemoteBetonDataset
from fastload.dataset.sharded import ShardedDataset, Verify
from fastload.errors import ConfigError, DataError
from fastload.remote import is_url, local_path, without_query

# Where convert works until it is done; it lies in the destination.
WORK_NAME = ".fastload-convert"


def open_dataset(
    path: str | os.PathLike[str],
    *,
    verify: Verify = "first",
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
) -> Dataset:
    """Opens a converted data set (a folder with dataset.json), a folder of images or a .beton file of FFCV's.

    Args:
        path: The folder or the file; of a converted data set or a .beton file also a URL: http(s), or s3://, gs://,
            hf:// and whatever else fsspec has a driver for (see RemoteShardedDataset and RemoteBetonDataset).
        verify: When a converted data set compares bytes with their crc32: the "first" time that they are read,
            "always" or "never"; behind a URL it is always. Folders of images have no checksums; of .beton files JPEGs
            have, in x.beton.seek.
        cache_dir: Folder that keeps what was fetched from a URL, for this and other processes; None keeps no samples.
            Of no meaning for what lies on this machine.
        cache_bytes: What all files there may take together; None leaves a twentieth of the disk free.

    Raises:
        DataError: There is no data set at ``path``, or a file of it is missing or damaged.
        ConfigError: An argument cannot be used.
        MissingExtraError: A driver for such URLs is not installed.
    """
    check_cache(cache_dir, cache_bytes)
    if is_url(path):
        url = os.fspath(path)
        remote = RemoteBetonDataset if is_beton_url(url) else RemoteShardedDataset
        return remote(url, verify=verify, cache_dir=cache_dir, cache_bytes=cache_bytes)
    folder = local_path(path)
    if verify not in ("first", "always", "never"):
        raise ConfigError(f"verify must be 'first', 'always' or 'never', not {verify!r}")
    if not os.path.exists(folder):
        raise DataError("there is nothing at this path; check it", path=folder)
    if not os.path.isdir(folder):
        return BetonDataset(folder, verify=verify)
    if os.path.lexists(os.path.join(folder, MANIFEST_NAME)):
        return ShardedDataset(folder, verify=verify)
    if os.path.isdir(os.path.join(folder, WORK_NAME)):
        raise DataError(
            "this conversion has not been finished; run the same fastload convert (or index) again to complete it",
            path=folder,
        )
    if os.path.lexists(os.path.join(folder, LEDGER_NAME)) or any(name.endswith(".tar") for name in os.listdir(folder)):
        raise DataError(
            f"expected {MANIFEST_NAME} beside the shards, but it is missing; restore it, or make one for the shards "
            f"with fastload index {folder}",
            path=folder,
        )
    return ImageFolderDataset(folder)


def is_beton_url(url: str) -> bool:
    """Whether a URL is that of a .beton file, and not of a data set's folder."""
    return without_query(url).lower().endswith(".beton")
