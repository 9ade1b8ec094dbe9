"""Metrics against plain counting."""

import numpy as np
import pytest
import torch

from fastload.train.distributed import World
from fastload.train.metrics import Meter, metrics_from_sums

ALONE = World(rank=0, size=1, device=torch.device("cpu"))


def counted(logits, labels, classes):
    """The same numbers by loops, as scikit-learn defines them (macro, zero_division=0, labels that occur)."""
    predictions = logits.argmax(1)
    scores = []
    for label in range(classes):
        tp = int(((predictions == label) & (labels == label)).sum())
        fp = int(((predictions == label) & (labels != label)).sum())
        fn = int(((predictions != label) & (labels == label)).sum())
        if tp + fp + fn:
            precision, recall = tp / (tp + fp) if tp + fp else 0.0, tp / (tp + fn) if tp + fn else 0.0
            scores.append((precision, recall, 2 * tp / (2 * tp + fp + fn)))
    top5 = np.mean([label in np.argsort(-row)[:5] for row, label in zip(logits, labels, strict=True)])
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    loss = -np.log(shifted[np.arange(len(labels)), labels] / shifted.sum(1)).mean()
    return (float((predictions == labels).mean()), float(top5), float(loss), *np.mean(scores, axis=0))


@pytest.mark.parametrize("classes", [3, 12])
def test_metrics_are_what_counting_gives(classes):
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(101, classes)).astype(np.float32)
    labels = rng.integers(0, classes - 1, 101)  # one class never occurs as a label
    meter = Meter(classes, torch.device("cpu"))
    for part in (slice(0, 40), slice(40, 40), slice(40, 101)):
        meter.update(torch.from_numpy(logits[part]), torch.from_numpy(labels[part]))
    found = meter.compute(ALONE)
    expected = counted(logits, labels, classes)
    ours = (found.top1, found.top5, found.loss, found.precision, found.recall, found.f1)
    assert ours == pytest.approx(expected, abs=1e-6)
    assert found.samples == 101
    assert np.array(found.confusion).sum() == 101
    assert np.array(found.confusion)[2, :].sum() == (labels == 2).sum()


def test_nothing_counted_gives_zeros():
    found = metrics_from_sums(torch.zeros(3, 3, dtype=torch.int64), in_top5=0, loss_sum=0.0)
    assert (found.samples, found.top1, found.f1) == (0, 0.0, 0.0)
