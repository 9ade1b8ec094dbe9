"""The transforms of a recipe: sizes filled in, conversion and normalisation appended."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from fastload.errors import ConfigError
from fastload.transforms import Container, Transform, from_config
from fastload.transforms.config import REGISTRY
from fastload.transforms.mixing import on_batches
from fastload.transforms.views import Views

Entry = str | dict[str, dict[str, Any] | None]


def train_transforms(
    entries: Sequence[Entry], *, size: int, dtype: str, mean: Sequence[float], std: Sequence[float]
) -> tuple[Transform, ...]:
    """Training transforms for images of ``size`` pixels; an entry that needs a size and has none gets it.

    Raises:
        ConfigError: An entry cannot be used; with its path in the recipe.
    """
    return _build("transforms.train", [_with_size(entry, size) for entry in entries], dtype=dtype, mean=mean, std=std)


def eval_transforms(
    entries: Sequence[Entry] | None,
    *,
    size: int,
    crop_ratio: float,
    dtype: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> tuple[Transform, ...]:
    """Evaluation transforms: those given, or the shorter side to size / crop_ratio and the middle cut out."""
    if entries is None:
        entries = [{"Resize": {"size": round(size / crop_ratio)}}, {"CenterCrop": {"size": size}}]
    return _build("transforms.eval", [_with_size(entry, size) for entry in entries], dtype=dtype, mean=mean, std=std)


def takes_size(entries: Sequence[Entry]) -> bool:
    """Whether the resolution of the epoch changes anything."""
    return any(_with_size(entry, 1) != _with_size(entry, 2) for entry in entries)


def _with_size(entry: Any, size: int) -> Any:
    """An entry, and those within it, with the size that they lack; what is no entry stays, for from_config to name."""
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict):
        return entry
    filled: dict[str, Any] = {}
    for name, given in entry.items():
        declaration = REGISTRY.get(name)
        filled[name] = given
        if declaration is None or not (given is None or isinstance(given, dict)):
            continue
        arguments = dict(given or {})
        if issubclass(declaration, Container) and isinstance(arguments.get("transforms"), list):
            arguments["transforms"] = [_with_size(inner, size) for inner in arguments["transforms"]]
        parameter = inspect.signature(declaration).parameters.get("size")
        if parameter is not None and parameter.default is inspect.Parameter.empty:
            arguments.setdefault("size", size)
        filled[name] = arguments
    return filled


def _build(
    path: str, entries: Sequence[Any], *, dtype: str, mean: Sequence[float], std: Sequence[float]
) -> tuple[Transform, ...]:
    for place, entry in enumerate(entries):
        for name in entry:
            if name in ("Normalize", "ToDtype"):
                raise ConfigError(
                    f"{path}.{place}: {name} is appended by itself: say transforms.mean, transforms.std or train.amp"
                )
    normalise: list[dict[str, dict[str, Any]]] = [
        {"ToDtype": {"dtype": dtype, "scale": True}},
        {"Normalize": {"mean": list(mean), "std": list(std)}},
    ]
    try:
        steps = from_config(entries)
        if any(isinstance(step, Views) for step in steps):
            raise ConfigError("transforms[0]: training takes one view of each image: leave MultiView and MultiCrop out")
        places = [place for place, step in enumerate(steps) if on_batches(step)]
        end = places[0] if places else len(steps)
        if path != "transforms.train" and places:
            raise ConfigError(f"transforms[{end}]: {steps[end]} is for training only: leave it out")
        return (*steps[:end], *from_config(normalise), *steps[end:])
    except ConfigError as error:
        raise ConfigError(_with_path(str(error), path)) from None


def _with_path(message: str, path: str) -> str:
    """``transforms[0].Resize.transforms[1]: ...`` as an override would name the place."""
    place, rest = re.fullmatch(r"transforms((?:\[\d+\]|\.\w+)*)(.*)", message, re.DOTALL).groups()  # type: ignore[union-attr]
    return path + re.sub(r"\[(\d+)\]", r".\1", place) + rest
