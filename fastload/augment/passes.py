"""How many passes over the pixels remain of what was drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from fastload.augment.parameters import Draws
from fastload.augment.program import Code, Program

# What changes each level by itself: several in a row are composed in one table, which is looked up once.
_TABLES: Final = (
    Code.AUTOCONTRAST,
    Code.BRIGHTNESS,
    Code.CONTRAST,
    Code.EQUALIZE,
    Code.GAMMA,
    Code.INVERT,
    Code.POSTERIZE,
    Code.SOLARIZE,
)
# The image is kept or put back as it is: no work on pixels worth a pass.
_FREE: Final = (Code.SAVE, Code.RESTORE)


@dataclass(frozen=True)
class Pass:
    """One kind of pass that writes the pixels of an image, and how many of it an image gets on average."""

    name: str
    per_image: float


def count_passes(draws: Draws) -> tuple[Pass, ...]:
    """The passes over pixels that remain after decoding, in order; none for an empty batch."""
    count = len(draws.ids)
    if not count:
        return ()
    passes = [*_of_program("before: ", draws.before, count), Pass("resample", 1.0)]
    busy = np.zeros(count, np.bool_)
    if draws.pad is not None:
        window = draws.window
        busy |= ((window[:, :2] < 0) | (window[:, :2] + window[:, 2:] > draws.grid)).any(axis=1)
    if draws.warp is not None:
        busy |= draws.warp.active
        passes.append(Pass("map", float(draws.warp.active.mean())))
    passes += _of_program("", draws.after, count)
    for program in (draws.before, draws.after):
        if program is not None:
            busy |= np.diff(program.start) > 0
    if busy.any():  # elsewhere the resampling stores what it makes
        passes.append(Pass("store", float(busy.mean())))
    return tuple(passes)


def _of_program(prefix: str, program: Program | None, count: int) -> list[Pass]:
    if program is None:
        return []
    sample = np.repeat(np.arange(count), np.diff(program.start))
    table = np.isin(program.code, _TABLES)
    goes_on = np.zeros(len(table), np.bool_)
    goes_on[1:] = table[1:] & table[:-1] & (sample[1:] == sample[:-1])
    counted = ~goes_on & ~np.isin(program.code, _FREE)
    names = [
        "table of levels" if one else Code(int(code)).name.lower()
        for code, one in zip(program.code[counted], table[counted], strict=True)
    ]
    return [Pass(prefix + name, times / count) for name, times in Counter(names).most_common()]
