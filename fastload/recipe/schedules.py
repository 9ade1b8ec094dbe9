"""The sections that describe a learning rate over the epochs, one for each shape."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fastload.recipe.section import Section

Epochs = Annotated[float, Field(ge=0.0)]
Factor = Annotated[float, Field(ge=0.0)]


class _Warmup(Section):
    warmup_epochs: Epochs = 0.0
    """Epochs (fractions too) over which the rate rises in a line to its peak, before the shape begins."""
    warmup_start: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the peak at the very first step of the warmup."""


class Piecewise(Section):
    """Straight lines between points."""

    name: Literal["piecewise"]
    """Straight lines between points."""
    points: Annotated[tuple[tuple[Epochs | Literal["end"], Factor], ...], Field(min_length=2)]
    """Pairs of epoch and share of the peak rate, in rising order; the word `end` is the end of the last epoch."""

    @model_validator(mode="after")
    def _rising(self) -> Piecewise:
        epochs = [epoch for epoch, _ in self.points]
        if "end" in epochs[:-1]:
            raise ValueError("only the last point may be at 'end'")
        numbers = [epoch for epoch in epochs if epoch != "end"]
        if any(after <= before for before, after in itertools.pairwise(numbers)):
            raise ValueError(f"the epochs of the points must rise, got {numbers}")
        return self


class Cosine(_Warmup):
    """Half a cosine from the peak down to `final` at the end of the last epoch."""

    name: Literal["cosine"]
    """Half a cosine down to the end of the last epoch."""
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the peak at the end."""


class Step(_Warmup):
    """The peak, multiplied by `gamma` at certain epochs."""

    name: Literal["step"]
    """A constant rate that drops at certain epochs."""
    milestones: tuple[Epochs, ...] = ()
    """Epochs at which the rate drops; empty takes every `step_epochs`."""
    step_epochs: Annotated[float, Field(gt=0.0)] = 30.0
    """Epochs between two drops where no milestones are given."""
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Factor of each drop."""


class OneCycle(Section):
    """Up from peak / start_divisor, then down to peak / start_divisor / final_divisor, as torch's OneCycleLR."""

    name: Literal["one_cycle"]
    """One rise and one fall over the whole training."""
    rise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Share of the training at which the peak is reached."""
    start_divisor: Annotated[float, Field(ge=1.0)] = 25.0
    """Peak over first rate."""
    final_divisor: Annotated[float, Field(ge=1.0)] = 1e4
    """First rate over last rate."""
    shape: Literal["cosine", "linear"] = "cosine"
    """Shape of both flanks."""


class Constant(_Warmup):
    """The same rate throughout, after a warmup if there is one."""

    name: Literal["constant"]
    """The peak rate throughout."""


Schedule = Annotated[Piecewise | Cosine | Step | OneCycle | Constant, Field(discriminator="name")]
