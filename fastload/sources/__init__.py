"""What convert can read, one file for each kind of source."""

from __future__ import annotations

from fastload.sources.base import Item, Source
from fastload.sources.coco import CocoSource
from fastload.sources.image_folder import ImageFolderSource
from fastload.sources.imagenet import ImageNetValSource
from fastload.sources.mask_pairs import MaskPairSource
from fastload.sources.merged import MergedSource
from fastload.sources.opening import Paths, given_paths, open_source
from fastload.sources.parquet import ParquetSource
from fastload.sources.stored import DatasetSource
from fastload.sources.table import TableSource
from fastload.sources.tar_shards import TarSource
from fastload.sources.voc import VocSource

__all__ = [
    "CocoSource",
    "DatasetSource",
    "ImageFolderSource",
    "ImageNetValSource",
    "Item",
    "MaskPairSource",
    "MergedSource",
    "ParquetSource",
    "Paths",
    "Source",
    "TableSource",
    "TarSource",
    "VocSource",
    "given_paths",
    "open_source",
]
