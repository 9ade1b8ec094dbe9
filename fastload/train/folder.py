"""The folder of a run: whose it is, and where a run goes on in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from fastload.errors import ConfigError
from fastload.train import checkpoint as checkpoints
from fastload.train.distributed import World, broadcast_json
from fastload.train.journal import LOG_NAME
from fastload.train.report import CONFUSION, CONFUSION_PNG, CURVES_PNG, REPORT
from fastload.train.saving import FOLDER, checkpoint_folder

RECIPE = "recipe.yaml"


def prepare_folder(directory: Path, *, resume: str, overwrite: bool, world: World) -> Path | None:
    """The checkpoint to resume, or None after making room for a new run. Rank 0 decides for all.

    Args:
        directory: Folder of the run; made if it is not there.
        resume: ``never``, ``auto`` or a checkpoint, as in the recipe.
        overwrite: Whether another run's files may go.
        world: The processes.

    Raises:
        ConfigError: The folder holds another run, or there is no such checkpoint.
    """
    decision: dict[str, str | None] = {}
    if world.is_main:
        try:
            found = _decide(directory, resume, overwrite)
            decision = {"resume": None if found is None else str(found), "error": None}
        except (ConfigError, OSError) as error:
            decision = {"resume": None, "error": str(error)}
    decision = broadcast_json(world, decision)
    if decision["error"] is not None:
        raise ConfigError(decision["error"])
    return None if decision["resume"] is None else Path(decision["resume"])


def _decide(directory: Path, wish: str, overwrite: bool) -> Path | None:
    last = checkpoint_folder(directory, "last")
    directory.mkdir(parents=True, exist_ok=True)
    if wish == "auto" and checkpoints.exists(last):
        return last
    if wish not in ("auto", "never"):
        chosen = Path(wish).expanduser()
        if not checkpoints.exists(chosen):
            raise ConfigError(f"checkpoint.resume: there is no checkpoint {chosen}; give auto, never or its folder")
        return chosen
    if (directory / LOG_NAME).exists() and wish == "never" and not overwrite:
        raise ConfigError(
            f"report.directory: {directory} holds another run: go on with it (checkpoint.resume=auto), give another "
            "folder, or remove it (report.overwrite=true)"
        )
    for name in (LOG_NAME, RECIPE, REPORT, CONFUSION, CONFUSION_PNG, CURVES_PNG):
        (directory / name).unlink(missing_ok=True)
    for name in (FOLDER, "tensorboard"):
        shutil.rmtree(directory / name, ignore_errors=True)
    return None
