"""Makes the annotations of a sample fit its image as it is stored, and proves that they belong to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastload.convert.transcode import Transcoded
from fastload.dataset.fields import decode_mask, encode_mask, parse_json, typed
from fastload.errors import DataError
from fastload.sources import Item

_DECIMALS = 4  # of a pixel


def fit_members(item: Item, fields: Mapping[str, str], image: Transcoded) -> Mapping[str, bytes]:
    """The further members of a sample; boxes, areas, keypoints and masks made smaller as its image was.

    Every mask is decoded. Where the image keeps its size, the bytes of all members are kept. A smaller mask takes the
    value nearest to the centre of each of its pixels.

    Args:
        item: What the source holds.
        fields: Types of the source's fields.
        image: What becomes of its image.

    Raises:
        DataError: Mask or annotations are for an image of another size, or damaged.
    """
    if item.size is not None and item.size != image.original:
        raise DataError(
            f"its annotations are for {_words(item.size)} pixels, but the image has {_words(image.original)}"
        )
    members = dict(item.extras)
    shrunk = (image.height, image.width) != image.original
    for name, data in item.extras.items():
        kind = fields.get(name)
        if kind == "mask":
            values = decode_mask(data, name)
            if values.shape != image.original:
                raise DataError(
                    f"its mask has {_words(values.shape)} pixels, but the image has {_words(image.original)}"
                )
            if shrunk:
                rows, columns = (_nearest(old, new) for old, new in _lengths(image))
                members[name] = encode_mask(values[rows[:, None], columns])
        elif kind == "json" and shrunk:
            members[name] = _shrink_json(parse_json(data, name), fields, image)
    return members


def _shrink_json(value: Any, fields: Mapping[str, str], image: Transcoded) -> bytes:
    (height, new_height), (width, new_width) = _lengths(image)
    y, x = new_height / height, new_width / width
    factors = {"boxes": np.array([x, y, x, y]), "areas": np.array(x * y), "keypoints": np.array([x, y, 1.0])}
    if isinstance(value, dict):
        for name, item in value.items():
            factor = factors.get(fields.get(name, ""))
            if factor is not None:
                typed(name, item, fields[name])  # its shape
                value[name] = (np.asarray(item, np.float64) * factor).round(_DECIMALS).tolist() if item else item
    return json.dumps(value).encode("ascii")


def _lengths(image: Transcoded) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width, each before and after."""
    return (image.original[0], image.height), (image.original[1], image.width)


def _nearest(old: int, new: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which of ``old`` pixels holds the centre of each of ``new``."""
    return (2 * np.arange(new, dtype=np.int64) + 1) * old // (2 * new)


def _words(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"
