"""Pairs of an image and a mask by the same name in two folders, as segmentation is trained on."""

from __future__ import annotations

import io
import os
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastload.dataset.fields import encode_mask, mask_values
from fastload.dataset.listing import IMAGE_EXTENSIONS
from fastload.dataset.reading import read_file
from fastload.errors import DataError
from fastload.sources.annotations import file_size, list_files
from fastload.sources.base import Item, Source

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
        path: The folder of images, or one that holds the folders ``images`` and ``masks``.
        masks: The folder of masks; None where ``path`` holds both.

    Raises:
        DataError: A folder cannot be listed, or there are no pairs.
    """

    kind = "images and masks"
    classes = ()
    extras = (MASK,)
    fields = MappingProxyType({MASK: "mask"})

    def __init__(self, path: str | os.PathLike[str], masks: str | os.PathLike[str] | None = None) -> None:
        self.path = os.fspath(path) if masks is not None else os.path.join(os.fspath(path), _IMAGES)
        self._folder = os.fspath(masks) if masks is not None else os.path.join(os.fspath(path), _MASKS)
        images = list_files(self.path, IMAGE_EXTENSIONS)
        found = list_files(self._folder, tuple(_LOSSLESS))
        stems = sorted(images.keys() & found.keys())
        if not stems:
            raise DataError(
                f"expected masks with the names of the {len(images):,} images in {self._folder}, but none of its "
                f"{len(found):,} masks has one of them",
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
        self._num_bytes = np.fromiter(
            (file_size(self._image(number)) + file_size(self._mask(number)) for number in range(len(self))),
            np.int64,
            len(self),
        )

    def __len__(self) -> int:
        return len(self._names)

    def num_bytes(self) -> NDArray[np.int64]:
        return self._num_bytes

    def name(self, number: int) -> str:
        return self._names[number]

    def read(self, number: int) -> Item:
        mask = read_file(self._mask(number))
        extension = os.path.splitext(self._masks[number])[1].lower()
        if extension != ".png":
            mask = _as_png(mask, _LOSSLESS[extension])
        return Item(image=read_file(self._image(number)), extras={MASK: mask})

    def _image(self, number: int) -> str:
        return os.path.join(self.path, self._names[number])

    def _mask(self, number: int) -> str:
        return os.path.join(self._folder, self._masks[number])


def is_pair_folder(path: str) -> bool:
    """Whether a folder holds the folders ``images`` and ``masks``."""
    return all(os.path.isdir(os.path.join(path, name)) for name in (_IMAGES, _MASKS))


def _as_png(data: bytes, image_format: str) -> bytes:
    try:
        with Image.open(io.BytesIO(data), formats=[image_format]) as image:
            return encode_mask(mask_values(image))
    except DataError as error:
        raise DataError(f"its mask: {error.reason}") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them raise
        raise DataError(f"its mask cannot be decoded as {image_format}: {error}") from error
