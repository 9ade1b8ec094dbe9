"""Counts what is annotated in a sample of the images: boxes by class, keypoints and masks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastload.dataset import Dataset, Sample
from fastload.errors import DataError
from fastload.inspect.annotations import PNG, read_annotations
from fastload.inspect.distribution import describe
from fastload.inspect.report import ClassBalance, Objects


def count_objects(
    dataset: Dataset, ids: NDArray[np.int64], progress: Callable[[int, int], None] = lambda done, total: None
) -> Objects | None:
    """What the members of samples ``ids`` (int64 (n,)) annotate; None where they annotate nothing.

    Masks are counted and not decoded.
    """
    names: Counter[str] = Counter()
    per_image, sides = [], []
    points = masks = annotated = 0
    for done, number in enumerate(ids.tolist(), start=1):
        sample = _read(dataset, number)
        progress(done, len(ids))
        if sample is None:
            continue
        found = [data[:4] == PNG for data in sample.extras.values()]
        without = {name: data for name, data in sample.extras.items() if data[:4] != PNG}
        marks = read_annotations(without, height=0, width=0, schema=dataset.schema, classes=tuple(dataset.classes))
        names.update(name for name in marks.names if name)
        per_image.append(len(marks.boxes))
        sides += [math.sqrt(abs((right - left) * (bottom - top))) for left, top, right, bottom in marks.boxes]
        points += len(marks.points)
        masks += sum(found)
        annotated += bool(marks) or any(found)
    if not annotated:
        return None
    order = [name for name in dict.fromkeys((*dataset.classes, *names)) if names[name] or name in dataset.classes]
    return Objects(
        images=len(per_image),
        annotated=annotated,
        boxes=sum(per_image),
        keypoints=points,
        masks=masks,
        classes=ClassBalance(
            names=tuple(order), counts=tuple(names[name] for name in order), unlabelled=len(sides) - names.total()
        )
        if names
        else None,
        per_image=describe(per_image, "", exact=len(ids) == len(dataset)) if sides else None,
        side=describe(sides, "px", exact=len(ids) == len(dataset)),
    )


def _read(dataset: Dataset, number: int) -> Sample | None:
    try:
        return dataset[number]
    except DataError:
        return None
