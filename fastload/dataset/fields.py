"""Types of the fields of a sample, and what each is in memory: boxes, labels, keypoints and masks as arrays.

``schema`` in dataset.json names them. A field is the image, the label, a further member of the sample (by its
extension: "json", "mask.png") or, if it is none of these, a key of the object in the member "json".

============= ====================================================== ============================================
type          stored as                                              in memory
============= ====================================================== ============================================
``boxes``     JSON, [[x0, y0, x1, y1], ...] in pixels                float32 (n, 4)
``labels``    JSON, [class number, ...], one for each object         int64 (n,)
``areas``     JSON, [square pixels, ...], one for each object        float32 (n,)
``flags``     JSON, [0 or 1, ...], one for each object               bool (n,)
``keypoints`` JSON, [[[x, y, visibility], ...], ...] in pixels       float32 (n, k, 3); (0, 0, 3) where n is 0
``mask``      PNG of one channel, as large as the image              uint8 or uint16 (height, width)
``text``      JSON string or null, or a member in UTF-8              str or None
``number``    JSON number or null, or a member of digits             int, float or None
``json``      an object                                              its keys, each a field; others as JSON gives them
============= ====================================================== ============================================

Pixels are counted from 0 at the left and upper edges of the image; a box ends at its x1 and y1, so that x1 - x0 is its
width. What has another type, or none, stays as it is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastload.errors import DataError


def decode_fields(members: Mapping[str, bytes], schema: Mapping[str, str]) -> dict[str, Any]:
    """The fields of one sample by name, each as its type says.

    Args:
        members: Bytes by extension.
        schema: Type of each field.

    Raises:
        DataError: A field is not what its type says.
    """
    fields: dict[str, Any] = {}
    for name, data in members.items():
        kind = schema.get(name)
        if kind == "mask" and not data:  # a .beton file holds no bytes where a sample has no mask
            continue
        if kind == "json":
            value = parse_json(data, name)
            if isinstance(value, dict):
                fields |= {key: typed(key, item, schema.get(key)) for key, item in value.items()}
            else:
                fields[name] = value
        elif kind == "mask":
            fields[name] = decode_mask(data, name)
        elif kind in ("text", "number"):
            text = _text(data, name)
            fields[name] = text if kind == "text" else typed(name, parse_json(data, name), kind)
        else:
            fields[name] = data
    return fields


def typed(name: str, value: Any, kind: str | None) -> Any:
    """A value from JSON as its type says; unchanged where there is no such type.

    Raises:
        DataError: It is not of this type.
    """
    if kind is None or kind not in _READERS or (value is None and kind in ("text", "number")):
        return value
    try:
        return _READERS[kind](value)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"its field {name!r} is no {kind} ({error}); convert the data again") from error


def parse_json(data: bytes, name: str) -> Any:
    """What a JSON member says.

    Raises:
        DataError: It is no JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"its member {name!r} is no JSON: {error}; restore it") from error


def decode_mask(data: bytes, name: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values of a PNG of one channel (of a palette, their numbers), shape (height, width).

    Raises:
        DataError: It is damaged, no PNG, or has more channels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return mask_values(image)
    except DataError as error:
        raise DataError(f"its mask {name!r}: {error.reason}") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them raise
        raise DataError(f"its mask {name!r} cannot be decoded as PNG: {error}; restore it") from error


def mask_values(image: Image.Image) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values of an opened image of one channel, uint8 or uint16 (height, width).

    Raises:
        DataError: It has more channels, or values that are no whole numbers of up to 16 bits.
    """
    if image.mode in ("1", "L", "P"):
        return np.array(image).astype(np.uint8)
    values: NDArray[Any] = np.array(image) if image.mode.startswith("I") else np.zeros(0)
    if values.ndim != 2 or not 0 <= int(values.min()) <= int(values.max()) <= 0xFFFF:
        raise DataError(f"expected one channel of 8 or 16 bits or a palette, got mode {image.mode}; make it that")
    return values.astype(np.uint16)


def encode_mask(values: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG of one channel that holds these values, uint8 or uint16 (height, width)."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(buffer, "PNG")
    return buffer.getvalue()


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"its member {name!r} is no text in UTF-8; restore it") from error


def _floats(value: Any, *shape: int) -> NDArray[np.float32]:
    """Finite numbers (n, *shape); -1 in ``shape`` stands for any length."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {type(value).__name__}")
    if not value:
        return np.zeros((0, *(max(length, 0) for length in shape)), np.float32)
    numbers = np.asarray(value, np.float64)
    if numbers.ndim != 1 + len(shape) or any(
        length not in (-1, found) for length, found in zip(shape, numbers.shape[1:], strict=True)
    ):
        raise ValueError(
            f"expected {' x '.join(['n', *('k' if length < 0 else str(length) for length in shape)])} numbers"
        )
    if not (np.abs(numbers) < 2**31).all():
        raise ValueError("expected finite numbers")
    return numbers.astype(np.float32)


def _boxes(value: Any) -> NDArray[np.float32]:
    boxes = _floats(value, 4)
    if (boxes[:, :2] > boxes[:, 2:]).any():
        raise ValueError("expected x0 <= x1 and y0 <= y1")
    return boxes


def _whole(value: Any) -> NDArray[np.int64]:
    if not isinstance(value, list) or any(type(item) is not int for item in value):
        raise ValueError("expected a list of whole numbers")
    return np.array(value, np.int64)


def _flags(value: Any) -> NDArray[np.bool_]:
    flags = _whole(value)
    if not ((flags == 0) | (flags == 1)).all():
        raise ValueError("expected 0 or 1")
    return flags.astype(np.bool_)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {type(value).__name__}")
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected a number, got {type(value).__name__}")
    return value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "boxes": _boxes,
    "labels": _whole,
    "areas": _floats,
    "flags": _flags,
    "keypoints": lambda value: _floats(value, -1, 3),
    "text": _string,
    "number": _number,
}

# All types but those of the image and its label.
MEMBER_TYPES: Final = frozenset({*_READERS, "mask", "json"})
