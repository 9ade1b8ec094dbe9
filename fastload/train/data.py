"""What feeds a run: the Loaders of a recipe's data sets, or synthetic data in their place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastload.batch import Batch
from fastload.dataset import Dataset, open_dataset
from fastload.loader import Loader
from fastload.recipe import Recipe
from fastload.remote import is_url, local_path
from fastload.train.distributed import World
from fastload.train.feed import Feed
from fastload.train.images import eval_transforms, train_transforms
from fastload.train.labels import check_classes
from fastload.train.schedule import resolution_at
from fastload.train.stepper import Precision
from fastload.train.synthetic import SyntheticFeed, synthetic_batch
from fastload.transforms import Transform

# Classes of synthetic data where the recipe does not say: ImageNet's.
_SYNTHETIC_CLASSES = 1000

INPUT_DTYPES: dict[Precision, str] = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, kw_only=True)
class Data:
    """What feeds a run, and what is known about it.

    Attributes:
        train, val: This process's share.
        train_samples, val_samples: Of all processes.
        classes: Name of each class, in label order.
        num_classes: Outputs of the network.
        fingerprints: Of the two data sets; a run is resumed on equal ones alone.
    """

    train: Feed
    val: Feed
    train_samples: int
    val_samples: int
    classes: tuple[str, ...]
    num_classes: int
    fingerprints: tuple[str, str]


def open_data(recipe: Recipe, place: World, precision: Precision, stack: ExitStack) -> Data:
    """Opens what a run reads, or makes what stands for it; the stack closes it.

    Raises:
        ConfigError: The data sets do not fit each other or the network.
        DataError: A data set is missing, damaged or empty.
    """
    if recipe.data.synthetic:
        return _synthetic_data(recipe, place, precision)
    datasets = [
        stack.enter_context(
            open_dataset(
                path if is_url(path) else Path(local_path(path)).expanduser(),
                verify=recipe.data.verify,
                cache_dir=recipe.data.cache_dir,
                cache_bytes=recipe.data.cache_bytes,
            )
        )
        for path in (recipe.data.train, recipe.data.val)
    ]
    classes, num_classes = check_classes(*datasets, num_classes=recipe.model.num_classes)
    train_loader, val_loader = (stack.enter_context(item) for item in _loaders(recipe, datasets, place, precision))
    return Data(
        train=train_loader,
        val=val_loader,
        train_samples=len(datasets[0]),
        val_samples=len(datasets[1]),
        classes=classes,
        num_classes=num_classes,
        fingerprints=(datasets[0].fingerprint, datasets[1].fingerprint),
    )


def _synthetic_data(recipe: Recipe, place: World, precision: Precision) -> Data:
    num_classes = recipe.model.num_classes or _SYNTHETIC_CLASSES
    eval_rows = recipe.eval.batch_size or recipe.train.batch_size

    def feed(samples: int, rows: int, side: Callable[[int], int]) -> SyntheticFeed:
        return SyntheticFeed(
            samples,
            rows,
            world=place,
            make=lambda side, first_id: resident_batch(recipe, place, precision, num_classes, rows, side, first_id),
            side=side,
        )

    return Data(
        train=feed(
            recipe.data.synthetic_samples, recipe.train.batch_size, lambda epoch: epoch_resolution(recipe, epoch)
        ),
        # An evaluation has nothing to find: one batch, so that a run does all that it does.
        val=feed(eval_rows * place.size, eval_rows, lambda epoch: recipe.eval.size),
        train_samples=recipe.data.synthetic_samples,
        val_samples=eval_rows * place.size,
        classes=tuple(str(number) for number in range(num_classes)),
        num_classes=num_classes,
        fingerprints=("synthetic", "synthetic"),
    )


def resident_batch(
    recipe: Recipe, place: World, precision: Precision, num_classes: int, rows: int, side: int, first_id: int = 0
) -> Batch:
    """Random pixels of the form that the recipe's network takes, on the device of ``place``."""
    return synthetic_batch(
        rows,
        side,
        num_classes=num_classes,
        dtype=getattr(torch, INPUT_DTYPES[precision]),
        channels_last=recipe.model.channels_last,
        device=place.device,
        first_id=first_id,
    )


def _loaders(recipe: Recipe, datasets: list[Dataset], place: World, precision: Precision) -> tuple[Loader, Loader]:
    common: dict[str, Any] = {
        "engine": recipe.data.engine,
        "device": place.device if place.device.type == "cuda" else None,
        "num_workers": recipe.data.num_workers,
        "on_error": recipe.data.on_error,
        "rank": place.rank,
        "world_size": place.size,
        "prefetch": recipe.data.prefetch,
        "memory_format": "channels_last" if recipe.model.channels_last else "contiguous",
        "seed": recipe.train.seed,
    }
    look = {
        "dtype": INPUT_DTYPES[precision],
        "mean": recipe.transforms.mean,
        "std": recipe.transforms.std,
    }
    evaluation = eval_transforms(
        recipe.transforms.eval,
        size=recipe.eval.size,
        crop_ratio=recipe.eval.crop_ratio,
        **look,  # type: ignore[arg-type]
    )
    train_loader = Loader(
        datasets[0],
        batch_size=recipe.train.batch_size,
        transforms=epoch_transforms(recipe, precision, 0),
        shuffle=recipe.data.shuffle,
        last_batch=recipe.data.last_batch,
        repeats=recipe.data.repeats,
        **common,
    )
    val_loader = Loader(
        datasets[1],
        batch_size=recipe.eval.batch_size or recipe.train.batch_size,
        transforms=evaluation,
        shuffle=False,
        last_batch="pad",
        **common,
    )
    return train_loader, val_loader


def epoch_transforms(recipe: Recipe, precision: Precision, epoch: int) -> tuple[Transform, ...]:
    """What an epoch of training does to an image, conversion and normalisation included."""
    return train_transforms(
        recipe.transforms.train,
        size=epoch_resolution(recipe, epoch),
        dtype=INPUT_DTYPES[precision],
        mean=recipe.transforms.mean,
        std=recipe.transforms.std,
    )


def epoch_resolution(recipe: Recipe, epoch: int) -> int:
    """Side of the training images of an epoch, in pixels."""
    side = recipe.resolution
    return resolution_at(
        epoch,
        smallest=side.min,
        largest=side.max,
        ramp_start=side.ramp_start,
        ramp_end=side.ramp_end,
        multiple=side.multiple,
    )
