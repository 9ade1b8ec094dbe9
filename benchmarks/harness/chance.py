"""Whether the random part of a pipeline is as random as it should be: how much deliveries of one photograph differ."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.datasets import Corpus
from benchmarks.harness.images import as_nhwc, grey_levels, to_numpy
from benchmarks.harness.pipelines import Pipeline

DELIVERIES = 2000  # at least so many, and two of each photograph
_CELLS = 8
# Grey levels, and a share of the reference. Four epochs of 2,000 by one loader lie within 0.3 and 2%; 800 deliveries
# have been 2.0 beside.
_MEAN_TOLERANCE = 2.0
_SPREAD_TOLERANCE = 0.10


def statistics(batches: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    """Mean grey level, and the spread of each photograph's deliveries around their own mean, on a grid of 8 x 8 cells.

    Crops and flips spread; a loader that shows the whole image, or the same crop every time, does not.
    """
    cells, numbers = [], []
    for images, labels in batches:
        cells.append(_pool(grey_levels(as_nhwc(images))))
        numbers.append(to_numpy(labels).reshape(-1).copy())  # FFCV overwrites what it delivered
    return _summary(np.concatenate(cells), np.concatenate(numbers))


def reference_statistics(corpus: Corpus, pipeline: Pipeline) -> dict[str, float]:
    """The same of torchvision's crops, resized by Pillow; computed once for a corpus."""
    deliveries = max(2, corpus.repeats, -(-DELIVERIES // corpus.photographs))
    path = corpus.root / f"chance-{pipeline.size}.json"
    if path.exists():
        kept: dict[str, float] = json.loads(path.read_text())
        return kept
    import torch
    from torchvision.transforms import v2

    crop = v2.Compose([v2.RandomResizedCrop(pipeline.size, pipeline.scale, pipeline.ratio), v2.RandomHorizontalFlip()])
    cells, numbers = [], []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for label in range(corpus.photographs):
            with Image.open(corpus.photograph(label, "folder")) as opened:
                image = opened.convert("RGB")
            cells += [_pool(np.asarray(crop(image), np.float32)[None]) for _ in range(deliveries)]
            numbers += [label] * deliveries
    summary = _summary(np.concatenate(cells), np.array(numbers))
    path.write_text(json.dumps(summary))
    return summary


def fault_of_chance(found: dict[str, float], expected: dict[str, float]) -> str | None:
    """What is wrong with the statistics of a loader; None if nothing is."""
    if abs(found["mean"] - expected["mean"]) > _MEAN_TOLERANCE:
        return f"mean grey level {found['mean']:.1f}, expected {expected['mean']:.1f}"
    if abs(found["spread"] / expected["spread"] - 1) > _SPREAD_TOLERANCE:
        return f"crops and flips spread {found['spread']:.1f} grey levels, expected {expected['spread']:.1f}"
    return None


def _pool(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    side = levels.shape[1] // _CELLS
    pooled: NDArray[np.float32] = levels.reshape(len(levels), _CELLS, side, _CELLS, side, 3).mean(axis=(2, 4))
    return pooled


def _summary(cells: NDArray[np.float32], numbers: NDArray[np.int64]) -> dict[str, float]:
    groups = [cells[numbers == number] for number in np.unique(numbers)]
    # Variances: unlike deviations, few deliveries do not make them smaller on average.
    variances = [group.var(axis=0, ddof=1).mean() for group in groups if len(group) > 1]
    # Each photograph counts once, however often it came.
    means = [group.mean() for group in groups]
    return {"mean": float(np.mean(means)), "spread": float(np.sqrt(np.mean(variances)))}
