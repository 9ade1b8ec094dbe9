"""Declarations of several views of each image, decoded from one read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastload.errors import ConfigError
from fastload.transforms.base import Transform, check_range, check_side, is_integer
from fastload.transforms.containers import Container, branches, flatten
from fastload.transforms.geometry import RandomResizedCrop

# Views of an image at most: DINO has 12.
MAX_VIEWS = 64


class Views(Container, ABC):
    """Several views of each image: ``chains`` says what makes each of them."""

    @abstractmethod
    def chains(self) -> tuple[tuple[Transform, ...], ...]:
        """The transforms of each view."""


@dataclass(frozen=True, init=False)
class MultiView(Views):
    """Makes a view of each image with each of several chains: ``batch.images`` becomes a tuple of tensors.

    Stands first; what follows is done to every view. Views are drawn independently of each other, may have different
    sizes, and have one type of values. The file is read once, and pixels that several views need are decoded once.
    Where targets are asked for, ``batch.targets`` is a tuple as well.

    Args:
        transforms: A list of transforms for each view, at least one.

    Raises:
        ConfigError: transforms is empty or holds something else.
    """

    transforms: tuple[Transform, ...]

    def __init__(self, transforms: Sequence[Transform | Sequence[Transform]]) -> None:
        views = branches(transforms, owner=self._name())
        if len(views) > MAX_VIEWS:
            raise ConfigError(f"{self._name()}: an image can have at most {MAX_VIEWS} views, but got {len(views)}")
        self._assign(transforms=views)

    def chains(self) -> tuple[tuple[Transform, ...], ...]:
        return tuple(tuple(flatten(view)) for view in self.transforms)


@dataclass(frozen=True, init=False)
class MultiCrop(Views):
    """Random crops of each image, some large and some small, as SwAV and DINO train on them.

    ``batch.images`` becomes a tuple of tensors, those of the first size first (and so ``batch.targets``). Stands first;
    each view is a RandomResizedCrop, then ``transforms``, then what follows, drawn for each view anew. The defaults are
    DINO's: 2 crops of 224 pixels and 8 of 96.

    Args:
        size: Side of the crops, one for each group.
        count: How many crops there are of each size.
        scale: Least and greatest share of the image's area, a pair for each size.
        transforms: What is done to each crop.

    Raises:
        ConfigError: An argument is not as above.
    """

    size: tuple[int, ...]
    count: tuple[int, ...]
    scale: tuple[tuple[float, float], ...]
    transforms: tuple[Transform, ...]

    def __init__(
        self,
        size: Sequence[int] = (224, 96),
        count: Sequence[int] = (2, 8),
        scale: Sequence[Sequence[float]] = ((0.4, 1.0), (0.05, 0.4)),
        transforms: Sequence[Transform] = (),
    ) -> None:
        owner = self._name()
        given: dict[str, Any] = {"size": size, "count": count, "scale": scale}
        for name, value in given.items():
            if not isinstance(value, Sequence) or isinstance(value, str) or not value or len(value) != len(size):
                raise ConfigError(f"{owner}: {name} must be a list with an entry for each size, but got {value!r}")
        if any(not is_integer(number) or number < 1 for number in count) or sum(count) > MAX_VIEWS:
            raise ConfigError(f"{owner}: count must be whole numbers, {MAX_VIEWS} crops at most, but got {count!r}")
        self._assign(
            size=tuple(check_side(side, owner=owner, name="size") for side in size),
            count=tuple(map(int, count)),
            scale=tuple(check_range(pair, owner=owner, name="scale") for pair in scale),
            transforms=tuple(flatten(transforms)),
        )

    def chains(self) -> tuple[tuple[Transform, ...], ...]:
        groups: list[Any] = []
        for side, count, scale in zip(self.size, self.count, self.scale, strict=True):
            groups += [(RandomResizedCrop(side, scale=scale), *self.transforms)] * count
        return tuple(groups)
