"""The labels of a whole data set, looked at once."""

from __future__ import annotations

from typing import Final

import numpy as np

from fastload.dataset.base import Dataset
from fastload.errors import DataError

_CHUNK: Final = 1 << 20


def highest_label(dataset: Dataset, need: str) -> int:
    """Largest label; reads all labels from the index, so that no epoch stumbles over one.

    Args:
        dataset: Where they are.
        need: Who needs a label for every sample, for the message: "data.train: training needs".

    Raises:
        DataError: A sample has no label.
    """
    highest = -1
    for start in range(0, len(dataset), _CHUNK):
        ids = np.arange(start, min(start + _CHUNK, len(dataset)), dtype=np.int64)
        labels = dataset.labels(ids)
        if labels.min() < 0:
            sample = int(ids[labels.argmin()])
            raise DataError(
                f"{need} a label for every sample, and this one has none",
                path=dataset.location(sample),
                key=dataset.key(sample),
            )
        highest = max(highest, int(labels.max()))
    return highest
