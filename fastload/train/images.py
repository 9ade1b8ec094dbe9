"""The transforms of a recipe: sizes filled in, conversion and normalisation appended."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from fastload.errors import ConfigError
from fastload.transforms import Transform, from_config
from fastload.transforms.config import REGISTRY
from fastload.transforms.mixing import BatchTransform

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
    return any(_with_size(entry, 1) != _normal(entry) for entry in entries)


def _normal(entry: Entry) -> dict[str, dict[str, Any]]:
    if isinstance(entry, str):
        return {entry: {}}
    return {name: dict(arguments or {}) for name, arguments in entry.items()}


def _with_size(entry: Entry, size: int) -> dict[str, dict[str, Any]]:
    normal = _normal(entry)
    for name, arguments in normal.items():
        declaration = REGISTRY.get(name)
        if declaration is None or "size" in arguments:
            continue
        parameter = inspect.signature(declaration).parameters.get("size")
        if parameter is not None and parameter.default is inspect.Parameter.empty:
            arguments["size"] = size
    return normal


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
        places = [place for place, step in enumerate(steps) if isinstance(step, BatchTransform)]
        end = places[0] if places else len(steps)
        if path != "transforms.train" and places:
            raise ConfigError(f"transforms[{end}]: {steps[end]} is for training only: leave it out")
        return (*steps[:end], *from_config(normalise), *steps[end:])
    except ConfigError as error:
        raise ConfigError(re.sub(r"^transforms\[(\d+)\]", rf"{path}.\1", str(error))) from None
