"""Operations on pixels as the CPU engine carries them out: laid out, compiled when first asked for, and run alone."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastload import jit
from fastload.augment.parameters import Draws, Function, Output
from fastload.augment.program import POINTWISE, VALUES, Code, Program
from fastload.engine.cpu.kernels.augment import (
    AFTER_BEGIN,
    AFTER_END,
    BEFORE_BEGIN,
    BEFORE_END,
    MAPS,
    NUM_MAPS,
    PAD,
    PER_MAP,
    SMOOTH,
    SPECIAL,
    WINDOW_HEIGHT,
    WINDOW_WIDTH,
    Extras,
    Picture,
    augment_image,
)
from fastload.engine.cpu.kernels.layout import (
    PARAMETERS,
    SLACK,
    flat_slot,
    make_constants,
    make_scratch,
)
from fastload.engine.cpu.kernels.program import COLUMNS, copy_in, copy_out, run_operations
from fastload.engine.cpu.kernels.studio import new_studio
from fastload.engine.cpu.kernels.warp import warp_levels
from fastload.engine.operations import check_operations
from fastload.errors import ConfigError
from fastload.jpeg.roundtrip import find_scratch_bytes, recompress

# What kernels are compiled with.
TINY: Final = Output(
    height=2,
    width=2,
    dtype="uint8",
    scale=(1.0, 1.0, 1.0),
    bias=(0.0, 0.0, 0.0),
    interpolation="bilinear",
    antialias=True,
)
NO_EXTRAS: Final = Extras(np.empty((0, MAPS)), np.empty((0, 5), np.int64), np.empty((0, COLUMNS)))

_POINTWISE: Final = np.array(sorted(int(code) for code in POINTWISE))
_NEED_FLOATS: Final = np.array([Code.BLUR, Code.ELASTIC, Code.JPEG])
_NEED_KEPT: Final = np.array([Code.SAVE])

_lock = threading.Lock()


def lay_out_extras(draws: Draws) -> Extras:
    """What the kernels do beside one resampling; NO_EXTRAS where that is nothing."""
    if draws.plain:
        return NO_EXTRAS
    count, warp = len(draws.ids), draws.warp
    maps = warp.matrix.shape[1] if warp is not None else 0
    numbers = np.zeros((count, MAPS + PER_MAP * maps))
    spans = np.zeros((count, 5), np.int64)
    numbers[:, WINDOW_HEIGHT : WINDOW_WIDTH + 1] = draws.window[:, 2:]
    special = np.zeros(count, np.bool_)
    if draws.pad is not None:
        numbers[:, PAD : PAD + 3] = draws.pad
        corner, end = draws.window[:, :2], draws.window[:, :2] + draws.window[:, 2:]
        special |= (corner < 0).any(1) | (end > draws.grid).any(1)
    if warp is not None:
        numbers[:, NUM_MAPS] = np.where(warp.active, maps, 0)
        numbers[:, SMOOTH] = warp.bilinear
        parts = (warp.matrix, warp.size, warp.fill)
        numbers[:, MAPS:] = np.concatenate([part.reshape(count, -1) for part in parts], axis=1)
        special |= warp.active
    operations = [np.empty((0, COLUMNS))]
    placed = 0
    for program, first, last in ((draws.before, BEFORE_BEGIN, BEFORE_END), (draws.after, AFTER_BEGIN, AFTER_END)):
        if program is not None:
            spans[:, first], spans[:, last] = program.start[:-1] + placed, program.start[1:] + placed
            special |= spans[:, first] < spans[:, last]
            operations.append(_rows(program.code, program.values))
            placed += len(program.code)
    spans[:, SPECIAL] = special
    return Extras(numbers, spans, np.concatenate(operations))


def _rows(code: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([code[:, None].astype(np.float64), values], axis=1)


def needs_whole_image(before: Program | None, count: int) -> NDArray[np.bool_]:
    """Which of n samples have an operation before their resampling that looks at more than a pixel: bool (n,)."""
    if before is None:
        return np.zeros(count, np.bool_)
    samples = np.repeat(np.arange(count), np.diff(before.start))
    wide = ~np.isin(before.code, _POINTWISE)
    return np.bincount(samples[wide], minlength=count) > 0


def studio_needs(extras: Extras) -> tuple[bool, bool]:
    """Whether the operations need room for floats, and for AugMix (see ``new_studio``)."""
    codes = extras.operations[:, 0]
    return bool(np.isin(codes, _NEED_FLOATS).any()), bool(np.isin(codes, _NEED_KEPT).any())


def compile_operations() -> None:
    """Compiles or loads the kernels for all that is more than one resampling; at once where they are there."""
    with _lock:
        # The other half in another process: 12 s in place of 20 on two cores.
        with jit.compiling_beside("maps", "from fastload.engine.cpu.programs import compile_maps; compile_maps()"):
            jit.compile_once("operations", _warm_up_operations)
        compile_maps()


def compile_maps() -> None:
    """The part of it that stands around ``run_operations``."""
    jit.compile_once("maps", _warm_up_maps)


def operation_entries() -> NDArray[np.int64]:
    """Addresses for ``run_operations`` alone; all have been compiled."""
    return np.array([0, 0, 0, 0, jit.entry(warp_levels), jit.entry(recompress)], np.int64)


def run_with_functions(
    extras: Extras,
    span: tuple[int, int],
    size: tuple[int, int],
    functions: tuple[Function, ...],
    block: NDArray[np.uint8],
) -> tuple[bool, float]:
    """Operations with functions of the user among them, on the canvas of a studio.

    Returns:
        Whether the studio has room for them, and the seconds that the functions took, with what they are handed.
    """
    (begin, end), (height, width) = span, size
    entries, seconds = operation_entries(), 0.0
    pixels = np.empty(3 * height * width + SLACK, np.uint8)
    calls = [number for number in range(begin, end) if extras.operations[number, 0] == Code.LAMBDA]
    for call in (*calls, end):
        if not run_operations(extras.operations, begin, call, height, width, block, entries):
            return False, seconds
        if call < end:
            started = perf_counter()
            copy_out(block, height * width, pixels)
            values = extras.operations[call, 1:]
            functions[int(values[0])](pixels[: 3 * height * width].reshape(height, width, 3), values[1:].copy())
            copy_in(pixels, height * width, block)
            seconds += perf_counter() - started
        begin = call + 1
    return True, seconds


def run_program(image: NDArray[np.uint8], codes: ArrayLike, values: ArrayLike) -> NDArray[np.uint8]:
    """One image after the operations of a program, as the CPU engine carries them out.

    Args:
        image: uint8 (height, width, 3).
        codes: (m,), of :class:`fastload.augment.program.Code`. What erases stored values is passed over.
        values: (m, k), their numbers, k at most VALUES.

    Raises:
        ConfigError: An operation is unknown, or a number of it is out of range.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ConfigError(f"uint8 pixels (height, width, 3) were expected, not {image.shape} {image.dtype}")
    code = np.asarray(codes, np.int64)
    numbers = np.zeros((len(code), VALUES))
    given = np.asarray(values, np.float64).reshape(len(code), -1)
    numbers[:, : given.shape[1]] = given
    program = Program(start=np.array([0, len(code)], np.int64), code=code, values=numbers)
    check_operations(program, 1, "the program")
    return edit_image(image, program)


def edit_image(image: NDArray[np.uint8], program: Program, functions: tuple[Function, ...] = ()) -> NDArray[np.uint8]:
    """The same for a program of one sample that ``check_operations`` has let through.

    Args:
        image: uint8 (height, width, 3); left as it is.
        program: The operations.
        functions: What the numbers of Code.LAMBDA mean.
    """
    compile_operations()
    height, width = image.shape[:2]
    pixels = np.empty(image.size + SLACK, np.uint8)
    pixels[: image.size] = image.reshape(-1)
    extras = Extras(NO_EXTRAS.numbers, NO_EXTRAS.spans, _rows(program.code, program.values))
    floats, kept = studio_needs(extras)
    block = new_studio(height * width, floats=floats, kept=kept)
    copy_in(pixels, height * width, block)
    done, _ = run_with_functions(extras, (0, len(program.code)), (height, width), functions, block)
    assert done, "the studio was made for this image"
    copy_out(block, height * width, pixels)
    return pixels[: image.size].reshape(image.shape)


def _warm_up_operations() -> None:
    """No operation on a small image."""
    block, pixels = new_studio(4, floats=False, kept=False), np.zeros(12 + SLACK, np.uint8)
    copy_in(pixels, 4, block)
    run_operations(np.zeros((0, COLUMNS)), 0, 0, 2, 2, block, np.zeros(6, np.int64))
    copy_out(block, 4, pixels)


def _warm_up_maps() -> None:
    """A small image through a map and through JPEG, and none of the steps for a third."""
    pixels, slot = np.zeros(12 + SLACK, np.uint8), flat_slot(np.zeros((1, 2, 2, 3), np.uint8))
    warp_levels(pixels, 2, 2, np.zeros(12, np.uint8), 2, 2, np.eye(3).reshape(-1), np.full(2, 2), np.zeros(3), 1, 1)
    recompress(pixels, 64, 2, 2, 50, np.empty(find_scratch_bytes(2), np.uint8), pixels)
    numbers = np.zeros((1, MAPS))
    numbers[:, WINDOW_HEIGHT : WINDOW_WIDTH + 1] = 2
    extras = Extras(numbers, np.zeros((1, 5), np.int64), np.zeros((0, COLUMNS)))
    parameters = np.zeros((1, PARAMETERS))
    entries, block = np.zeros(6, np.int64), new_studio(4, floats=False, kept=False)
    picture = Picture(pixels, 2, 2, 0, 0, 2, 2)
    times = np.zeros(5, np.int64)
    constants, scratch = make_constants(TINY), make_scratch(TINY)
    augment_image(0, picture, 0, parameters, extras, constants, slot, 0, scratch, block, entries, times)
