"""What an evaluation counts: exact sums over all processes, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fastload.train.distributed import World, all_reduce_sum


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The result of one evaluation.

    Attributes:
        top1, top5: Share of the samples whose class is the first, or among the first five (or all, where there are
            fewer classes).
        loss: Mean cross entropy (without label smoothing).
        precision, recall, f1: Means over all classes that occur among labels or predictions; a class that is never
            predicted has precision 0, as in scikit-learn with zero_division=0.
        samples: Samples that were counted, each once.
        confusion: Row per class, column per prediction.
    """

    top1: float
    top5: float
    loss: float
    precision: float
    recall: float
    f1: float
    samples: int
    confusion: tuple[tuple[int, ...], ...]

    def summary(self) -> dict[str, Any]:
        """All but the confusion matrix, for a log."""
        return {key: value for key, value in vars(self).items() if key != "confusion"}


class Meter:
    """Sums of one evaluation on one process.

    Args:
        num_classes: Outputs of the network.
        device: Where the sums are kept; nothing is waited for until :meth:`compute`.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self._confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
        self._in_top5 = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Adds samples: logits N x num_classes, labels int64 (N,), each in 0 to num_classes - 1."""
        if labels.numel() == 0:
            return
        logits = logits.float()
        k = min(5, self.num_classes)
        ranked = logits.topk(k, dim=1).indices
        self._in_top5 += (ranked == labels[:, None]).sum()
        pairs = labels * self.num_classes + logits.argmax(dim=1)
        # bincount would make the host wait for the device, to learn how large its result is.
        self._confusion.scatter_add_(0, pairs, torch.ones_like(pairs))
        self._loss += torch.nn.functional.cross_entropy(logits, labels, reduction="none").double().sum()

    def compute(self, world: World) -> Metrics:
        """The metrics over all processes; every process gets the same."""
        all_reduce_sum(world, self._confusion, self._in_top5, self._loss)
        confusion = self._confusion.view(self.num_classes, self.num_classes).cpu()
        return metrics_from_sums(confusion, in_top5=int(self._in_top5.item()), loss_sum=float(self._loss.item()))


def metrics_from_sums(confusion: torch.Tensor, *, in_top5: int, loss_sum: float) -> Metrics:
    """Metrics of an int64 confusion matrix (row per class, column per prediction) and the two other sums."""
    hits = confusion.diagonal().double()
    labelled, predicted = confusion.sum(1).double(), confusion.sum(0).double()
    samples = int(confusion.sum().item())
    occurs = (labelled + predicted) > 0
    precision = hits / predicted.clamp(min=1)
    recall = hits / labelled.clamp(min=1)
    f1 = 2 * hits / (labelled + predicted).clamp(min=1)

    def mean(values: torch.Tensor) -> float:
        return float(values[occurs].mean().item()) if samples else 0.0

    divisor = max(samples, 1)
    return Metrics(
        top1=float(hits.sum().item()) / divisor,
        top5=in_top5 / divisor,
        loss=loss_sum / divisor,
        precision=mean(precision),
        recall=mean(recall),
        f1=mean(f1),
        samples=samples,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )
