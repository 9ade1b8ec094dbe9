"""A data set on disk, opened: tar shards with their index, or a plain folder of images."""

from __future__ import annotations

from fastload.dataset.base import Dataset, Sample
from fastload.dataset.image_folder import ImageFolderDataset
from fastload.dataset.opening import open_dataset
from fastload.dataset.sharded import ShardedDataset, Verify

__all__ = ["Dataset", "ImageFolderDataset", "Sample", "ShardedDataset", "Verify", "open_dataset"]
