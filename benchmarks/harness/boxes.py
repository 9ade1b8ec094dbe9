"""Whether the boxes of a batch are boxes, and those of the right photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Pixels of the output. Rounding of whole pixels is allowed, a box of another image or one that was not mirrored is not.
_TOLERANCE = 0.51


def fault_of_targets(targets: Sequence[Any], batch_size: int, size: int) -> str | None:
    """What is wrong with the form of the boxes and classes of a batch; None if nothing is."""
    if len(targets) != batch_size:
        return f"boxes of {len(targets)} images, expected {batch_size}"
    for boxes, classes in targets:
        corners = np.asarray(boxes, np.float64)
        if corners.ndim != 2 or corners.shape[1] != 4 or np.asarray(classes).shape != (len(corners),):
            return f"boxes have shape {corners.shape}, classes {np.asarray(classes).shape}, expected (n, 4) and (n,)"
        left, top, right, bottom = corners.T
        inside = (left >= -1e-3) & (top >= -1e-3) & (right <= size + 1e-3) & (bottom <= size + 1e-3)
        if not (inside & (right > left) & (bottom > top)).all():
            return f"boxes leave the image of {size} pixels, or are none: {corners[:3].tolist()}"
    return None


def fault_of_boxes(
    targets: Sequence[Any], sources: Sequence[tuple[NDArray[np.float32], Any, tuple[int, int]]], size: int
) -> str | None:
    """What is wrong with boxes without chance: images whole, mirrored, and resized to ``size`` x ``size``.

    Args:
        targets: Boxes and classes of each image, as delivered.
        sources: Boxes in the source, their classes, and its width and height.
        size: Side of the output.
    """
    offsets = set()
    for (boxes, classes), (corners, categories, (width, height)) in zip(targets, sources, strict=True):
        x = (width - corners[:, [2, 0]].astype(np.float64)) * size / width
        y = corners[:, [1, 3]].astype(np.float64) * size / height
        expected = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
        expected = expected.clip(0, size)
        found = np.asarray(boxes, np.float64).reshape(-1, 4)
        # A box of less than a pixel may have been left out.
        large = (expected[:, 2:] - expected[:, :2]).min(axis=1) >= 1.0
        if not large.sum() <= len(found) <= len(expected):
            return f"{len(found)} boxes, expected {len(expected)}"
        for box, number in zip(found, np.asarray(classes).tolist(), strict=True):
            near = np.abs(expected - box).max(axis=1) <= _TOLERANCE
            if not near.any():
                return f"box {box.round(2).tolist()} is none of the photograph's"
            offsets.add(frozenset((number - categories[near]).tolist()))
    # Classes count from 0, or are the categories' ids, which here count from 1.
    if offsets and not any(all(offset in found for found in offsets) for offset in (0, -1)):
        return "a box has another one's class"
    return None
