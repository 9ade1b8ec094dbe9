"""Several views of each image: the chain of each, and what was drawn for all of them as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws, Marks, Output, Warp
from fastload.augment.program import Code, Program
from fastload.errors import ConfigError
from fastload.transforms import Container, Transform
from fastload.transforms.views import Views


def split_views(chain: Sequence[Transform]) -> list[list[Transform]]:
    """The chain of each view; of one alone where nothing is said of views.

    Raises:
        ConfigError: A declaration of views does not stand first, or is not the only one.
    """
    first, rest = list(chain[:1]), list(chain[1:])
    views = [[*view, *rest] for view in first[0].chains()] if first and isinstance(first[0], Views) else [list(chain)]
    for step in _walk(step for view in views for step in view):
        if isinstance(step, Views):
            raise ConfigError(f"{type(step).__name__} must be the first transform: put the others into its views")
    return views


def _walk(steps: Iterable[Transform]) -> Iterable[Transform]:
    for step in steps:
        yield step
        if isinstance(step, Container):
            yield from _walk(step.transforms)


def check_alike(outputs: Sequence[Output]) -> None:
    """Raises ConfigError unless the values of all views have one type: they lie in one slot."""
    types = {output.dtype for output in outputs}
    if len(types) > 1:
        raise ConfigError(f"all views must have values of one type, but got {' and '.join(sorted(types))}")


def interleaved(views: Sequence[Draws]) -> Draws:
    """What was drawn for n samples in each of k views as n * k rows: all views of a sample, then those of the next."""
    parts: dict[str, Any] = {}
    for field in dataclasses.fields(Draws):
        values = [getattr(view, field.name) for view in views]
        given = next((value for value in values if value is not None), None)
        if isinstance(given, np.ndarray):
            parts[field.name] = _stacked([np.zeros_like(given) if value is None else value for value in values])
    warps = [view.warp for view in views]
    if any(warp is not None for warp in warps):
        parts["warp"] = _warps(warps, views)
    removed = [view.removed for view in views]
    if any(marks is not None for marks in removed):
        parts["removed"] = _marks(removed)
    offsets = np.cumsum([0, *(len(view.functions) for view in views)]).tolist()
    for name in ("before", "after"):
        programs = [_moved(getattr(view, name), offset) for view, offset in zip(views, offsets, strict=False)]
        if any(program is not None for program in programs):
            parts[name] = _programs(programs, len(views[0].ids))
    return Draws(**parts, functions=tuple(function for view in views for function in view.functions))


def _stacked(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    joined = np.stack(values, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def _warps(warps: Sequence[Warp | None], views: Sequence[Draws]) -> Warp:
    """All with as many maps as the longest has; where a view has none there is nothing to do."""
    flags = [field.name for field in dataclasses.fields(Warp) if field.name not in ("matrix", "size", "fill")]
    most = max(warp.matrix.shape[1] for warp in warps if warp is not None)
    rows: list[dict[str, Any]] = []
    for warp, view in zip(warps, views, strict=True):
        count, has = len(view.ids), 0 if warp is None else warp.matrix.shape[1]
        matrix = np.tile(np.eye(3), (count, most, 1, 1))
        size = np.ones((count, most, 2), np.int32)
        fill = np.zeros((count, most, 3))
        row = {name: np.zeros(count, np.bool_) for name in flags}
        if warp is not None:
            matrix[:, :has], size[:, :has], fill[:, :has] = warp.matrix, warp.size, warp.fill
            # What stands in further places is the identity, of the size of the output.
            size[:, has:] = view.window[:, None, 2:] if has == 0 else warp.size[:, -1:]
            row |= {name: getattr(warp, name) for name in flags if getattr(warp, name) is not None}
        rows.append({**row, "matrix": matrix, "size": size, "fill": fill})
    return Warp(**{name: _stacked([row[name] for row in rows]) for name in rows[0]})


def _marks(views: Sequence[Marks | None]) -> Marks:
    """All are about the same boxes of the same samples; where a view has none, none is marked."""
    given = next(marks for marks in views if marks is not None)
    counts = np.diff(given.start)
    start = np.concatenate(([0], np.cumsum(np.repeat(counts, len(views)))))
    flags = np.zeros(start[-1], np.bool_)
    for view, marks in enumerate(views):
        if marks is not None:
            begins = start[:-1].reshape(-1, len(views))[:, view]
            flags[np.arange(len(marks.flags)) + np.repeat(begins - marks.start[:-1], counts)] = marks.flags
    return Marks(start=start, flags=flags)


def _moved(program: Program | None, offset: int) -> Program | None:
    """A program whose functions stand behind ``offset`` others."""
    if program is None or offset == 0 or not (program.code == Code.LAMBDA).any():
        return program
    values = program.values.copy()
    values[program.code == Code.LAMBDA, 0] += offset
    return dataclasses.replace(program, values=values)


def _programs(programs: Sequence[Program | None], count: int) -> Program:
    lengths = np.zeros((count, len(programs)), np.int64)
    for view, program in enumerate(programs):
        if program is not None:
            lengths[:, view] = np.diff(program.start)
    start = np.concatenate(([0], np.cumsum(lengths.reshape(-1))))
    given = next(program for program in programs if program is not None)
    code = np.empty(start[-1], np.int64)
    values = np.empty((start[-1], given.values.shape[1]))
    for view, program in enumerate(programs):
        if program is not None:
            begins = start[:-1].reshape(count, -1)[:, view]
            places = np.arange(len(program.code)) + np.repeat(begins - program.start[:-1], lengths[:, view])
            code[places], values[places] = program.code, program.values
    return Program(start=start.astype(np.int64), code=code, values=values)
