"""The targets of a batch in the form that the user asked for: a list of dicts, or one dict of padded tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Rows = Sequence[Mapping[str, Any]]
Cut = Callable[[Mapping[str, torch.Tensor]], Any]


@dataclass(frozen=True, eq=False)
class TargetBatch:
    """Targets as few large arrays, which go to a device in as few copies, and what cuts them up there.

    Attributes:
        arrays: By field.
        cut: Makes what the user gets, of tensors by field.
    """

    arrays: Mapping[str, NDArray[Any]]
    cut: Cut

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The arrays as tensors, without a copy."""
        return tuple(torch.from_numpy(array) for array in self.arrays.values())

    def finish(self, tensors: Sequence[torch.Tensor]) -> Any:
        """What the user gets, of :meth:`tensors` or of their copies elsewhere."""
        return self.cut(dict(zip(self.arrays, tensors, strict=True)))


def as_list(rows: Rows, empty: Mapping[str, NDArray[Any]]) -> TargetBatch:
    """Targets as a list of dicts: a tensor of k objects for each field that has an entry for each object.

    Args:
        rows: Fields of each sample.
        empty: Fields that have an entry for each object: none of them.
    """
    objects = {name: _objects(rows, name, nothing) for name, nothing in empty.items()}
    arrays = {name: np.concatenate([nothing, *parts]) for name, (nothing, parts) in objects.items()}
    counts = {name: [len(part) for part in parts] for name, (_, parts) in objects.items()}
    owners = {name: [row for row, fields in enumerate(rows) if name in fields] for name in _images(rows, empty)}
    for name, having in owners.items():
        arrays[name] = _stacked([rows[row][name] for row in having])
    plain = [
        {name: value for name, value in fields.items() if not isinstance(value, np.ndarray) and value is not None}
        for fields in rows
    ]

    def cut(tensors: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        targets: list[dict[str, Any]] = [{} for _ in plain]
        for name, lengths in counts.items():
            for target, part in zip(targets, torch.split(tensors[name], lengths), strict=True):
                target[name] = part
        for name, having in owners.items():
            for row, part in zip(having, tensors[name], strict=True):
                targets[row][name] = part
        return [{**target, **values} for target, values in zip(targets, plain, strict=True)]

    return TargetBatch(arrays, cut)


def as_padded(rows: Rows, empty: Mapping[str, NDArray[Any]], *, fill: int) -> TargetBatch:
    """Targets as one dict of tensors (N, most objects, ...), (N, height, width) or (N,), and ``count``, int64 (N,).

    Args:
        rows, empty: As for :func:`as_list`.
        fill: Value of the masks of samples that have none, where others have one.
    """
    arrays: dict[str, NDArray[Any]] = {}
    if empty:
        counts = [len(fields.get(next(iter(empty)), ())) for fields in rows]
        arrays["count"] = np.array(counts, np.int64)
        for name, nothing in empty.items():
            template, parts = _objects(rows, name, nothing)
            padding = -1 if name == "labels" else 0
            arrays[name] = np.full((len(rows), max(counts, default=0), *template.shape[1:]), padding, template.dtype)
            for row, part in enumerate(parts):
                arrays[name][row, : len(part)] = part
    for name in _images(rows, empty):
        shape = next(fields[name].shape for fields in rows if name in fields)
        arrays[name] = _stacked([fields.get(name, np.full(shape, fill, np.uint8)) for fields in rows])
    values: dict[str, list[Any]] = {}
    plain = (name for fields in rows for name, value in fields.items() if not isinstance(value, np.ndarray))
    for name in dict.fromkeys(plain):
        column = [fields.get(name) for fields in rows]
        if all(type(value) in (int, float) for value in column):
            arrays[name] = np.array(column)
        else:
            values[name] = column
    return TargetBatch(arrays, lambda tensors: {**tensors, **values})


def together(batches: Sequence[TargetBatch]) -> TargetBatch:
    """The targets of several views as one: the user gets a tuple."""
    names = [(place, name) for place, batch in enumerate(batches) for name in batch.arrays]

    def cut(tensors: Mapping[str, torch.Tensor]) -> tuple[Any, ...]:
        parts: list[dict[str, torch.Tensor]] = [{} for _ in batches]
        for (place, name), tensor in zip(names, tensors.values(), strict=True):
            parts[place][name] = tensor
        return tuple(batch.cut(part) for batch, part in zip(batches, parts, strict=True))

    return TargetBatch({f"{place} {name}": batches[place].arrays[name] for place, name in names}, cut)


def _images(rows: Rows, empty: Mapping[str, NDArray[Any]]) -> list[str]:
    """Fields that are one image for a sample."""
    names = dict.fromkeys(name for fields in rows for name, value in fields.items() if isinstance(value, np.ndarray))
    return [name for name in names if name not in empty]


def _objects(rows: Rows, name: str, nothing: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """None of the objects, in the shape that they have in these rows, and those of each row."""
    parts = [fields.get(name, nothing) for fields in rows]
    template = next((part[:0] for part in parts if len(part)), nothing)
    return template, [part if len(part) else template for part in parts]


def _stacked(images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One array of all; 8 and 32 bits together are 32."""
    return np.stack(images).astype(np.result_type(*images), copy=False)
