"""What convert can read, one file for each kind of source."""

from __future__ import annotations

from fastload.sources.base import Item, Source
from fastload.sources.image_folder import ImageFolderSource
from fastload.sources.imagenet import ImageNetValSource
from fastload.sources.opening import open_source

__all__ = ["ImageFolderSource", "ImageNetValSource", "Item", "Source", "open_source"]
