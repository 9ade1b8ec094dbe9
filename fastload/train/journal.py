"""The files that tell about a run while it lasts: log.jsonl always, TensorBoard events where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from fastload.errors import MissingExtraError

LOG_NAME = "log.jsonl"


class Journal:
    """Appends to the log of a run; only rank 0 has one that writes.

    Args:
        directory: Folder of the run, or None for a journal that writes nothing (other ranks).
        tensorboard: ``auto`` (if installed), ``on`` or ``off``.

    Raises:
        MissingExtraError: TensorBoard was asked for and is not installed.
    """

    def __init__(self, directory: Path | None, *, tensorboard: Literal["auto", "on", "off"] = "auto") -> None:
        self._path = None if directory is None else directory / LOG_NAME
        self._handle = None if self._path is None else open(self._path, "ab")
        self._events = None
        if directory is not None and tensorboard != "off":
            self._events = _tensorboard_writer(directory / "tensorboard", required=tensorboard == "on")

    def write(self, event: str, **values: Any) -> None:
        """Appends one line: ``{"event": event, ...}``. What is not finite becomes null, as JSON has no other."""
        if self._handle is None:
            return
        line = {"event": event, **{key: _plain(value) for key, value in values.items()}}
        self._handle.write(json.dumps(line).encode() + b"\n")
        self._handle.flush()
        if self._events is not None and "step" in values:
            for key, value in values.items():
                if isinstance(value, float) and key not in ("step", "epoch"):
                    self._events.add_scalar(f"{event}/{key}", value, values["step"])

    def size(self) -> int:
        """Bytes in the log, all of them on the disk: a checkpoint that is written now belongs to this length."""
        if self._handle is None:
            return 0
        os.fsync(self._handle.fileno())
        return self._handle.tell()

    def rewind(self, size: int) -> None:
        """Cuts off what was written after a checkpoint, as the resumed run writes it again."""
        if self._handle is not None and self._handle.tell() > size:
            self._handle.truncate(size)
            self._handle.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Closes the files. Safe to call twice."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is never seen half-written."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _tensorboard_writer(folder: Path, *, required: bool) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        if required:
            raise MissingExtraError("tensorboard", extra="tensorboard", purpose="report.tensorboard=on")
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
