"""Checkpoints on disk: safetensors and JSON in a folder that is replaced as a whole, whatever moment a crash picks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import nn

from fastload.errors import DataError

VERSION: Final = 1
WEIGHTS, AVERAGE, STATE, RECIPE = "model.safetensors", "ema.safetensors", "state.safetensors", "recipe.yaml"
STATE_JSON: Final = "state.json"
_TENSOR: Final = "__tensor__"


@dataclass(kw_only=True)
class Checkpoint:
    """What one checkpoint holds.

    Attributes:
        weights: The network's state dict.
        average: That of the moving average, if there is one.
        tensors: Everything else that is a tensor, by name (the state of the optimiser).
        state: Everything else: what JSON has.
        recipe: The complete recipe as YAML.
    """

    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor] | None = None
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes ``folder``, replacing an older checkpoint there.

    The new one is written beside it, forced to the disk, and takes its place by renames. At every moment one complete
    checkpoint is found by :func:`load`: the old one or the new one.

    Raises:
        OSError: The disk is full or not writable; the old checkpoint stands.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    settle(folder)
    partial, new, _ = _beside(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _write_tensors(partial / WEIGHTS, checkpoint.weights)
    if checkpoint.average is not None:
        _write_tensors(partial / AVERAGE, checkpoint.average)
    _write_tensors(partial / STATE, checkpoint.tensors)
    _write(partial / RECIPE, checkpoint.recipe.encode())
    content = {"version": VERSION, "has_average": checkpoint.average is not None, **checkpoint.state}
    _write(partial / STATE_JSON, json.dumps(content, indent=1).encode())
    _sync_folder(partial)
    partial.rename(new)
    _sync_folder(folder.parent)
    settle(folder)


def settle(folder: Path) -> None:
    """Completes a replacement that a crash interrupted: what stands under the new name takes its place."""
    _, new, old = _beside(folder)
    if new.exists():
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        _sync_folder(folder.parent)
    elif old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def exists(folder: Path) -> bool:
    """Whether :func:`load` would find a checkpoint."""
    return any(path.is_dir() for path in (folder, *_beside(folder)[1:]))


def load(folder: Path) -> Checkpoint:
    """Reads a checkpoint to the CPU.

    Raises:
        DataError: There is none, or a file of it is missing, damaged or of another version.
    """
    if exists(folder):
        settle(folder)
    if not (folder / STATE_JSON).is_file():
        raise DataError(
            f"there is no checkpoint here (a folder with {STATE_JSON} and {WEIGHTS} was expected)", path=str(folder)
        )
    try:
        state = json.loads((folder / STATE_JSON).read_text(encoding="utf-8"))
        if not isinstance(state, dict) or state.pop("version", None) != VERSION:
            raise DataError(f"the checkpoint is not of version {VERSION}", path=str(folder))
        has_average = bool(state.pop("has_average", False))
        return Checkpoint(
            weights=safetensors.torch.load_file(folder / WEIGHTS),
            average=safetensors.torch.load_file(folder / AVERAGE) if has_average else None,
            tensors=safetensors.torch.load_file(folder / STATE),
            state=state,
            recipe=(folder / RECIPE).read_text(encoding="utf-8"),
        )
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the checkpoint cannot be read: {error}", path=str(folder)) from error


def flatten(value: Any, tensors: dict[str, torch.Tensor], prefix: str) -> Any:
    """Nested dicts and lists with tensors as plain JSON data; the tensors go to ``tensors`` under dotted names."""
    if isinstance(value, torch.Tensor):
        tensors[prefix] = value.detach()
        return {_TENSOR: prefix}
    if isinstance(value, Mapping):
        return {"items": [[key, flatten(item, tensors, f"{prefix}.{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [flatten(item, tensors, f"{prefix}.{number}") for number, item in enumerate(value)]
    return value


def unflatten(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of :func:`flatten` (tuples come back as lists)."""
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: unflatten(item, tensors) for key, item in value["items"]}
    if isinstance(value, list):
        return [unflatten(item, tensors) for item in value]
    return value


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives an optimiser the state that ``flatten(optimizer.state_dict(), ...)`` wrote."""
    restored = unflatten(state, tensors)
    for group in restored["param_groups"]:
        # JSON has no tuples; torch's optimisers unpack pairs such as betas, whichever they are.
        for key, value in group.items():
            if isinstance(value, list) and key != "params":
                group[key] = tuple(value)
    optimizer.load_state_dict(restored)
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                # In the memory layout of its parameter, as it was: foreach kernels take their slow path otherwise.
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor], path: str) -> None:
    """Copies weights by name, all of them and no others.

    Raises:
        DataError: The names or shapes differ.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"the weights do not fit the network: {error}", path=path) from error


def _beside(folder: Path) -> tuple[Path, Path, Path]:
    """Names of the checkpoint that is being written, of the complete new one, of the old one on its way out."""
    return tuple(folder.with_name(f"{folder.name}.{suffix}") for suffix in ("partial", "new", "old"))  # type: ignore[return-value]


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    # safetensors stores plain C order: a channels_last weight is copied. Two names of one tensor are two copies.
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    _write(path, safetensors.torch.save(plain))


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """A rename is safe from a power cut once its folder is on the disk; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
