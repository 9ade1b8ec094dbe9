"""A run to a checkpoint and back: which tensors and facts make up a run, on one process or many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from fastload.errors import DataError
from fastload.train import checkpoint as checkpoints
from fastload.train.checkpoint import Checkpoint
from fastload.train.distributed import World, broadcast_json, broadcast_tensors
from fastload.train.state import RunState, check_same_run
from fastload.train.stepper import Stepper

FOLDER: Final = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a checkpoint and the run that resumes it must agree on.

    Attributes:
        recipe: The complete recipe as YAML.
        facts: What the recipe does not say: the global batch, the fingerprints of the data sets.
    """

    recipe: str
    facts: Mapping[str, Any]


def checkpoint_folder(directory: Path, name: str) -> Path:
    """Where the checkpoint ``last`` or ``best`` of a run is."""
    return directory / FOLDER / name


def save_run(
    folder: Path,
    *,
    stepper: Stepper,
    state: RunState,
    identity: Identity,
    log_bytes: int,
    loader_state: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
) -> None:
    """Writes a checkpoint; called on rank 0 alone."""
    tensors: dict[str, torch.Tensor] = {}
    average = stepper.average
    # The generators need no state: every batch seeds them from (seed, batch, rank), the Loader likewise.
    content = {
        "run": state.to_json(),
        "facts": dict(identity.facts),
        "loader": loader_state,
        "metrics": metrics,
        "optimizer": checkpoints.flatten(stepper.optimizer.state_dict(), tensors, "optimizer"),
        "scaler": stepper.scaler.state_dict(),
        "average_steps": None if average is None else average.steps,
        "log_bytes": log_bytes,
        "torch": str(torch.__version__),
    }
    checkpoints.save(
        folder,
        Checkpoint(
            weights=stepper.model.state_dict(),
            average=None if average is None else average.model.state_dict(),
            tensors=tensors,
            state=content,
            recipe=identity.recipe,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """Where a run goes on.

    Attributes:
        state: Where it stands.
        loader_state: The Loader's position within the epoch, or None at its beginning.
        log_bytes: Length of the log that belongs to the checkpoint.
    """

    state: RunState
    loader_state: dict[str, Any] | None
    log_bytes: int


def resume_run(folder: Path, *, stepper: Stepper, identity: Identity, world: World) -> Resumed:
    """Brings network, optimiser and average to where a checkpoint stands, on every process. Rank 0 alone reads it.

    Raises:
        DataError: The checkpoint is missing or damaged, or does not fit the network.
        ConfigError: It belongs to another run.
    """
    # An error on rank 0 is told to the others, which would otherwise wait for it.
    found = Checkpoint(weights={})
    failure: Exception | None = None
    if world.is_main:
        try:
            found = checkpoints.load(folder)
            check_same_run(
                found.recipe, identity.recipe, saved=found.state.get("facts", {}), current=dict(identity.facts)
            )
        except Exception as error:
            failure = error
    reason = broadcast_json(world, None if failure is None else str(failure))
    if failure is not None:
        raise failure
    if reason is not None:
        raise DataError(reason)
    content = broadcast_json(world, found.state)
    weights = broadcast_tensors(world, found.weights)
    average = broadcast_tensors(world, found.average or {})
    tensors = broadcast_tensors(world, found.tensors)
    try:
        return _restore(folder, stepper, content, weights, average, tensors)
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"the checkpoint is damaged: {error!r}", path=str(folder)) from error


def _restore(
    folder: Path,
    stepper: Stepper,
    content: dict[str, Any],
    weights: dict[str, torch.Tensor],
    average: dict[str, torch.Tensor],
    tensors: dict[str, torch.Tensor],
) -> Resumed:
    checkpoints.load_weights(stepper.model, weights, str(folder))
    if stepper.average is not None:
        checkpoints.load_weights(stepper.average.model, average, str(folder))
        stepper.average.steps = int(content["average_steps"])
    checkpoints.load_optimizer(stepper.optimizer, content["optimizer"], tensors)
    if stepper.scaler.is_enabled():
        stepper.scaler.load_state_dict(content["scaler"])
    state = RunState.from_json(content["run"], str(folder))
    return Resumed(state=state, loader_state=content["loader"], log_bytes=int(content["log_bytes"]))
