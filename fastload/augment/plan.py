"""From the transforms that a user wrote to the parameters of every sample, the same for every engine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastload.augment.canvas import Canvas
from fastload.augment.drawing import Boxes, Drawing, prepare
from fastload.augment.form import Form
from fastload.augment.known_sizes import KnownSizes, sizes_after
from fastload.augment.mixing import check_mixing, split_chain
from fastload.augment.parameters import Draws, Output
from fastload.augment.registry import count_random, number_steps, walk
from fastload.augment.rng import check_stream, streams
from fastload.augment.steps import Step
from fastload.augment.targets import TargetRules, split_rules
from fastload.augment.views import check_alike, interleaved, split_views
from fastload.errors import ConfigError
from fastload.transforms import (
    CenterCrop,
    Container,
    Identity,
    Normalize,
    Pad,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomIoUCrop,
    RandomResize,
    RandomResizedCrop,
    RandomShortestSize,
    RandomVerticalFlip,
    Resize,
    ScaleJitter,
    ToDtype,
    Transform,
    flatten,
)

_NO_RULES: Final = TargetRules()

_ALIKE: Final = KnownSizes((256, 256), (256, 256))
_ADVICE: Final = "add Resize((224, 224)), RandomCrop(224, pad_if_needed=True) or CenterCrop(224) after it"

# What is one resampling, parallel to the axes, whatever is drawn, or nothing to pixels at all.
_RESAMPLING: Final = (
    CenterCrop,
    Container,
    Normalize,
    Identity,
    RandomHorizontalFlip,
    RandomIoUCrop,
    RandomResize,
    RandomResizedCrop,
    RandomShortestSize,
    RandomVerticalFlip,
    Resize,
    ScaleJitter,
    ToDtype,
)


@dataclass(frozen=True, kw_only=True)
class AugmentPlan:
    """What a chain of transforms does to the samples of a data set; made by :func:`compile_plan`.

    Attributes:
        output: Form of every image.
        steps: All on samples, in order.
        mixing: What is done to finished batches.
        targets: What is said about boxes.
        further: What is done for the further views of each image.
        first: Random transforms of the views before.
    """

    output: Output
    steps: tuple[Transform, ...]
    mixing: tuple[Transform, ...] = ()
    targets: TargetRules = _NO_RULES
    further: tuple[AugmentPlan, ...] = ()
    first: int = 0

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...]:
        return number_steps(self.steps, self.first)

    @property
    def views(self) -> tuple[AugmentPlan, ...]:
        """The plan of each view, this one first."""
        return (self, *self.further)

    @property
    def num_random(self) -> int:
        """Random transforms of the chain, those that others hold included, in all views."""
        return sum(count_random(view._steps) for view in self.views)

    @property
    def needs_boxes(self) -> bool:
        """Whether a transform looks at the boxes of the sources: ``draw`` then wants them."""
        return any(step.kind.boxes for view in self.views for step in walk(view._steps))

    @functools.cached_property
    def augmented(self) -> bool:
        """Whether any transform asks for more than one resampling parallel to the axes, mirrored."""
        return not all(_resamples(transform) for transform in self._transforms())

    @functools.cached_property
    def operates(self) -> bool:
        """Whether any transform asks for more than that with a border in one colour, as far as transforms tell."""
        return not all(_resamples(transform) or _pads(transform) for transform in self._transforms())

    def _transforms(self) -> Iterator[Transform]:
        """All of all views, those that others hold included."""
        return (step.transform for view in self.views for step in walk(view._steps))

    @functools.cached_property
    def erases_values(self) -> bool:
        """Whether finished values are overwritten, so that images cannot be normalised later."""
        erasing = any(isinstance(transform, RandomErasing) for transform in self._transforms())
        return erasing and self.output.dtype != "uint8"

    def draw(
        self,
        *,
        seed: int,
        epoch: int,
        ids: ArrayLike,
        sizes: NDArray[np.int32],
        boxes: Boxes | None = None,
        repeats: NDArray[np.int64] | None = None,
    ) -> Draws:
        """Draws the geometry of a batch: a pure function of (seed, epoch, id, size) for each sample by itself.

        Random transforms are numbered among themselves: adding a Resize or a Normalize, or changing an output size,
        leaves all draws as they were.

        Args:
            seed: 0 <= seed < 2**64.
            epoch: 0 <= epoch < 2**32.
            ids: Sample numbers, int64 (n,).
            sizes: Height and width of their sources, int32 (n, 2), as ``Dataset.sizes`` gives them; (0, 0), an
                unreadable header, is drawn as an image of one pixel.
            boxes: Bounding boxes in the sources, for transforms that look at them.
            repeats: int64 (n,), which time of several this is for each sample: every time it is drawn anew. None: 0.

        Returns:
            n rows; with k views n * k, those of a sample one after the other.

        Raises:
            ConfigError: seed, epoch or a shape is not as above.
        """
        numbers = np.asarray(ids, dtype=np.int64)
        shapes = np.asarray(sizes)
        if numbers.ndim != 1 or shapes.shape != (len(numbers), 2):
            raise ConfigError(f"ids must be (n,) and sizes (n, 2), but got {numbers.shape} and {shapes.shape}")
        check_stream(seed, epoch)
        first_words = prepare(streams(numbers, repeats), seed=seed, epoch=epoch, count=self.first + self.num_random)
        views = []
        for view in self.views:
            drawing = Drawing(
                ids=streams(numbers, repeats),
                seed=seed,
                epoch=epoch,
                canvas=Canvas(shapes),
                boxes=boxes,
                output=view.output,
                first_words=first_words,
            )
            for step in view._steps:
                step.draw(drawing)
            functions = tuple(step.apply for step in drawing.functions)
            views.append(dataclasses.replace(drawing.draws(), ids=numbers, functions=functions))
        return views[0] if len(views) == 1 else interleaved(views)


def _resamples(transform: Transform) -> bool:
    """Whether it is one of _RESAMPLING, or a crop that never adds a border."""
    bare = isinstance(transform, RandomCrop) and transform.padding is None and not transform.pad_if_needed
    return bare or isinstance(transform, _RESAMPLING)


def _pads(transform: Transform) -> bool:
    return isinstance(transform, (Pad, RandomCrop)) and transform.padding_mode == "constant"


def compile_plan(transforms: Iterable[Transform] | Transform | None) -> AugmentPlan:
    """Checks a chain of transforms and folds it into a plan: one resampling of one source region per sample.

    Several geometric steps in a row become one, in real coordinates: ``Resize(256), RandomResizedCrop(224)`` samples
    a fractional box of the source once, where torchvision samples twice; the result is sharper, not different in
    place. Operations on pixels are done to the source up to the first step that cuts or resamples, and to the output
    from there on: behind them may stand flips, and, where each pixel is worked on by itself, crops without a border.
    Steps on values become one scale and bias; pixels are rounded to 8 bits after the resampling and before
    those, wherever in the chain the conversion stands.

    Args:
        transforms: Declarations of :mod:`fastload.transforms`, a Compose of them, or one.

    Raises:
        ConfigError: The chain does not end in a fixed size, cannot be done in one sampling, or normalises whole
            numbers; the message says what to change.
    """
    views = split_views(flatten(transforms))
    plans = [_compile(views[0], 0)]
    for chain in views[1:]:
        plans.append(_compile(chain, plans[-1].first + plans[-1].num_random))
    if len(plans) == 1:
        return plans[0]
    first, *further = plans
    if any(plan.mixing for plan in plans):
        raise ConfigError("several views of an image go without MixUp and CutMix: leave them out")
    check_alike([plan.output for plan in plans])
    output = dataclasses.replace(first.output, further=tuple(plan.output for plan in further))
    return dataclasses.replace(first, output=output, further=tuple(further))


def _compile(steps: list[Transform], first: int) -> AugmentPlan:
    """The plan of one view."""
    form = Form()
    chain, mixing = split_chain(steps)
    chain, rules = split_rules(chain)
    for step in chain:
        form = form.after(step)
    if form.sizes.exact is None:
        raise ConfigError(f"images of a batch must have one size, but {_why_no_size(chain)}")
    check_mixing(mixing, form.values.dtype)
    interpolation, antialias = form.sampling or ("bilinear", True)
    output = Output(
        height=form.sizes.exact[0],
        width=form.sizes.exact[1],
        dtype=form.values.dtype,
        scale=form.values.scale,
        bias=form.values.bias,
        interpolation=interpolation,
        antialias=antialias,
    )
    return AugmentPlan(output=output, steps=tuple(chain), mixing=mixing, targets=rules, first=first)


def _why_no_size(steps: list[Transform]) -> str:
    steps = [step for step in steps if not isinstance(step, (Normalize, ToDtype))]
    if not steps:
        return "there is no transform that sets it: add RandomResizedCrop(224), or Resize(256) and CenterCrop(224)"
    for step in reversed(number_steps(steps)):
        if step.held and any(inner.kind.geometric for inner in walk(step.held)):
            return f"sizes may differ after {step.transform}: {_ADVICE}"
        if isinstance(step.transform, Resize):
            break
        if step.kind.geometric and sizes_after(step.transform, _ALIKE).exact is None:
            return f"sizes may differ after {step.transform}: {_ADVICE}"
    resizes = [step for step in steps if isinstance(step, Resize)]
    if not resizes:
        return f"{steps[-1]} leaves sizes as they are: add RandomResizedCrop(224), or Resize(256) and CenterCrop(224)"
    size = resizes[-1].size or resizes[-1].max_size
    return f"{resizes[-1]} fixes one side only: add CenterCrop({size}) after it, or give it (height, width)"
