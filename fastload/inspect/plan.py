"""What a recipe's transforms are compiled to, and what that leaves to do for each image."""

from __future__ import annotations

import inspect
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastload.augment import AugmentPlan, compile_plan
from fastload.augment.registry import KINDS, number_steps, walk
from fastload.dataset import open_dataset
from fastload.inspect.examine import bounded_sample
from fastload.recipe import Recipe
from fastload.train.data import epoch_transforms
from fastload.train.images import eval_transforms
from fastload.transforms import Container, Normalize, RandomHorizontalFlip, ToDtype, Transform

# Crops are drawn for so many samples: their mean share of the pixels is then known to a percent.
_DRAWN = 2000


@dataclass(frozen=True, kw_only=True)
class CompiledTransforms:
    """One chain of transforms, compiled.

    Attributes:
        name: ``training, epoch 0`` or ``evaluation``.
        steps: Each transform as it was written, and what becomes of it.
        passes: Passes over pixels that remain after decoding.
        result: What these passes do.
        source_share: Part of the source pixels that an image needs on average, 0 to 1.
        enlarged_share: Part of the images whose crop has fewer pixels than the output, so that it is enlarged.
    """

    name: str
    steps: tuple[tuple[str, str], ...]
    passes: int
    result: str
    source_share: float
    enlarged_share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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
    return CompiledTransforms(
        name=name,
        steps=tuple((_written(step), _becomes(step)) for step in chain),
        # Everything that compile_plan takes is one resampling with a scale and a bias: it refuses the rest.
        passes=1,
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


def _becomes(step: Transform) -> str:
    if isinstance(step, ToDtype | Normalize):
        return "part of the scale and bias with which a value is stored"
    if isinstance(step, Container) and any(inner.kind.geometric for inner in walk(number_steps([step]))):
        return "what its parts become, where it is drawn"
    if not KINDS[type(step)].geometric:
        return "an operation on pixels, with its numbers drawn beforehand"
    if isinstance(step, RandomHorizontalFlip):
        return "the direction in which a row is stored"
    return "part of the one source box, grid and window"


def _result(plan: AugmentPlan) -> str:
    output = plan.output
    filter_name = f"antialiased {output.interpolation}" if output.antialias else output.interpolation
    scaled = "" if output.dtype == "uint8" else ", scaled and shifted"
    return (
        f"the source box resampled once ({filter_name}) to {output.width} x {output.height} pixels{scaled}, "
        f"stored as {output.dtype}"
    )
