"""Finds out which kind of source lies at a path."""

from __future__ import annotations

import os

from fastload.errors import DataError
from fastload.sources.base import Source
from fastload.sources.image_folder import ImageFolderSource
from fastload.sources.imagenet import ImageNetValSource, find_validation_labels


def open_source(path: str | os.PathLike[str]) -> Source:
    """Opens what convert is to read.

    Raises:
        DataError: There is nothing at ``path`` that convert reads.
    """
    place = os.fspath(path)
    if not os.path.exists(place):
        raise DataError("there is nothing at this path; check it", path=place)
    if not os.path.isdir(place):
        raise DataError("expected a folder of class folders with images, but this is a file", path=place)
    labels = find_validation_labels(place)
    return ImageFolderSource(place) if labels is None else ImageNetValSource(place, labels)
