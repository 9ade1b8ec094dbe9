"""A data set on disk, opened: tar shards with their index, a plain folder of images, or a .beton file."""

from __future__ import annotations

from fastload.dataset.base import Dataset, Sample
from fastload.dataset.beton import BetonDataset
from fastload.dataset.image_folder import ImageFolderDataset
from fastload.dataset.opening import open_dataset
from fastload.dataset.remote import RemoteShardedDataset
from fastload.dataset.remote_beton import RemoteBetonDataset
from fastload.dataset.sharded import ShardedDataset, Verify

__all__ = [
    "BetonDataset",
    "Dataset",
    "ImageFolderDataset",
    "RemoteBetonDataset",
    "RemoteShardedDataset",
    "Sample",
    "ShardedDataset",
    "Verify",
    "open_dataset",
]
