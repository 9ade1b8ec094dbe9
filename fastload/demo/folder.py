"""Where a demo lives: a temporary folder, or one of the user's that holds nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastload.errors import ConfigError, DataError

_STAMP: Final = "demo.json"


@dataclass(frozen=True, kw_only=True)
class DemoFolder:
    """The folder of one demo.

    Attributes:
        root: The folder, absolute.
        kept: Whether it stays when the demo is over.
        drawn: Whether an earlier demo with the same settings has drawn all of its pictures there.
        settings: What the pictures follow from.
    """

    root: Path
    kept: bool
    drawn: bool
    settings: Mapping[str, int]

    def mark_drawn(self) -> None:
        """All pictures are there: the next demo in this folder need not draw them again."""
        _write_stamp(self.root, self.settings, drawn=True)


@contextlib.contextmanager
def demo_folder(folder: str | os.PathLike[str] | None, settings: Mapping[str, int]) -> Iterator[DemoFolder]:
    """The folder that the user named, or a temporary one that is removed at the end.

    Raises:
        ConfigError: The folder holds other files, or a demo with other settings.
        DataError: The folder cannot be written.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="fastload-demo-") as name:
            yield DemoFolder(root=Path(name), kept=False, drawn=False, settings=settings)
        return
    root = Path(folder).expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        drawn = _claim(root, settings)
    except OSError as error:
        raise DataError(f"the demo cannot use this folder: {error.strerror or error}", path=str(root)) from error
    yield DemoFolder(root=root, kept=True, drawn=drawn, settings=settings)


def _claim(root: Path, settings: Mapping[str, int]) -> bool:
    """Makes sure that nothing but this very demo lives in the folder; whether its pictures do already."""
    stamp = root / _STAMP
    if not stamp.exists():
        if any(root.iterdir()):
            raise ConfigError(f"{root} holds other files: give the demo a folder that is new or empty")
        _write_stamp(root, settings, drawn=False)
        return False
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
        before, drawn = dict(content["settings"]), bool(content["drawn"])
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{stamp} is damaged: remove the folder, or choose another one") from error
    if before != dict(settings):
        raise ConfigError(f"{root} holds a demo with other settings ({before}): choose another folder, or remove it")
    return drawn


def _write_stamp(root: Path, settings: Mapping[str, int], *, drawn: bool) -> None:
    new = root / f".{_STAMP}"
    new.write_text(json.dumps({"settings": dict(settings), "drawn": drawn}) + "\n", encoding="utf-8")
    new.replace(root / _STAMP)
