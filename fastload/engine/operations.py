"""What every engine asks of the operations of a request: known codes, numbers in range, an order that makes sense."""

from __future__ import annotations

from typing import Final

import numpy as np

from fastload.augment.program import VALUES, Code, Program
from fastload.errors import ConfigError

_SIDE: Final = (-65_536.0, 65_536.0)
_LEVEL: Final = (0.0, 255.0)
_FILL: Final = (-1.0, 255.0)
_WORD: Final = (0.0, 2.0**32 - 1.0)
# What a factor may be at most: arithmetic in float32 stays finite by far.
_FACTOR: Final = (0.0, 1e6)
_ANY: Final = (-1e6, 1e6)
_RECTANGLE: Final = (_SIDE,) * 4

# Least and greatest of each number of an operation.
RANGES: Final[dict[Code, tuple[tuple[float, float], ...]]] = {
    Code.BRIGHTNESS: (_FACTOR,),
    Code.CONTRAST: (_FACTOR,),
    Code.SATURATION: (_FACTOR,),
    Code.HUE: ((-0.5, 0.5),),
    Code.GRAYSCALE: (),
    Code.INVERT: (),
    Code.POSTERIZE: ((0.0, 8.0),),
    Code.SOLARIZE: (_ANY,),
    Code.AUTOCONTRAST: (),
    Code.EQUALIZE: (),
    Code.SHARPNESS: (_FACTOR,),
    Code.GAMMA: ((0.0, 1e3), _ANY),
    Code.PERMUTE: ((0.0, 2.0),) * 3,
    Code.BLUR: ((1.0, 1025.0), (1.0, 1025.0), (1e-3, 1e4), (1e-3, 1e4)),
    Code.NOISE: (_ANY, _FACTOR, (0.0, 1.0), _WORD, _WORD),
    Code.JPEG: ((1.0, 100.0),),
    Code.WARP: ((0.0, 1.0), _FILL, _FILL, _FILL, *((-1e12, 1e12),) * 9),
    Code.ELASTIC: ((0.0, 1.0), _LEVEL, _LEVEL, _LEVEL, _ANY, _ANY, (0.0, 128.0), (0.0, 128.0), _WORD, _WORD),
    Code.ERASE: (*_RECTANGLE, _LEVEL, _LEVEL, _LEVEL),
    Code.ERASE_NOISE: (*_RECTANGLE, _WORD, _WORD),
    Code.ERASE_STORED: (*_RECTANGLE, *((-1e30, 1e30),) * 3),
    Code.SAVE: (),
    Code.RESTORE: (),
    Code.ADD: (_ANY,),
    Code.MIXED: (_ANY,),
    Code.COLOR_MATRIX: (_ANY,) * 12,
    Code.LAMBDA: ((0.0, 1e6), *((-1e300, 1e300),) * (VALUES - 1)),
    Code.FRAME: (*_RECTANGLE, (1.0, 3.0)),
}
_WHOLE: Final = frozenset({Code.POSTERIZE, Code.PERMUTE, Code.FRAME, Code.JPEG})
_STORED: Final = (int(Code.ERASE_NOISE), int(Code.ERASE_STORED))
_MIXING: Final = (int(Code.RESTORE), int(Code.ADD), int(Code.MIXED))


def check_operations(program: Program, count: int, name: str, num_functions: int = 0) -> None:
    """ConfigError unless a program is one for ``count`` samples whose every operation can be carried out.

    Args:
        program: The operations.
        count: Samples.
        name: What the message calls the program.
        num_functions: Functions of the user that it may name.
    """
    start, code, values = program.start, program.code, program.values
    if start.shape != (count + 1,) or start.dtype != np.int64 or code.ndim != 1 or code.dtype != np.int64:
        raise ConfigError(f"{name} must have {count + 1} int64 starts and int64 codes")
    if values.shape != (len(code), VALUES) or values.dtype != np.float64:
        raise ConfigError(f"{name} must have float64 values ({len(code)}, {VALUES}), not {values.shape} {values.dtype}")
    if start[0] != 0 or start[-1] != len(code) or np.any(np.diff(start) < 0):
        raise ConfigError(f"the starts of {name} must rise from 0 to the number of its operations, {len(code)}")
    for number in np.unique(code).tolist():
        _check_numbers(number, values[code == number], name)
    called = code == Code.LAMBDA
    if called.any() and values[called, 0].max() >= num_functions:
        raise ConfigError(f"{name} calls function {values[called, 0].max():g} of {num_functions}")
    _check_order(program, name)


def _check_numbers(number: int, rows: np.ndarray[tuple[int, int], np.dtype[np.float64]], name: str) -> None:
    ranges = RANGES.get(Code(number)) if number in Code._value2member_map_ else None
    if ranges is None:
        raise ConfigError(f"operation {_title(number)} of {name} is not one that this engine carries out")
    low, high = (np.array([limits[end] for limits in ranges]) for end in (0, 1))
    used = rows[:, : len(ranges)]
    # Written so that NaN fails.
    good = (used >= low) & (used <= high)
    if not good.all():
        row, column = (int(place) for place in np.argwhere(~good)[0])
        raise ConfigError(
            f"number {column} of operation {_title(number)} of {name} must lie between {low[column]:g} and "
            f"{high[column]:g}, not {used[row, column]:g}"
        )
    if Code(number) in _WHOLE and np.any(used != np.rint(used)):
        raise ConfigError(f"operation {_title(number)} of {name} takes whole numbers")
    if Code(number) is Code.BLUR and np.any(used[:, :2] % 2 != 1):
        raise ConfigError(f"the kernels of operation {_title(number)} of {name} must have odd sizes")


def _check_order(program: Program, name: str) -> None:
    """Stored values are erased last, and sums are of a chain that was begun."""
    code, count = program.code, len(program.start) - 1
    sample = np.repeat(np.arange(count), np.diff(program.start))
    stored = np.isin(code, _STORED)
    follows = sample[1:] == sample[:-1]
    if np.any(stored[:-1] & ~stored[1:] & follows):
        raise ConfigError(f"in {name} nothing but another erasing may follow one that erases stored values")
    if not np.isin(code, (*_MIXING, int(Code.SAVE))).any():
        return
    # 1 between a SAVE and its MIXED, 0 elsewhere: counted over all samples, back at 0 where a sample ends.
    step = (code == Code.SAVE).astype(np.int64) - (code == Code.MIXED)
    depth = np.cumsum(step)
    inside = depth - step
    bad = np.isin(code, _MIXING) & (inside != 1) | (code == Code.SAVE) & (inside != 0)
    ends = program.start[1:][np.diff(program.start) > 0] - 1
    if bad.any() or np.any(depth[ends] != 0):
        raise ConfigError(f"in {name} each SAVE must be followed by its chains and one MIXED, without another between")


def _title(number: int) -> str:
    return Code(number).name if number in Code._value2member_map_ else str(number)


def check_of_levels(program: Program, name: str) -> None:
    """ConfigError where stored values are erased before there are any."""
    if np.isin(program.code, _STORED).any():
        raise ConfigError(f"{name} is about levels: stored values can be erased only at the end")
