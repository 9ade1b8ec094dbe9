"""From the transforms that a user wrote to the parameters of every sample, the same for every engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastload.augment import portable
from fastload.augment.canvas import Canvas, resized_sizes
from fastload.augment.crop import CropRule, draw_crops
from fastload.augment.parameters import Draws, Output
from fastload.augment.rng import random_words, uniform
from fastload.augment.values import Values
from fastload.errors import ConfigError
from fastload.transforms import (
    CenterCrop,
    Interpolation,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToDtype,
    Transform,
    flatten,
)

_RANDOM = (RandomResizedCrop, RandomHorizontalFlip)


@dataclass(frozen=True, kw_only=True)
class AugmentPlan:
    """What a chain of transforms does to the samples of a data set; made by :func:`compile_plan`.

    Attributes:
        output: Form of every image.
        steps: The geometric steps, in order.
    """

    output: Output
    steps: tuple[Transform, ...]

    def draw(self, *, seed: int, epoch: int, ids: ArrayLike, sizes: NDArray[np.int32]) -> Draws:
        """Draws the geometry of a batch: a pure function of (seed, epoch, id, size) for each sample by itself.

        Random transforms are numbered among themselves: adding a Resize or a Normalize, or changing an output size,
        leaves all draws as they were.

        Args:
            seed: 0 <= seed < 2**64.
            epoch: 0 <= epoch < 2**32.
            ids: Sample numbers, int64 (n,).
            sizes: Height and width of their sources, int32 (n, 2), as ``Dataset.sizes`` gives them; (0, 0), an
                unreadable header, is drawn as an image of one pixel.

        Raises:
            ConfigError: seed, epoch or a shape is not as above.
        """
        numbers = np.asarray(ids, dtype=np.int64)
        shapes = np.asarray(sizes)
        if numbers.ndim != 1 or shapes.shape != (len(numbers), 2):
            raise ConfigError(f"ids must be (n,) and sizes (n, 2), but got {numbers.shape} and {shapes.shape}")
        canvas = Canvas(shapes)
        num_random = sum(isinstance(step, _RANDOM) for step in self.steps)
        # The first block of words of every random transform in one go: numpy's cost is per call, not per sample.
        words = random_words(numbers, seed=seed, epoch=epoch, transform=np.arange(num_random)[:, None])
        transform = 0
        for step in self.steps:
            if isinstance(step, Resize):
                canvas.resize(resized_sizes(canvas.heights, canvas.widths, step.size, step.max_size))
            elif isinstance(step, CenterCrop):
                canvas.center_crop(*step.size)
            elif isinstance(step, RandomResizedCrop):
                boxes = draw_crops(
                    _crop_rule(step),
                    canvas.heights,
                    canvas.widths,
                    numbers,
                    words[:, transform],
                    seed=seed,
                    epoch=epoch,
                    transform=transform,
                )
                canvas.crop(boxes)
                canvas.resize(np.array([step.size], dtype=np.int64))
                transform += 1
            elif isinstance(step, RandomHorizontalFlip):
                canvas.flip(uniform(words[0, transform]) < step.p)
                transform += 1
        return canvas.draws(numbers)


def compile_plan(transforms: Iterable[Transform] | Transform | None) -> AugmentPlan:
    """Checks a chain of transforms and folds it into a plan: one resampling of one source region per sample.

    Several geometric steps in a row become one, in real coordinates: ``Resize(256), RandomResizedCrop(224)`` samples
    a fractional box of the source once, where torchvision samples twice; the result is sharper, not different in
    place. Steps on values become one scale and bias; pixels are rounded to 8 bits after the resampling and before
    those, wherever in the chain the conversion stands.

    Args:
        transforms: Declarations of :mod:`fastload.transforms`, a Compose of them, or one.

    Raises:
        ConfigError: The chain does not end in a fixed size, cannot be done in one sampling, or normalises whole
            numbers; the message says what to change.
    """
    form = _Form()
    steps: list[Transform] = []
    for step in flatten(transforms):
        form = form.after(step)
        if not isinstance(step, (Normalize, ToDtype)):
            steps.append(step)
    if form.exact is None:
        raise ConfigError(f"images of a batch must have one size, but {_why_no_size(steps)}")
    interpolation, antialias = form.sampling or ("bilinear", True)
    output = Output(
        height=form.exact[0],
        width=form.exact[1],
        dtype=form.values.dtype,
        scale=form.values.scale,
        bias=form.values.bias,
        interpolation=interpolation,
        antialias=antialias and interpolation != "nearest",
    )
    return AugmentPlan(output=output, steps=tuple(steps))


def _why_no_size(steps: list[Transform]) -> str:
    if not steps:
        return "there is no transform that sets it: add RandomResizedCrop(224), or Resize(256) and CenterCrop(224)"
    resizes = [step for step in steps if isinstance(step, Resize)]
    if not resizes:
        return f"{steps[-1]} leaves sizes as they are: add RandomResizedCrop(224), or Resize(256) and CenterCrop(224)"
    size = resizes[-1].size or resizes[-1].max_size
    return f"{resizes[-1]} fixes one side only: add CenterCrop({size}) after it, or give it (height, width)"


def _crop_rule(step: RandomResizedCrop) -> CropRule:
    low, high = step.ratio
    return CropRule(scale=step.scale, ratio=step.ratio, log_ratio=(portable.log(low), portable.log(high)))


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What is known about every image, whatever its source, after the steps so far.

    Attributes:
        exact: Height and width, where they are the same for all.
        least: Height and width that no image falls below.
        cut: Whether the image is a part of what was resampled (a CenterCrop came last).
        padded: Whether a part of it may be padding.
        sampling: Interpolation and antialias of the resampling, if there was one.
        values: What pixel values have become.
    """

    exact: tuple[int, int] | None = None
    least: tuple[int, int] = (1, 1)
    cut: bool = False
    padded: bool = False
    sampling: tuple[Interpolation, bool] | None = None
    values: Values = field(default_factory=Values)

    def after(self, step: Transform) -> _Form:
        if isinstance(step, ToDtype):
            return replace(self, values=self.values.convert(step))
        if isinstance(step, Normalize):
            return replace(self, values=self.values.normalize(step))
        if isinstance(step, CenterCrop):
            return self._after_center_crop(step)
        if isinstance(step, Resize):
            return self._after_resize(step)
        if isinstance(step, RandomResizedCrop):
            form = self._resampled(step, step.interpolation, step.antialias)
            return replace(form, exact=step.size, least=step.size)
        if isinstance(step, RandomHorizontalFlip):
            return self
        raise ConfigError(f"{step} is not a transform that fastload can carry out")

    def _resampled(self, step: Transform, interpolation: Interpolation, antialias: bool) -> _Form:
        if self.padded:
            raise ConfigError(
                f"{step} cannot follow a CenterCrop that may have to pad small images with black, because each image "
                "is sampled once: put a Resize before the CenterCrop that makes every image large enough"
            )
        sampling = (interpolation, antialias and interpolation != "nearest")
        if self.sampling not in (None, sampling):
            raise ConfigError(
                f"{step} must have the same interpolation and antialias as the resampling before it, because each "
                "image is sampled once"
            )
        return replace(self, sampling=sampling, cut=False)

    def _after_resize(self, step: Resize) -> _Form:
        form = self._resampled(step, step.interpolation, step.antialias)
        exact = step.size if isinstance(step.size, tuple) else None
        if exact is None and self.exact is not None:
            height, width = (np.array([side], dtype=np.int64) for side in self.exact)
            height_after, width_after = resized_sizes(height, width, step.size, step.max_size)[0].tolist()
            exact = height_after, width_after
        if exact is not None:
            return replace(form, exact=exact, least=exact)
        short = step.size if isinstance(step.size, int) and step.max_size is None else 1
        return replace(form, exact=None, least=(short, short))

    def _after_center_crop(self, step: CenterCrop) -> _Form:
        grows = step.size[0] > self.least[0] or step.size[1] > self.least[1]
        if grows and self.cut:
            raise ConfigError(f"{step} cannot enlarge what an earlier CenterCrop cut out: leave the earlier one out")
        if grows and any(self.values.bias):
            raise ConfigError(
                f"{step} may have to pad small images, and after a Normalize that would be with grey: put the "
                "Normalize last"
            )
        return replace(self, exact=step.size, least=step.size, cut=True, padded=self.padded or grows)
