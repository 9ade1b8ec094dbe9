"""Operations on pixels between pages that nobody may touch; a process of its own (see test_engine_guarded.py).

    python -m tests.engine.guarded_operations programs|images

Every array begins where an unmapped page ends, or ends where one begins: a byte too far ends the process. What lies in
an array and is no pixel is another garbage each time: a result that depends on it is an error, as are parts of the
studio that an operation has no use for and that are not as they were.
"""

import dataclasses
import itertools
import sys

import numpy as np

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.program import VALUES, Code
from fastload.engine.cpu.kernels.augment import ALL, Picture, augment_image
from fastload.engine.cpu.kernels.entries import ENTRY_OPERATIONS, ENTRY_RESAMPLE
from fastload.engine.cpu.kernels.layout import DONE, PARAMETERS, SLACK, flat_slot, make_constants, make_scratch
from fastload.engine.cpu.kernels.program import COLUMNS, copy_in, copy_out, run_operations
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.cpu.kernels.studio import Studio, carve, new_studio
from fastload.engine.cpu.programs import compile_operations, lay_out_extras, operation_entries
from fastload.engine.cpu.warm_up import warm_up
from fastload.engine.operations import RANGES
from fastload.engine.requests import STORAGE
from fastload.jit import compile_once, entry
from tests.jpeg.guarded import Guarded

# One pixel, one row, one column, and what is a pixel more and less than the vectors of the kernels.
LINES = (1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 127, 128, 129, 192)
SIZES = (
    *((1, side) for side in LINES),
    *((side, 1) for side in LINES),
    *((2, side) for side in (2, 16, 31, 33, 64, 65)),
    *((3, 3), (3, 5), (5, 3), (7, 9), (8, 8), (9, 7), (16, 16), (15, 17), (17, 15), (31, 33), (33, 31), (5, 129)),
    *((129, 5), (63, 65), (64, 64), (65, 63), (4, 300), (300, 4)),
)
FLOATS, KEPT = {Code.BLUR, Code.ELASTIC, Code.JPEG}, {Code.SAVE, Code.RESTORE, Code.ADD, Code.MIXED}
WHOLE = {Code.POSTERIZE, Code.PERMUTE, Code.FRAME, Code.JPEG}
# More bytes than a studio for the largest of these images has, of two kinds.
GARBAGE = np.random.default_rng(0).integers(0, 255, (2, 10_000_000), np.uint8)
LATE = {Code.ERASE_NOISE, Code.ERASE_STORED, Code.LAMBDA}


class Block:
    """A studio that is exactly as large as it must be, and memory for its pixels likewise."""

    def __init__(self, height: int, width: int, *, floats: bool, kept: bool) -> None:
        self.height, self.width, self.count = height, width, height * width
        self._empty = new_studio(self.count, floats=floats, kept=kept)
        self._memory = Guarded(self._empty.size)
        self._pixels = Guarded(3 * self.count + SLACK)

    def run(self, image: np.ndarray, rows: np.ndarray, at_end: bool, garbage: int) -> tuple[np.ndarray, Studio]:
        """The image after operations, and the studio with what is left there."""
        block = self._memory.empty(self._empty.size, at_end)
        block[:] = GARBAGE[garbage, : block.size]
        block[:128] = self._empty[:128]
        pixels = self._pixels.empty(3 * self.count + SLACK, at_end)
        pixels[:] = GARBAGE[garbage, : pixels.size]
        pixels[: image.size] = image.reshape(-1)
        assert copy_in(pixels, self.count, block)
        assert run_operations(rows, 0, len(rows), self.height, self.width, block, operation_entries())
        pixels[: image.size] = 0
        assert copy_out(block, self.count, pixels)
        return pixels[: image.size].copy(), carve.py_func(block)

    def untouched(self, garbage: int) -> Studio:
        block = GARBAGE[garbage, : self._empty.size].copy()
        block[:128] = self._empty[:128]
        return carve.py_func(block)


def numbers_of(code: Code, random: np.random.Generator) -> np.ndarray:
    """Numbers that are let through: some of every day, some at the ends of their ranges."""
    row = np.zeros(VALUES)
    for place, (low, high) in enumerate(RANGES[code]):
        wild = random.choice([low, high]) if random.random() < 0.3 else random.uniform(low, high)
        row[place] = np.clip(random.normal() * 40 if random.random() < 0.7 else wild, low, high)
    if code in WHOLE:
        row = np.rint(row)
    if code is Code.BLUR:
        # Both kinds, of integers and of floats, with radii of up to 40.
        row[:2] = 2 * random.integers(0, random.choice([2, 33, 41]), 2) + 1
    if code is Code.ELASTIC:
        row[6:8] = np.minimum(row[6:8], 6.0)
    if code in (Code.WARP, Code.ELASTIC):
        row[0] = random.integers(2)
    if code is Code.WARP and random.random() < 0.7:
        row[4:13] = (np.eye(3) + random.normal(0, 0.3, (3, 3)) * [[1, 1, 20], [1, 1, 20], [0.01, 0.01, 0]]).reshape(-1)
    return row


def programs() -> int:
    """Every operation by itself, on images of all sizes; how many there were."""
    random, done = np.random.default_rng(1), 0
    codes = [code for code in Code if code not in LATE and code not in KEPT]
    chain = (Code.SAVE, Code.RESTORE, Code.INVERT, Code.ADD, Code.RESTORE, Code.SHARPNESS, Code.ADD, Code.MIXED)
    for height, width in SIZES:
        image = random.integers(0, 255, (height, width, 3), np.uint8)
        blocks = {
            (floats, kept): Block(height, width, floats=floats, kept=kept) for floats in (0, 1) for kept in (0, 1)
        }
        most, before = blocks[1, 1], blocks[1, 1].untouched(1)
        for steps in [*((code,) for code in codes), chain]:
            used = set(steps)
            floats, kept = bool(used & FLOATS), bool(used & KEPT)
            for at_end in (True, False):
                rows = np.zeros((len(steps), COLUMNS))
                for row, code in zip(rows, steps, strict=True):
                    row[0], row[1:] = code, numbers_of(code, random)
                expected, _ = blocks[floats, kept].run(image, rows, at_end, 0)
                found, studio = most.run(image, rows, at_end, 1)
                name = f"{[code.name for code in steps]} on {height} x {width}: {rows.tolist()}"
                assert np.array_equal(found, expected), f"garbage counts in {name}"
                assert floats or np.array_equal(bits(studio.floats), bits(before.floats)), f"floats changed by {name}"
                assert kept or np.array_equal(studio.kept, before.kept), f"what is kept changed by {name}"
                assert kept or np.array_equal(bits(studio.sums), bits(before.sums)), f"sums changed by {name}"
                done += 1
    return done


def bits(floats: np.ndarray) -> np.ndarray:
    return floats.view(np.uint8)


def images() -> int:
    """Whole images through all steps (before, padding, map, after, the store) in every type and layout; how many."""
    random, done = np.random.default_rng(2), 0
    forms = itertools.cycle(
        itertools.product(("uint8", "float16", "bfloat16", "float32"), ("channels_last", "contiguous"))
    )
    for number, size in enumerate(SIZES * 4):
        dtype, memory_format = next(forms)
        height, width = SIZES[random.integers(len(SIZES))]
        plan = compile_plan(chain(random, SIZES[random.integers(len(SIZES))] if number % 2 else size, dtype))
        output = dataclasses.replace(plan.output, memory_format=memory_format)
        draws = plan.draw(seed=3, epoch=0, ids=[number], sizes=np.array([[height, width]], np.int32))
        if draws.plain:  # those take another way
            continue
        results = [augmented(random, output, draws, (height, width), at_end) for at_end in (True, False)]
        name = f"{height} x {width} to {output}: {plan.steps}"
        assert np.array_equal(*results), f"garbage counts in {name}"
        done += 1
    return done


def chain(random: np.random.Generator, size: tuple[int, int], dtype: str) -> list[T.Transform]:
    """Transforms of all kinds, which end in images of a size and type."""

    def one(*ways: list[T.Transform]) -> list[T.Transform]:
        return ways[random.integers(len(ways))]

    before = one([], [T.TrivialAugmentWide(fill=7)], [T.AugMix()], [T.RandomPosterize(3, 1.0)])
    geometry = one(
        [T.RandomResizedCrop(size), T.RandomHorizontalFlip()],
        [T.RandomRotation(40, "bilinear", expand=True), T.Resize(size)],
        [T.RandomZoomOut(3, p=1.0), T.Resize(size), T.RandomVerticalFlip()],
        [T.RandomPerspective(0.4, 1.0), T.CenterCrop(size)],
        [T.RandomCrop(size, 2, pad_if_needed=True, padding_mode="symmetric")]
        if min(size) > 4
        else [T.RandomCrop(size, 2, pad_if_needed=True, fill=200)],
    )
    after = one([], [T.ColorJitter(0.4, 0.4, 0.4, 0.1), T.RandomAdjustSharpness(2, 1.0)], [T.JPEG(40)])
    after += one([], [T.RandAugment()], [T.ElasticTransform(30.0, 2.0)], [T.GaussianNoise(), T.RandomEqualize(1.0)])
    last: list[T.Transform] = [T.RandomErasing(1.0, (0.1, 0.6), value=9)]
    if dtype != "uint8":
        erased = one([T.RandomErasing(1.0, (0.1, 0.6), value="random")], last)
        last = [T.ToDtype("float32", scale=True), T.Normalize([0.5], [0.2]), T.ToDtype(dtype), *erased]
    return [*before, *geometry, *after, *last]


def augmented(random, output, draws, size, at_end):  # type: ignore[no-untyped-def]
    """What one image becomes, its pixels, its row and the studio exactly as large as they must be."""
    height, width = size
    extras, (window_height, window_width) = lay_out_extras(draws), draws.window[0, 2:].tolist()
    parameters = np.zeros((1, PARAMETERS))
    parameters[:, :8] = np.concatenate((draws.box, draws.grid, draws.window[:, :2]), axis=1)
    parameters[:, 8] = draws.flip + 2 * (draws.flip_vertical if draws.flip_vertical is not None else 0)
    empty = new_studio(
        max(height * width, window_height * window_width, output.height * output.width), floats=True, kept=True
    )
    block = Guarded(empty.size).empty(empty.size, at_end)
    pixels = Guarded(3 * height * width + SLACK).empty(3 * height * width + SLACK, at_end)
    values = 3 * output.height * output.width * np.dtype(STORAGE[output.dtype]).itemsize
    stored = Guarded(values).empty(values, at_end)
    for part in (block, pixels):
        part[:] = random.integers(0, 255, part.size, np.uint8)
    block[:128] = empty[:128]
    pixels[: 3 * height * width] = np.random.default_rng(height * width).integers(0, 255, 3 * height * width, np.uint8)
    entries = operation_entries()
    entries[ENTRY_RESAMPLE], entries[ENTRY_OPERATIONS] = entry(resample_image), entry(run_operations)
    most = dataclasses.replace(output, height=max(window_height, output.height), width=max(window_width, output.width))
    slot = flat_slot(stored.view(STORAGE[output.dtype]).reshape(1, *output.shape))
    picture = Picture(pixels, height, width, 0, 0, height, width)
    answer = augment_image(
        ALL, picture, 0, parameters, extras, make_constants(output), slot, 0,
        make_scratch(most), block, entries, np.zeros(5, np.int64),
    )  # fmt: skip
    assert answer == DONE, f"answer {answer} for {size} to {output}"
    return stored.copy()


if __name__ == "__main__":
    compile_once("cpu engine", warm_up)
    compile_operations()
    done = programs() if sys.argv[1] == "programs" else images()
    sys.stdout.write(f"{done}\n")
