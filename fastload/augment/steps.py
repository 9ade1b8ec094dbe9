"""What the plan knows of each declared transform: how it draws, and whether it takes random words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastload.augment.drawing import Drawing
from fastload.transforms import Transform


@dataclass(frozen=True)
class Kind:
    """How a type of transform is carried out.

    Attributes:
        draw: Adds what the transform does to ``Drawing.active`` samples: called with the transform, the drawing, and
            the steps of the transforms that it holds.
        random: Whether it takes words of its own: random transforms are numbered among themselves.
        geometric: Whether it works on the canvas, not on pixels.
        mirrors: Of an operation on pixels: whether it makes the mirror image of a result of the mirror image of an
            image (where what it has of places is mirrored as well), so that a flip may be done before or after it.
        flips: Of a geometric one, whether it mirrors images, and does nothing else.
        boxes: Whether it looks at ``Drawing.boxes``.
    """

    draw: Callable[..., None]
    random: bool = True
    geometric: bool = False
    mirrors: bool = True
    flips: bool = False
    boxes: bool = False


@dataclass(frozen=True)
class Step:
    """A transform of a chain, with the number of the random transforms before it, and the steps that it holds."""

    transform: Transform
    kind: Kind
    number: int
    held: tuple[Step, ...] = ()

    def draw(self, drawing: Drawing) -> None:
        drawing.number = self.number
        if self.kind.geometric and not self.kind.flips:
            drawing.sampled |= drawing.active
        elif not self.kind.mirrors:  # it cannot be done to the source of what was mirrored
            drawing.sampled |= drawing.active & drawing.canvas.flips.any(axis=0)
        self.kind.draw(self.transform, drawing, *self.held)
