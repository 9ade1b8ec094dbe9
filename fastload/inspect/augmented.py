"""What a recipe makes of samples: drawn by the Loader itself, with the recipe's transforms and its seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastload.augment import Draws, Output, compile_plan
from fastload.dataset import Dataset
from fastload.errors import DataError
from fastload.inspect.pictures import Box, Picture, small, take_picture
from fastload.loader import Loader
from fastload.recipe import Recipe
from fastload.train.data import epoch_transforms

_MOST_EPOCHS: Final = 4


@dataclass(frozen=True, kw_only=True)
class AugmentedRow:
    """One sample.

    Attributes:
        original: The sample, with the part that each epoch takes as a box with the epoch's number.
        epochs: Numbers of the epochs.
        images: What the network gets in each, as pixels again.
    """

    original: Picture
    epochs: tuple[int, ...]
    images: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True)
class Augmented:
    """What the recipe makes of some samples; ``title`` says with which seed."""

    title: str
    rows: tuple[AugmentedRow, ...]


def augment_samples(
    dataset: Dataset, ids: Sequence[int], recipe: Recipe, progress: Callable[[int, int], None]
) -> Augmented:
    """Draws samples ``ids`` as the first four epochs (or all, if they are fewer) of a training would see them.

    A sample that cannot be delivered is left out.
    """
    epochs = tuple(range(min(recipe.train.epochs, _MOST_EPOCHS)))
    images: dict[tuple[int, int], Image.Image] = {}
    boxes: dict[tuple[int, int], Box] = {}
    loader = Loader(
        dataset,
        batch_size=1,
        transforms=epoch_transforms(recipe, "off", 0),
        shuffle=False,
        engine="cpu",
        seed=recipe.train.seed,
        num_workers=1,
        rank=0,
        world_size=1,
        prefetch=1,
    )
    with loader:
        for epoch in epochs:
            transforms = epoch_transforms(recipe, "off", epoch)
            plan = compile_plan(transforms)
            loader.set_transforms(transforms)
            state = _state_within(loader, epoch)
            numbers = np.array(ids, np.int64)
            draws = plan.draw(seed=recipe.train.seed, epoch=epoch, ids=numbers, sizes=dataset.sizes(numbers))
            for place, number in enumerate(ids):
                pixels = _deliver(loader, {**state, "batch": number}, plan.output)
                if pixels is not None:
                    images[number, epoch] = small(pixels)
                    boxes[number, epoch] = taken_box(draws, place)
                progress(epoch * len(ids) + place + 1, len(epochs) * len(ids))
    rows = [_row(dataset, number, epochs, images, boxes) for number in ids if (number, epochs[-1]) in images]
    return Augmented(title=f"What the recipe makes of samples, seed {recipe.train.seed}", rows=tuple(rows))


def _row(
    dataset: Dataset,
    number: int,
    epochs: tuple[int, ...],
    images: dict[tuple[int, int], Image.Image],
    boxes: dict[tuple[int, int], Box],
) -> AugmentedRow:
    return AugmentedRow(
        original=take_picture(dataset, number, {str(epoch): boxes[number, epoch] for epoch in epochs}),
        epochs=epochs,
        images=tuple(images[number, epoch] for epoch in epochs),
    )


def _state_within(loader: Loader, epoch: int) -> dict[str, Any]:
    """A state of the Loader in ``epoch``, for any batch: unshuffled and one by one, batch n is sample n."""
    loader.set_epoch(epoch)
    iteration = iter(loader)  # the position has the digest of the transforms from then on
    state = loader.state_dict()
    iteration.close("only its position was wanted")
    return state


def _deliver(loader: Loader, state: dict[str, Any], output: Output) -> NDArray[np.uint8] | None:
    """The sample at a position as grey levels again, height x width x 3; None if it cannot be delivered."""
    loader.load_state_dict(state)
    try:
        images = next(iter(loader)).images
    except DataError:
        return None
    values: NDArray[np.float32] = images[0].permute(1, 2, 0).float().numpy()
    levels = (values - np.array(output.bias, np.float32)) / np.array(output.scale, np.float32)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def taken_box(draws: Draws, row: int) -> Box:
    """Left, top, right, bottom of the source pixels that an output shows."""
    top, left, height, width = draws.box[row].tolist()
    down, across = height / draws.grid[row, 0], width / draws.grid[row, 1]
    first_row, first_column, rows, columns = draws.window[row].tolist()
    return (
        left + max(first_column, 0) * across,
        top + max(first_row, 0) * down,
        min(left + (first_column + columns) * across, left + width),
        min(top + (first_row + rows) * down, top + height),
    )
