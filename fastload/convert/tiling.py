"""Rewrites a JPEG with restart tiles, and keeps the result only if libjpeg-turbo shows the very same pixels."""

from __future__ import annotations

import numpy as np
import simplejpeg

from fastload.errors import DataError
from fastload.jpeg.recode.tiles import retile


def with_tiles(image: bytes, *, grey: bool) -> tuple[bytes, str]:
    """The file with tiles and ""; or the file as it was, and why it cannot have any.

    Proving it by two whole decodes takes 2.2 of 5.5 ms for 110 KB.

    Args:
        image: A JPEG file for which libjpeg-turbo has no warning.
        grey: Whether it has one component.
    """
    try:
        tiled = retile(image)
        space = "GRAY" if grey else "RGB"
        before, after = (simplejpeg.decode_jpeg(data, space, strict=True) for data in (image, tiled))
    except (DataError, ValueError) as error:
        return image, error.reason if isinstance(error, DataError) else f"libjpeg-turbo says: {error}"
    if not np.array_equal(before, after):
        return image, "libjpeg-turbo shows other pixels when it is rewritten"
    return tiled, ""
