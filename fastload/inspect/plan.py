"""What a recipe's transforms are compiled to, and what that leaves to do for each image."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment import AugmentPlan, compile_plan, count_passes
from fastload.augment.known_sizes import frames
from fastload.augment.registry import KINDS, number_steps, walk
from fastload.dataset import open_dataset
from fastload.inspect.examine import bounded_sample
from fastload.recipe import Recipe
from fastload.train.data import epoch_transforms
from fastload.train.images import eval_transforms
from fastload.transforms import (
    Container,
    Identity,
    Normalize,
    RandomAffine,
    RandomPerspective,
    RandomRotation,
    ToDtype,
    Transform,
)

_MAPS: Final = (RandomAffine, RandomPerspective, RandomRotation)
# Crops are drawn for so many samples: their mean share of the pixels is then known to a percent.
_DRAWN = 2000


@dataclass(frozen=True, kw_only=True)
class CompiledTransforms:
    """One chain of transforms, compiled.

    Attributes:
        name: ``training, epoch 0`` or ``evaluation``.
        steps: Each transform as it was written, and what becomes of it.
        passes: Passes over pixels that remain after decoding, for an image on average.
        remaining: What each of them is, and how many there are for an image on average.
        result: What the resampling among them does.
        source_share: Part of the source pixels that an image needs on average, 0 to 1.
        enlarged_share: Part of the images whose crop has fewer pixels than the output, so that it is enlarged.
    """

    name: str
    steps: tuple[tuple[str, str], ...]
    passes: float
    remaining: tuple[tuple[str, float], ...]
    result: str
    source_share: float
    enlarged_share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def passes_in_words(self) -> str:
        """How many passes there are, and where there is more than one what they are."""
        if len(self.remaining) == 1:
            return "one pass over the pixels"
        each = ", ".join(f"{name} {per_image:.2g}" for name, per_image in self.remaining)
        return f"{self.passes:.2g} passes over the pixels on average ({each})"


def explain_recipe(recipe: Recipe, path: str | os.PathLike[str], *, seed: int = 0) -> tuple[CompiledTransforms, ...]:
    """The training and the evaluation transforms of a recipe, for the sizes of a data set's images.

    Raises:
        ConfigError: They cannot be used.
        DataError: There is no data set at ``path``.
    """
    with open_dataset(path) as dataset:
        ids = bounded_sample(len(dataset), _DRAWN, seed)
        sizes = dataset.sizes(ids)
    known = (sizes > 0).all(axis=1)
    ids, sizes = ids[known], sizes[known]
    look = {"dtype": "float32", "mean": recipe.transforms.mean, "std": recipe.transforms.std}
    evaluation = eval_transforms(
        recipe.transforms.eval,
        size=recipe.eval.size,
        crop_ratio=recipe.eval.crop_ratio,
        **look,  # type: ignore[arg-type]
    )
    chains = {"training, epoch 0": epoch_transforms(recipe, "off", 0), "evaluation": evaluation}
    return tuple(_explain(name, chain, ids, sizes, recipe.train.seed) for name, chain in chains.items())


def _explain(
    name: str, chain: tuple[Transform, ...], ids: NDArray[np.int64], sizes: NDArray[np.int32], seed: int
) -> CompiledTransforms:
    plan = compile_plan(chain)
    draws = plan.draw(seed=seed, epoch=0, ids=ids, sizes=sizes)
    pitch = draws.box[:, 2:] / draws.grid
    shown = np.minimum(draws.window[:, 2:], draws.grid) * pitch
    area = shown.prod(axis=1)
    share = float((area / sizes.astype(np.float64).prod(axis=1)).mean()) if len(ids) else 0.0
    remaining = count_passes(draws)
    return CompiledTransforms(
        name=name,
        steps=tuple(zip(map(_written, chain), _become(chain), strict=True)),
        passes=sum(one.per_image for one in remaining),
        remaining=tuple((one.name, one.per_image) for one in remaining),
        result=_result(plan),
        source_share=share,
        enlarged_share=float((pitch < 1).any(axis=1).mean()) if len(ids) else 0.0,
    )


def _written(step: Transform) -> str:
    """The transform with those of its arguments that are not what it has by itself."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(step)).parameters.items()}
    values = {name: value for name, value in vars(step).items() if value != defaults.get(name)}
    arguments = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"{type(step).__name__}({arguments})"


def _become(chain: Sequence[Transform]) -> Iterator[str]:
    """What becomes of each transform of a chain."""
    sampled = worked = False
    for step in chain:
        kind = KINDS.get(type(step))
        geometric = kind is not None and kind.geometric
        if isinstance(step, ToDtype | Normalize):
            yield "part of the scale and bias with which a value is stored"
        elif kind is None:
            yield "done to finished batches"
        elif isinstance(step, Container) and any(inner.kind.geometric for inner in walk(number_steps([step]))):
            yield "what its parts become, where it is drawn"
            geometric = True
        elif isinstance(step, Identity):
            yield "nothing"
        elif kind.flips:
            yield "the direction in which rows are stored"
        elif not geometric or frames(step) or (worked and isinstance(step, _MAPS)):
            worked |= sampled or geometric
            yield "an operation on pixels, with its numbers drawn beforehand"
        elif isinstance(step, _MAPS):
            yield "part of one map, which is sampled once"
        else:
            yield "part of the one source box, grid and window"
        sampled |= geometric and not (kind is not None and kind.flips)


def _result(plan: AugmentPlan) -> str:
    output = plan.output
    filter_name = f"antialiased {output.interpolation}" if output.antialias else output.interpolation
    scaled = "" if output.dtype == "uint8" else ", scaled and shifted"
    return (
        f"the source box resampled once ({filter_name}) to {output.width} x {output.height} pixels{scaled}, "
        f"stored as {output.dtype}"
    )
