"""Pairs of an image and a mask by the same name in two folders, as segmentation is trained on."""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastload.dataset.fields import encode_mask, mask_values
from fastload.dataset.listing import IMAGE_EXTENSIONS
from fastload.errors import DataError
from fastload.remote import shown
from fastload.sources.annotations import list_files
from fastload.sources.base import Item, Source
from fastload.sources.places import FILES_AHEAD, Places, within

MASK: Final = "seg.png"

_IMAGES: Final = "images"
_MASKS: Final = "masks"
# Formats that keep every value; a mask that was a JPEG has lost its own.
_LOSSLESS: Final = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".pgm": "PPM", ".gif": "GIF"}


class MaskPairSource(Source):
    """Images and masks of one channel (8 or 16 bits, or a palette), sorted by name, each mask a member .seg.png.

    A mask belongs to the image of the same path and name, extensions aside. The bytes of PNG masks are kept; other
    lossless formats become PNG. Images without a mask and masks without an image are accounted for as skipped.

    Args:
        path: The folder of images, or one that holds the folders ``images`` and ``masks``; or its URL.
        masks: The folder of masks, or its URL; None where ``path`` holds both.

    Raises:
        DataError: A folder cannot be listed, or there are no pairs.
    """

    kind = "images and masks"
    classes = ()
    extras = (MASK,)
    fields = MappingProxyType({MASK: "mask"})

    def __init__(self, path: str | os.PathLike[str], masks: str | os.PathLike[str] | None = None) -> None:
        self._places = Places()
        self._images = os.fspath(path) if masks is not None else within(os.fspath(path), _IMAGES)
        self._folder = os.fspath(masks) if masks is not None else within(os.fspath(path), _MASKS)
        self.path = shown(self._images)
        images = list_files(self._images, IMAGE_EXTENSIONS, self._places)
        found = list_files(self._folder, tuple(_LOSSLESS), self._places)
        stems = sorted(images.keys() & found.keys())
        if not stems:
            raise DataError(
                f"expected masks with the names of the {len(images):,} images in {shown(self._folder)}, but none of "
                f"its {len(found):,} masks has one of them",
                path=self.path,
            )
        self._names = [images[stem] for stem in stems]
        self._masks = [found[stem] for stem in stems]
        self.rejected = [
            (images[stem], "there is no mask of its name") for stem in sorted(images.keys() - found.keys())
        ]
        self.rejected += [
            (f"mask {found[stem]}", "there is no image of its name") for stem in sorted(found.keys() - images.keys())
        ]
        files = [*map(self._image, range(len(stems))), *map(self._mask, range(len(stems)))]
        sizes = np.fromiter(self._places.sizes(files), np.int64, len(files))
        self._num_bytes = sizes[: len(stems)] + sizes[len(stems) :]

    def __len__(self) -> int:
        return len(self._names)

    def num_bytes(self) -> NDArray[np.int64]:
        return self._num_bytes

    def name(self, number: int) -> str:
        return self._names[number]

    def read(self, number: int) -> Item:
        following = [
            file(later)
            for later in range(number, min(number + FILES_AHEAD // 2, len(self)))
            for file in (self._mask, self._image)
        ]
        mask = self._places.read(self._mask(number), following)
        extension = os.path.splitext(self._masks[number])[1].lower()
        if extension != ".png":
            mask = _as_png(mask, _LOSSLESS[extension])
        return Item(image=self._places.read(self._image(number)), extras={MASK: mask})

    def _image(self, number: int) -> str:
        return within(self._images, self._names[number])

    def _mask(self, number: int) -> str:
        return within(self._folder, self._masks[number])


def is_pair_folder(path: str) -> bool:
    """Whether a folder holds the folders ``images`` and ``masks``."""
    return all(os.path.isdir(os.path.join(path, name)) for name in (_IMAGES, _MASKS))


def are_pair_folders(names: Collection[str]) -> bool:
    """The same of what lies in a folder behind a URL, "/" at the end of names of folders."""
    return {f"{_IMAGES}/", f"{_MASKS}/"} <= set(names)


def _as_png(data: bytes, image_format: str) -> bytes:
    try:
        with Image.open(io.BytesIO(data), formats=[image_format]) as image:
            return encode_mask(mask_values(image))
    except DataError as error:
        raise DataError(f"its mask: {error.reason}") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them raise
        raise DataError(f"its mask cannot be decoded as {image_format}: {error}") from error
