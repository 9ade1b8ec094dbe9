"""Where a run stands: everything that a resumed run must know beside tensors, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import yaml

from fastload.errors import ConfigError, DataError
from fastload.loader import EpochLedger

# Skipped samples are all counted; this many are named in the report.
MAX_NAMED: Final = 100

# Entries of a recipe that do not change what a run computes: a resumed run may have others.
FREE_KEYS: Final = (
    "data.train",  # what is in the data set is compared by its fingerprint
    "data.val",
    "data.num_workers",
    "data.engine",
    "data.prefetch",
    "data.verify",
    "train.batch_size",  # compared as the global batch
    "train.device",
    "train.compile",
    "train.deterministic",
    "eval.batch_size",
    "checkpoint.every_steps",
    "checkpoint.every_epochs",
    "checkpoint.resume",
    "report",
)


@dataclass(kw_only=True)
class Account:
    """Training samples of all processes so far: ``read + skipped == expected``.

    Attributes:
        expected: Samples that the batches owed.
        read: Samples that came themselves.
        skipped: Samples that a replacement stood in for, counted each time.
        named: The first MAX_NAMED different ones: key, path and reason.
    """

    expected: int = 0
    read: int = 0
    skipped: int = 0
    named: list[dict[str, str]] = field(default_factory=list)

    def add(self, part: Mapping[str, Any]) -> None:
        """Adds what :func:`read_ledger` gave."""
        self.expected += part["expected"]
        self.read += part["read"]
        self.skipped += part["skipped"]
        known = {entry["key"] for entry in self.named}
        for entry in part["named"]:
            if entry["key"] not in known and len(self.named) < MAX_NAMED:
                known.add(entry["key"])
                self.named.append(entry)


def read_ledger(ledger: EpochLedger | None) -> dict[str, Any]:
    """A Loader's account of an epoch as plain data."""
    if ledger is None:
        return {"expected": 0, "read": 0, "skipped": 0, "named": []}
    named = [{"key": item.key, "path": item.path, "reason": item.reason} for item in ledger.skipped[:MAX_NAMED]]
    return {"expected": ledger.expected, "read": ledger.read, "skipped": ledger.num_skipped, "named": named}


@dataclass(kw_only=True)
class RunState:
    """Where a run stands. The sums are over all processes.

    Attributes:
        epoch: Epoch that is under way, or comes next; equal to the number of epochs when the run is over.
        batch: Batches of that epoch that are done.
        step: Steps of the optimiser.
        loss_sum, images: Of the epoch that is under way.
        train_images, train_seconds, wait_seconds, host_wait_seconds: Of the whole run, over all its processes' lives;
            the last two as :class:`fastload.train.clock.Times` has them.
        best: Value of the watched metric at the best evaluation; None before the first.
        best_epoch: Epochs done when it was reached.
        evaluations_since_best: For early stopping.
        stopped_early: Whether early stopping ended the run.
        loss_curve: [epochs, mean loss] for each line of the log.
        evaluations: [epochs, loss, top-1] of each evaluation.
        account: What was read and skipped in training.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    train_images: int = 0
    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    host_wait_seconds: float = 0.0
    best: float | None = None
    best_epoch: int = 0
    evaluations_since_best: int = 0
    stopped_early: bool = False
    loss_curve: list[list[float]] = field(default_factory=list)
    evaluations: list[list[float]] = field(default_factory=list)
    account: Account = field(default_factory=Account)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, path: str) -> RunState:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: The data is not what to_json wrote.
        """
        names = {item.name for item in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            raise DataError("the state of the run is damaged or of another version of fastload", path=path)
        return cls(**{**data, "account": Account(**data["account"])})


def check_same_run(saved_yaml: str, current_yaml: str, *, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises ConfigError if a checkpoint belongs to another run.

    Args:
        saved_yaml, current_yaml: The two complete recipes.
        saved, current: Further facts that must be equal, by name (global batch, fingerprints of the data sets).
    """
    theirs, ours = _flat(yaml.safe_load(saved_yaml)), _flat(yaml.safe_load(current_yaml))
    differences = [
        f"{key} was {theirs.get(key)!r} and is {ours.get(key)!r}"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key) != ours.get(key) and not _is_free(key)
    ]
    differences += [
        f"{key} was {saved.get(key)!r} and is {value!r}" for key, value in current.items() if saved.get(key) != value
    ]
    if differences:
        raise ConfigError(
            f"the checkpoint cannot be resumed, as it belongs to another run: {'; '.join(differences)}. Give the "
            "values it was begun with, or begin anew in another report.directory"
        )


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists are values."""
    if not isinstance(value, dict) or (not value and prefix):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flat(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat
