"""Whether an augmentation does what torchvision's does: what it changes in images, on average and from one to the next.

Each photograph is compared with itself: what is measured of each of its deliveries, their mean, and their spread.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.datasets import Corpus
from benchmarks.harness.images import as_nhwc, grey_levels, to_numpy, views_of
from benchmarks.harness.pipelines import ERASING, MEAN, STD, Pipeline

DELIVERIES = 1600  # at least so many are measured of a loader
_REFERENCE = 4000  # and of torchvision, once for a corpus

# What is measured of an image, and how far a loader's mean may lie from torchvision's: in grey levels, or shares of
# images, pixels or sides. 1,600 deliveries of torchvision's own lie within half of it.
_MEANS = {
    "level": 3.0,  # mean of luma
    "contrast": 2.0,  # its deviation
    "chroma": 2.0,  # mean of the greatest channel less the least
    "warmth": 2.0,  # mean of red less blue
    "detail": 0.6,  # mean difference of neighbours
    "grey": 0.03,  # share of images without colour
    "erased": 0.01,  # share of pixels that are 0 after the Normalize in all channels
}
_BOXES = {
    "boxes": 0.6,  # how many are left
    "box_width": 0.03,  # their means, as shares of the image's
    "box_height": 0.03,
    "box_middle": 0.02,  # across
}
# How far the spread may lie from torchvision's, as a share; and what is too small to be compared so.
_SPREAD = 0.15
_SMALL = {"level": 1.0, "contrast": 1.0, "chroma": 1.0, "warmth": 1.0, "detail": 0.3, "grey": 0.15, "erased": 0.005}

Summary = dict[str, tuple[float, float]]


def statistics(batches: Iterable[Sequence[Any]], pipeline: Pipeline) -> Summary:
    """Mean and spread of each measure; batches as a loader delivers them."""
    rows, numbers = [], []
    for images, labels, *targets in batches:
        for view in views_of(images):
            measured = _measures(as_nhwc(view))
            if pipeline.kind == "detect":
                measured = np.concatenate([measured, _box_measures(targets[0], pipeline.size)], axis=1)
            rows.append(measured)
            numbers.append(to_numpy(labels).reshape(-1).copy())
    return _summary(np.concatenate(rows), np.concatenate(numbers), pipeline)


def reference_statistics(corpus: Corpus, pipeline: Pipeline, seed: int = 0) -> Summary:
    """The same of torchvision v2 on uint8 tensors; kept beside the corpus, for any number of repeats."""
    path = corpus.root.parent / f"{corpus.digest}-{pipeline.name}-{seed}.json"
    if path.exists():
        return {name: tuple(pair) for name, pair in json.loads(path.read_text()).items()}
    from benchmarks.harness.torchvision_chain import chain

    deliveries = max(2, -(-_REFERENCE // corpus.photographs))
    one = replace(pipeline, kind="train") if pipeline.kind == "views" else pipeline
    transform = chain(one)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        batches = (_reference_batch(corpus, label, deliveries, one, transform) for label in range(corpus.photographs))
        summary = statistics(batches, one)
    path.write_text(json.dumps(summary))
    return summary


def _reference_batch(corpus: Corpus, label: int, deliveries: int, pipeline: Pipeline, transform: Any) -> Sequence[Any]:
    from torchvision.transforms import v2

    from benchmarks.harness.torchvision_chain import with_boxes

    erase = v2.RandomErasing(ERASING if pipeline.augment == "trivial" else 0.0)
    with Image.open(corpus.photograph(label, "folder")) as opened:
        image = v2.functional.pil_to_tensor(opened.convert("RGB"))
    images, targets = [], []
    for _ in range(deliveries):
        if pipeline.kind == "detect":
            boxes, classes = (torch.from_numpy(part) for part in corpus.boxes[label][:2])
            sample = transform(with_boxes(image, boxes, classes))
            images.append(sample["image"])
            targets.append((sample["boxes"].numpy(), sample["labels"].numpy()))
        else:
            images.append(transform(image))
    mean, std = (torch.tensor(numbers).mul(255).view(3, 1, 1) for numbers in (MEAN, STD))
    batch = torch.stack([erase((image - mean) / std) for image in images])
    return batch, torch.full((deliveries,), label), targets


def fault(found: Mapping[str, Sequence[float]], expected: Summary, allowed: Mapping[str, float]) -> str | None:
    """What is wrong with the statistics of a loader; None if nothing is.

    Args:
        found, expected: By measure, its mean and its spread.
        allowed: Measures of which a loader is allowed more than others (see benchmarks/peers): how many times as much.
    """
    faults = []
    for name, (mean, spread) in found.items():
        wanted, wanted_spread = expected[name]
        times = allowed.get(name, 1.0)
        if abs(mean - wanted) > times * {**_MEANS, **_BOXES}[name]:
            faults.append(f"{name} is {mean:.3f} on average, expected {wanted:.3f} as torchvision has it")
        if max(spread, wanted_spread) >= _SMALL.get(name, 0.0) and abs(spread - wanted_spread) > (
            times * _SPREAD * wanted_spread
        ):
            faults.append(f"{name} spreads {spread:.3f} from delivery to delivery, expected {wanted_spread:.3f}")
    return "; ".join(faults) or None


def _measures(stored: NDArray[Any]) -> NDArray[np.float64]:
    stored = stored[:, :: stored.shape[1] // 56]  # 56 rows tell as much as all
    levels = grey_levels(stored)
    luma = levels @ np.array([0.299, 0.587, 0.114], np.float32)
    chroma = (levels.max(axis=3) - levels.min(axis=3)).mean(axis=(1, 2))
    columns = [
        luma.mean(axis=(1, 2)),
        luma.std(axis=(1, 2)),
        chroma,
        (levels[..., 0] - levels[..., 2]).mean(axis=(1, 2)),
        np.abs(np.diff(luma, axis=2)).mean(axis=(1, 2)),
        chroma < 1,
        (stored == 0).all(axis=3).mean(axis=(1, 2)),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _box_measures(targets: Sequence[Any], size: int) -> NDArray[np.float64]:
    rows = np.zeros((len(targets), 4))
    for row, (boxes, _) in zip(rows, targets, strict=True):
        left, top, right, bottom = np.asarray(boxes, np.float64).reshape(-1, 4).T / size
        if len(left):
            row[:] = len(left), (right - left).mean(), (bottom - top).mean(), (left + right).mean() / 2
    return rows


def _summary(rows: NDArray[np.float64], numbers: NDArray[np.int64], pipeline: Pipeline) -> Summary:
    names = [*_MEANS, *(_BOXES if pipeline.kind == "detect" else {})]
    groups = [rows[numbers == number] for number in np.unique(numbers)]
    # Each photograph counts once, however often it came; variances are not made smaller by few deliveries.
    means = np.mean([group.mean(axis=0) for group in groups], axis=0)
    spreads = np.sqrt(np.mean([group.var(axis=0, ddof=1) for group in groups if len(group) > 1], axis=0))
    return {name: (float(mean), float(spread)) for name, mean, spread in zip(names, means, spreads, strict=True)}
