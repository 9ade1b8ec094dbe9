"""A batch while its parameters are drawn: what every step of a chain reads and adds to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastload.augment.canvas import Canvas
from fastload.augment.parameters import Draws, Marks, Output
from fastload.augment.program import ProgramBuilder
from fastload.augment.rng import random_words
from fastload.augment.values import Values
from fastload.transforms import Lambda


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Bounding boxes of the sources of n samples, for transforms whose draw depends on them.

    Attributes:
        start: int64 (n + 1,): those of sample i are ``start[i]`` to ``start[i + 1]``.
        xyxy: float64 (m, 4), left, top, right, bottom in source pixels.
    """

    start: NDArray[np.int64]
    xyxy: NDArray[np.float64]


def prepare(ids: NDArray[np.int64], *, seed: int, epoch: int, count: int) -> NDArray[np.uint64]:
    """The first words of all ``count`` random transforms, uint64 (4, count, n), in one go: numpy's cost is per call."""
    if count == 0:
        return np.zeros((4, 0, len(ids)), np.uint64)
    return random_words(ids, seed=seed, epoch=epoch, transform=np.arange(count)[:, None])


@dataclass(eq=False, kw_only=True)
class Drawing:
    """n samples, drawn step by step.

    Attributes:
        ids: int64 (n,), sample numbers.
        seed, epoch: Of the stream.
        canvas: The geometry so far.
        output: The form of every image in the end.
        first_words: Block 0 of the words of all random transforms (see :func:`prepare`).
        boxes: Of the sources; None where the data set has none or nobody asks.
        active: bool (n,), samples that the step at hand applies to: all, but within RandomApply and its like.
        sampled: bool (n,), whether a geometric step other than flips stands before the step at hand: operations go to
            ``after`` then.
        values: What pixel values are where the step at hand stands.
        functions: Of users, in the order of their first use.
        number: Of the random transform at hand, counted in the order in which they are written.
        removed: bool (m,), boxes that a crop has left out; None where no step says so.
    """

    ids: NDArray[np.int64]
    seed: int
    epoch: int
    canvas: Canvas
    output: Output
    first_words: NDArray[np.uint64]
    boxes: Boxes | None = None
    values: Values = field(default_factory=Values)
    functions: list[Lambda] = field(default_factory=list)
    number: int = 0
    removed: NDArray[np.bool_] | None = None
    active: NDArray[np.bool_] = field(init=False)
    sampled: NDArray[np.bool_] = field(init=False)
    before: ProgramBuilder = field(init=False)
    after: ProgramBuilder = field(init=False)

    def __post_init__(self) -> None:
        self.active = np.ones(len(self.ids), np.bool_)
        self.sampled = np.zeros(len(self.ids), np.bool_)
        self.before, self.after = ProgramBuilder(len(self.ids)), ProgramBuilder(len(self.ids))

    def words(self, block: int = 0) -> NDArray[np.uint64]:
        """Four random 32-bit words for each sample, uint64 (4, n), of the random transform at hand.

        Args:
            block: Which four: a transform that needs more takes further blocks.
        """
        if block == 0:
            first: NDArray[np.uint64] = self.first_words[:, self.number]
            return first
        return random_words(self.ids, seed=self.seed, epoch=self.epoch, transform=self.number, block=block)

    def many_words(self, count: int, first_block: int = 0) -> NDArray[np.uint64]:
        """``count`` random words for each sample, uint64 (count, n), of as many blocks as that takes."""
        blocks = [self.words()] if first_block == 0 else []
        missing = (count + 3) // 4 - len(blocks)
        if missing > 0:
            numbers = first_block + len(blocks) + np.arange(missing)[:, None]
            words = random_words(self.ids, seed=self.seed, epoch=self.epoch, transform=self.number, block=numbers)
            blocks.append(words.transpose(1, 0, 2).reshape(-1, len(self.ids)))
        return np.concatenate(blocks)[:count]

    def add(self, code: ArrayLike, values: ArrayLike = (), where: NDArray[np.bool_] | None = None) -> None:
        """Adds an operation on pixels, where it belongs, to the active samples among those where ``where`` is set.

        Args:
            code, values: As for :meth:`fastload.augment.program.ProgramBuilder.add`.
            where: bool (n,); None for all.
        """
        chosen = self.active if where is None else self.active & where
        early = chosen & ~self.sampled
        self.before.add(code, values, early)
        for axis, flipped in enumerate(self.canvas.flips & early):
            if flipped.any():  # what is done to a mirror image is done, mirrored, to the image
                self.before.mirror(flipped, self.canvas.sizes[:, axis], axis, latest=True)
        self.after.add(code, values, chosen & self.sampled)

    def number_of(self, function: Lambda) -> int:
        """The number by which Code.LAMBDA names a function."""
        if function not in self.functions:
            self.functions.append(function)
        return self.functions.index(function)

    @contextlib.contextmanager
    def only(self, where: NDArray[np.bool_]) -> Iterator[None]:
        """Narrows ``active`` to ``where`` for the steps within."""
        outer = self.active
        self.active = outer & where
        try:
            yield
        finally:
            self.active = outer

    def draws(self) -> Draws:
        """All that was drawn, in the form that engines take."""
        removed = None
        if self.boxes is not None and self.removed is not None:
            removed = Marks(start=self.boxes.start, flags=self.removed)
        return self.canvas.draws(self.ids, before=self.before.build(), after=self.after.build(), removed=removed)
