"""What every engine asks of an output, a slot and a request before it works on them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws, DType, Output
from fastload.dataset.base import Dataset
from fastload.engine.base import OpenSlot, Request
from fastload.engine.operations import check_of_levels, check_operations
from fastload.errors import ConfigError

# How values lie in a slot: numpy has no bfloat16, its bits are uint16.
STORAGE: Final[dict[DType, np.dtype[np.generic]]] = {
    "uint8": np.dtype(np.uint8),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),
    "float32": np.dtype(np.float32),
}
_MAX_OUTPUT_SIDE: Final = 16_384
_MAX_MAPS: Final = 64


def check_output(output: Output) -> None:
    """ConfigError for an output that no engine can make."""
    for view in output.views:
        _check_view(view)
        if (view.dtype, view.memory_format) != (output.dtype, output.memory_format):
            raise ConfigError("all views must have values of one type, in one memory format")


def _check_view(output: Output) -> None:
    if not (1 <= output.height <= _MAX_OUTPUT_SIDE and 1 <= output.width <= _MAX_OUTPUT_SIDE):
        raise ConfigError(
            f"an output of 1 to {_MAX_OUTPUT_SIDE} pixels a side was expected, not {output.height} x {output.width}"
        )
    if output.dtype == "uint8" and (output.scale != (1.0, 1.0, 1.0) or output.bias != (0.0, 0.0, 0.0)):
        raise ConfigError("uint8 output is stored as it is: scale must be 1 and bias 0, or choose a float type")
    if any(abs(number) > 1e30 or number != number for number in (*output.scale, *output.bias)):
        raise ConfigError(f"scale and bias must be finite, not {output.scale} and {output.bias}")


def check_slot(images: NDArray[Any] | OpenSlot, output: Output) -> NDArray[Any]:
    """``images``; ConfigError unless it is an array of the shape, type and memory layout that ``output`` asks for."""
    if isinstance(images, OpenSlot):
        raise ConfigError("a slot with memory was expected, not an OpenSlot: this engine fills what it is given")
    if images.ndim != 1 + len(output.shape) or images.shape[1:] != output.shape:
        raise ConfigError(f"a slot of shape (rows, *{output.shape}) was expected, not {images.shape}")
    if images.dtype != STORAGE[output.dtype]:
        raise ConfigError(f"a slot of {STORAGE[output.dtype]} was expected for {output.dtype}, not {images.dtype}")
    if not images.flags.c_contiguous or not images.flags.writeable or not images.flags.aligned:
        raise ConfigError("a slot must be C-contiguous, aligned and writeable: use numpy.empty or the loader's ring")
    return images


def check_request(request: Request, slot_rows: int | None, output: Output, dataset: Dataset) -> None:
    """ConfigError unless a planned request fits its slot, the output and the data.

    Args:
        request: What was planned.
        slot_rows: Rows of the slot; None for one without memory, whose rows the request names itself.
        output: The form of every image.
        dataset: Where the samples are.
    """
    draws, rows = request.draws, request.rows
    count = len(rows)
    if rows.shape != (count,) or rows.dtype.kind != "i":
        raise ConfigError(f"the planned rows must have shape ({count},), not {rows.shape} of {rows.dtype}")
    check_draws(draws, count * len(output.views), output, dataset)
    num_rows = 1 + int(rows.max(initial=0)) if slot_rows is None else slot_rows
    if count and not (rows.min() >= 0 and rows.max() < num_rows and len(np.unique(rows)) == count):
        raise ConfigError(f"the planned rows must be distinct rows of the slot, which has {num_rows}")


def check_draws(draws: Draws, count: int, output: Output, dataset: Dataset) -> None:
    """ConfigError unless ``count`` rows of parameters, one for each view of a sample, fit the output and the data."""
    for name, array, shape, kind in (
        ("ids", draws.ids, (count,), "i"),
        ("box", draws.box, (count, 4), "f"),
        ("grid", draws.grid, (count, 2), "i"),
        ("window", draws.window, (count, 4), "i"),
        ("flip", draws.flip, (count,), "b"),
    ):
        _check_array(name, array, shape, kind)
    if count and not (draws.ids.min() >= 0 and draws.ids.max() < len(dataset)):
        raise ConfigError(f"the planned ids must be samples of the data set, which has {len(dataset)}")
    if draws.flip_vertical is not None:
        _check_array("flip_vertical", draws.flip_vertical, (count,), "b")
    plain = np.ones(count, np.bool_)
    if not draws.plain:
        check_augmentation(draws, count)
        plain = ~draws.warp.active if draws.warp is not None else plain
    sizes = np.array([(view.height, view.width) for view in output.views], np.int32)
    if np.any(draws.grid < 1) or np.any((draws.window[:, 2:] != np.resize(sizes, (count, 2))) & plain[:, None]):
        sizes_wanted = " and ".join(f"{height} x {width}" for height, width in sizes.tolist())
        raise ConfigError(f"each planned window must be {sizes_wanted}, on a grid of a pixel or more")
    if np.any(draws.window[:, 2:] < 1) or np.any(draws.window[:, 2:] > _MAX_OUTPUT_SIDE):
        raise ConfigError(f"each planned window must have 1 to {_MAX_OUTPUT_SIDE} pixels a side")


def check_augmentation(draws: Draws, count: int) -> None:
    """ConfigError unless what is done beside one resampling is complete, finite and in range."""
    if draws.pad is not None:
        _check_array("pad", draws.pad, (count, 3))
        if not np.all((draws.pad >= 0.0) & (draws.pad <= 255.0)):
            raise ConfigError("the planned pad must be levels of 0 to 255")
    warp = draws.warp
    if warp is not None:
        maps = warp.matrix.shape[1] if warp.matrix.ndim == 4 else 0
        if not 1 <= maps <= _MAX_MAPS:
            raise ConfigError(f"a planned warp must have 1 to {_MAX_MAPS} maps, not {maps}")
        _check_array("warp.matrix", warp.matrix, (count, maps, 3, 3))
        _check_array("warp.size", warp.size, (count, maps, 2), "i")
        _check_array("warp.fill", warp.fill, (count, maps, 3))
        _check_array("warp.active", warp.active, (count,), "b")
        _check_array("warp.bilinear", warp.bilinear, (count,), "b")
        if not (np.isfinite(warp.matrix).all() and np.isfinite(warp.fill).all()):
            raise ConfigError("the numbers of a planned warp must be finite")
        if np.any(warp.size < 0):
            raise ConfigError("the sizes of a planned warp must not be negative")
    for name, program in (("before", draws.before), ("after", draws.after)):
        if program is not None:
            check_operations(program, count, f"the planned {name}", len(draws.functions))
    if draws.before is not None:
        check_of_levels(draws.before, "the planned before")


def _check_array(name: str, array: NDArray[Any], shape: tuple[int, ...], kind: str = "f") -> None:
    if array.shape != shape or array.dtype.kind != kind:
        raise ConfigError(f"the planned {name} must have shape {shape}, not {array.shape} of {array.dtype}")
