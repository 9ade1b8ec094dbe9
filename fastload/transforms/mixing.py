"""Declarations that mix the samples of a batch with each other; they stand at the end of a chain."""

from __future__ import annotations

from dataclasses import dataclass

from fastload.errors import ConfigError
from fastload.transforms.base import Transform, check_flag, check_number, is_integer
from fastload.transforms.containers import Container


class BatchTransform(Transform):
    """A step on finished batches, in place of single images."""


def on_batches(step: Transform) -> bool:
    """Whether a step mixes finished batches: MixUp, CutMix, and containers that hold nothing else."""
    if isinstance(step, Container):
        return all(on_batches(inner) for inner in step.transforms)
    return isinstance(step, BatchTransform)


@dataclass(frozen=True, init=False)
class _Mixing(BatchTransform):
    alpha: float
    num_classes: int | None
    per_sample: bool

    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None, per_sample: bool = False) -> None:
        owner = self._name()
        checked = check_number(alpha, owner=owner, name="alpha")
        if not 1e-3 <= checked <= 1e3:
            raise ConfigError(f"{owner}: alpha must lie between 0.001 and 1000, but got {alpha!r}")
        if num_classes is not None and (not is_integer(num_classes) or not 1 <= num_classes < 2**31):
            raise ConfigError(f"{owner}: num_classes must be a whole number from 1 upwards, but got {num_classes!r}")
        self._assign(
            alpha=checked,
            num_classes=None if num_classes is None else int(num_classes),
            per_sample=check_flag(per_sample, owner=owner, name="per_sample"),
        )


@dataclass(frozen=True, init=False)
class MixUp(_Mixing):
    """Averages each image with the one before it in the batch, and their labels alike, as torchvision's ``v2.MixUp``.

    Stands at the end of a chain, after the conversion to floats. Labels become float32 (N, num_classes), the weights
    of the classes: what ``torch.nn.functional.cross_entropy`` takes. The image before the first one is the last;
    padding (``Batch.valid``) is mixed with nothing. The weight belongs to (seed, epoch, number of the global batch),
    so that it is the same on all ranks, or to (seed, epoch, sample). As in torchvision it is for labels: a Loader with
    ``targets``, or with several views of each image, refuses it.

    Args:
        alpha: The image's own weight is drawn from Beta(alpha, alpha), 0.001 to 1000.
        num_classes: Classes of the labels; None: those of the data set.
        per_sample: Draw a weight for each image in place of one for the batch, which is torchvision's way.

    Raises:
        ConfigError: An argument is not as above.
    """


@dataclass(frozen=True, init=False)
class CutMix(_Mixing):
    """Pastes a box of the image before it into each image of a batch, as torchvision's ``v2.CutMix``.

    The box covers 1 - lambda of the image, but for what lies beyond its edges; labels are weighted by the area that
    each of the two has in the end. Everything else is as for :class:`MixUp`; images may be uint8 too.

    Args:
        alpha: lambda is drawn from Beta(alpha, alpha), 0.001 to 1000.
        num_classes: Classes of the labels; None: those of the data set.
        per_sample: Draw lambda and the box for each image in place of one for the batch, which is torchvision's way.

    Raises:
        ConfigError: An argument is not as above.
    """
