"""Where a Loader stands, as a small JSON object, and whether another Loader can go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastload.errors import ConfigError

VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Everything that the sequence of batches depends on: equal sequences give equal batches.

    World size, threads, engine and device are not among it; nor is on_error, so that a run that ended at a damaged
    sample can go on with "skip". What to do about a mismatch stands in ``_ADVICE``.
    """

    seed: int
    fingerprint: str
    num_samples: int
    global_batch_size: int
    shuffle: bool | str
    last_batch: str
    repeats: int


_ADVICE: Final = {
    "seed": "make the Loader with the seed of the run that wrote the state",
    "fingerprint": "the data set is not the one that the state was written for, or has changed since",
    "num_samples": "the data set is not the one that the state was written for, or has changed since",
    "global_batch_size": "choose batch_size so that batch_size x world_size is what it was",
    "shuffle": "make the Loader with the shuffle of the run that wrote the state",
    "repeats": "make the Loader with the repeats of the run that wrote the state",
    "last_batch": "make the Loader with the last_batch of the run that wrote the state",
}


@dataclass(frozen=True, kw_only=True)
class Position:
    """A point between two batches.

    Attributes:
        epoch: Number of the epoch.
        batch: Batches of that epoch that the user has been handed.
        transforms: Digest of the transforms that the epoch was begun with.
    """

    epoch: int
    batch: int
    transforms: str


def to_state(sequence: Sequence, position: Position) -> dict[str, Any]:
    """The state as plain ints, strings and bools."""
    return {"version": VERSION, **vars(position), **vars(sequence)}


def from_state(state: Mapping[str, Any], sequence: Sequence) -> Position:
    """The position in ``state``, after checking that it belongs to ``sequence``.

    Raises:
        ConfigError: The state is none of ours, or one field does not fit; it names the field, both values, and what
            to do.
    """
    version = state.get("version") if isinstance(state, Mapping) else None
    if version != VERSION:
        raise ConfigError(
            f"a Loader's state of version {VERSION} was expected, not version {version!r}: "
            "it was written by something else or by another version of fastload"
        )
    state = {"repeats": 1, **state}  # what was written before there was a choice
    missing = sorted({*vars(sequence), "epoch", "batch", "transforms"} - set(state))
    if missing:
        raise ConfigError(f"the Loader's state lacks {', '.join(missing)}: it is damaged")
    for name, ours in vars(sequence).items():
        theirs = state[name]
        if type(theirs) is not type(ours) or theirs != ours:
            raise ConfigError(
                f"the state was written with {name}={theirs!r}, but this Loader has {name}={ours!r}: {_ADVICE[name]}"
            )
    epoch, batch, transforms = state["epoch"], state["batch"], state["transforms"]
    if type(epoch) is not int or type(batch) is not int or not isinstance(transforms, str) or epoch < 0 or batch < 0:
        raise ConfigError("the Loader's state is damaged: epoch and batch must be whole numbers from 0 upwards")
    return Position(epoch=epoch, batch=batch, transforms=transforms)
