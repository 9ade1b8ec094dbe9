"""Declarations that draw whole sequences of operations on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from fastload.errors import ConfigError
from fastload.transforms.base import (
    Fill,
    Transform,
    WarpInterpolation,
    check_fill,
    check_flag,
    check_number,
    check_warp_interpolation,
    is_integer,
)
from fastload.transforms.color import ColorJitter, Grayscale, RandomSolarize
from fastload.transforms.containers import Container, RandomChoice
from fastload.transforms.filters import GaussianBlur

PolicyName = Literal["imagenet", "cifar10", "svhn"]

# Operations in a row, chains, and steps of a magnitude: far beyond what is of use.
_MAX_OPERATIONS: Final = 64
_MAX_BINS: Final = 1000


class Policy(Transform):
    """What the four policies share: how their rotations, shears and shifts are sampled."""

    interpolation: WarpInterpolation
    fill: Fill | None


@dataclass(frozen=True, init=False)
class AutoAugment(Policy):
    """One of 25 pairs of operations, as torchvision's ``v2.AutoAugment`` (https://arxiv.org/abs/1805.09501).

    Magnitudes are worked out exactly: where torchvision's, in float32, fall short of a whole number of pixels by a
    unit in the last place, and are cut off to one pixel less, ours are not. This holds for all four policies.

    Args:
        policy: ``"imagenet"``, ``"cifar10"`` or ``"svhn"``, or the member of torchvision's AutoAugmentPolicy.
        interpolation: ``"nearest"`` or ``"bilinear"``, of rotations, shears and shifts.
        fill: Level, or three, of what those uncover; None is black
            (torchvision's "bilinear" fades into black once then, and twice into 0).

    Raises:
        ConfigError: An argument is not as above.
    """

    policy: PolicyName
    interpolation: WarpInterpolation
    fill: Fill | None

    def __init__(
        self, policy: Any = "imagenet", interpolation: Any = "nearest", fill: float | Sequence[float] | None = None
    ) -> None:
        owner = self._name()
        name = getattr(policy, "value", policy)
        if name not in get_args(PolicyName):
            raise ConfigError(f"{owner}: policy must be 'imagenet', 'cifar10' or 'svhn', but got {policy!r}")
        self._assign(
            policy=name,
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            fill=None if fill is None else check_fill(fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class RandAugment(Policy):
    """``num_ops`` operations of 14, all as strong, as torchvision's ``v2.RandAugment``
    (https://arxiv.org/abs/1909.13719).

    Args:
        num_ops: Operations in a row, at most 64.
        magnitude: Strength, from 0 to num_magnitude_bins - 1.
        num_magnitude_bins: Steps of the strength, 2 to 1000.
        interpolation, fill: As for :class:`AutoAugment`.

    Raises:
        ConfigError: An argument is not as above.
    """

    num_ops: int
    magnitude: int
    num_magnitude_bins: int
    interpolation: WarpInterpolation
    fill: Fill | None

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: Any = "nearest",
        fill: float | Sequence[float] | None = None,
    ) -> None:
        owner = self._name()
        bins = _whole(num_magnitude_bins, 2, _MAX_BINS, owner=owner, name="num_magnitude_bins")
        self._assign(
            num_ops=_whole(num_ops, 0, _MAX_OPERATIONS, owner=owner, name="num_ops"),
            magnitude=_whole(magnitude, 0, bins - 1, owner=owner, name="magnitude"),
            num_magnitude_bins=bins,
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            fill=None if fill is None else check_fill(fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class TrivialAugmentWide(Policy):
    """One operation of 14 with a strength drawn from a wide range, as torchvision's ``v2.TrivialAugmentWide``
    (https://arxiv.org/abs/2103.10158).

    Args:
        num_magnitude_bins: Steps of the strength, 2 to 1000.
        interpolation, fill: As for :class:`AutoAugment`.

    Raises:
        ConfigError: An argument is not as above.
    """

    num_magnitude_bins: int
    interpolation: WarpInterpolation
    fill: Fill | None

    def __init__(
        self,
        num_magnitude_bins: int = 31,
        interpolation: Any = "nearest",
        fill: float | Sequence[float] | None = None,
    ) -> None:
        owner = self._name()
        self._assign(
            num_magnitude_bins=_whole(num_magnitude_bins, 2, _MAX_BINS, owner=owner, name="num_magnitude_bins"),
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            fill=None if fill is None else check_fill(fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class AugMix(Policy):
    """A weighted mean of the image and of several chains of operations on it, as torchvision's ``v2.AugMix``
    (https://arxiv.org/abs/1912.02781).

    Args:
        severity: Strengths are drawn from the ``severity`` least of ten, 1 to 10.
        mixture_width: Chains, 1 to 64.
        chain_depth: Operations of each chain, at most 64; 0 or less: 1 to 3, drawn for each.
        alpha: Weights of the chains are drawn from Dirichlet(alpha, ...), the image's from Beta(alpha, alpha); 0.001
            to 1000.
        all_ops: Whether brightness, colour, contrast and sharpness are among the operations.
        interpolation, fill: As for :class:`AutoAugment`.

    Raises:
        ConfigError: An argument is not as above.
    """

    severity: int
    mixture_width: int
    chain_depth: int
    alpha: float
    all_ops: bool
    interpolation: WarpInterpolation
    fill: Fill | None

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: Any = "bilinear",
        fill: float | Sequence[float] | None = None,
    ) -> None:
        owner = self._name()
        checked_alpha = check_number(alpha, owner=owner, name="alpha")
        if not 1e-3 <= checked_alpha <= 1e3:
            raise ConfigError(f"{owner}: alpha must lie between 0.001 and 1000, but got {alpha!r}")
        self._assign(
            severity=_whole(severity, 1, 10, owner=owner, name="severity"),
            mixture_width=_whole(mixture_width, 1, _MAX_OPERATIONS, owner=owner, name="mixture_width"),
            chain_depth=max(_whole(chain_depth, -(2**31), _MAX_OPERATIONS, owner=owner, name="chain_depth"), -1),
            alpha=checked_alpha,
            all_ops=check_flag(all_ops, owner=owner, name="all_ops"),
            interpolation=check_warp_interpolation(interpolation, owner=owner),
            fill=None if fill is None else check_fill(fill, owner=owner),
        )


@dataclass(frozen=True, init=False)
class ThreeAugment(Container):
    """DeiT III's augmentation: grey, solarised or blurred, each in a third of all cases, and then jittered colours.

    As in ``new_data_aug_generator`` of https://github.com/facebookresearch/deit (augment.py), with torchvision v2's
    operations on tensors in place of Pillow's: the blur is a Gaussian of standard deviation 0.1 to 2 (Pillow's radius)
    that is cut off at 6 pixels, where Pillow takes three means in its place; solarised are levels from 128 on.

    Args:
        color_jitter: Of brightness, contrast and saturation, as :class:`ColorJitter` takes it; 0 is none.

    Raises:
        ConfigError: color_jitter is not a number of at least 0.
    """

    color_jitter: float

    def __init__(self, color_jitter: float = 0.3) -> None:
        checked = check_number(color_jitter, owner=self._name(), name="color_jitter")
        if checked < 0:
            raise ConfigError(f"{self._name()}: color_jitter must be at least 0, but got {color_jitter!r}")
        self._assign(color_jitter=checked)

    @property
    def transforms(self) -> tuple[Transform, ...]:  # type: ignore[override]
        """What it is made of."""
        choice = RandomChoice([Grayscale(), RandomSolarize(128, p=1.0), GaussianBlur(13, (0.1, 2.0))])
        jitter = ColorJitter(self.color_jitter, self.color_jitter, self.color_jitter)
        return choice, jitter


def _whole(value: Any, low: int, high: int, *, owner: str, name: str) -> int:
    if not is_integer(value) or not low <= value <= high:
        raise ConfigError(f"{owner}: {name} must be a whole number from {low} to {high}, but got {value!r}")
    return int(value)
