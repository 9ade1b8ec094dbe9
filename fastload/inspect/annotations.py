"""Boxes, masks and keypoints of a sample, from whatever members it has; nothing in them is trusted."""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MOST_BYTES: Final = 16 << 20
# What is looked at in one sample.
_MOST: Final = 10_000
_FARTHEST: Final = 1e6
PNG: Final = b"\x89PNG"
_BOX_LABELS: Final = ("box_labels", "labels", "classes", "categories", "category_ids")


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What can be drawn over an image, in its pixels.

    Attributes:
        boxes: Left, top, right, bottom of each.
        names: What stands at each box; as many as boxes, empty where nothing does.
        points: x, y of each keypoint that is visible.
        masks: uint8 height x width each, 0 where nothing is marked.
    """

    boxes: tuple[tuple[float, float, float, float], ...] = ()
    names: tuple[str, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    masks: tuple[NDArray[np.uint8], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.boxes or self.points or self.masks)


def read_annotations(
    members: Mapping[str, bytes], *, height: int, width: int, schema: Mapping[str, str], classes: tuple[str, ...]
) -> Annotations:
    """What the members of a sample say of an image of these pixels; members that say nothing sensible are passed over.

    JSON members are read for ``boxes`` (XYXY in pixels), their labels and ``keypoints`` (x, y or x, y, visibility);
    PNG members of the image's size are masks.
    """
    boxes: list[tuple[float, float, float, float]] = []
    names: list[str] = []
    points: list[tuple[float, float]] = []
    masks: list[NDArray[np.uint8]] = []
    for name, data in members.items():
        if len(data) > _MOST_BYTES:
            continue
        if data[:4] == PNG:
            mask = _mask(data, height, width)
            masks += [] if mask is None else [mask]
        elif name.endswith("json") or schema.get(name) == "json":
            content = _json(data)
            found = _boxes(content)
            boxes += found
            names += _names(content, len(found), classes)
            points += _points(content.get("keypoints"))
    return Annotations(
        boxes=tuple(boxes[:_MOST]), names=tuple(names[:_MOST]), points=tuple(points[:_MOST]), masks=tuple(masks[:8])
    )


def _json(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _numbers(value: Any) -> list[float]:
    """A list of finite numbers; empty if it is anything else."""
    if not isinstance(value, list):
        return []
    good = [isinstance(item, int | float) and not isinstance(item, bool) and abs(item) < _FARTHEST for item in value]
    return [float(item) for item in value] if all(good) else []


def _boxes(content: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    value = content.get("boxes")
    rows = [_numbers(row) for row in value[:_MOST]] if isinstance(value, list) else []
    if not all(len(row) == 4 for row in rows):
        return []
    return [(left, top, right, bottom) for left, top, right, bottom in rows]


def _names(content: dict[str, Any], wanted: int, classes: tuple[str, ...]) -> list[str]:
    for field in _BOX_LABELS:
        value = content.get(field)
        if isinstance(value, list) and len(value) >= wanted:
            return [_name(item, classes) for item in value[:wanted]]
    return [""] * wanted


def _name(item: Any, classes: tuple[str, ...]) -> str:
    if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(classes):
        return classes[item]
    return str(item)[:40] if isinstance(item, int | str) else ""


def _points(value: Any) -> list[tuple[float, float]]:
    """Keypoints in any nesting of lists: [x, y], [x, y, visible], or COCO's flat [x, y, visible, x, y, visible ...]."""
    if not isinstance(value, list):
        return []
    flat = _numbers(value)
    if not flat:
        nested = [point for item in value[:_MOST] if isinstance(item, list) for point in _points(item)]
        return nested[:_MOST]
    if len(flat) == 2:
        return [(flat[0], flat[1])]
    triples = zip(flat[0::3], flat[1::3], flat[2::3], strict=False)
    return [(x, y) for x, y, visible in triples if visible > 0 and math.isfinite(x + y)]


def _mask(data: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
    """A PNG of the image's own size, with one number for each pixel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                if image.size != (width, height) or image.mode not in ("1", "L", "P", "I", "I;16"):
                    return None
                values = np.asarray(image).astype(np.int64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    # 255 and its like mean "ignore" in many sets, and are marked as any other number is.
    return np.where(values > 0, (values - 1) % 255 + 1, 0).astype(np.uint8)
