"""What commands draw: bars on stderr while they work, tables on stdout when they are done."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from fastload.stats import Span

# What the stages of fastload.stats are called in a table.
STAGE_NAMES = {
    "plan": "order and augmentation drawn",
    "read": "read from storage",
    "decode": "JPEG decoded",
    "before": "operations on source pixels",
    "resize": "cropped, resized, stored",
    "warp": "rotated, sheared, warped",
    "augment": "operations on pixels, stored",
    "lambda": "functions of the user",
    "wait": "training waited for data",
}


def progress_console() -> Console:
    """Where progress goes: stderr."""
    return Console(stderr=True)


def print_json(data: Any) -> None:
    """The result for machines: one JSON object on stdout."""
    json.dump(data, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_tables(*tables: Table | str) -> None:
    """The result for people, on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    for table in tables:
        console.print(table)


def facts(title: str, rows: Mapping[str, str]) -> Table:
    """A table of two columns: a name and a value each."""
    table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def stages(spans: Mapping[str, Span]) -> Table:
    """Where the time of this process's Loader went: seconds, and milliseconds per image, for each stage."""
    images = max((span.items for stage, span in spans.items() if stage != "wait"), default=0)
    table = Table(title="Where the time went (seconds, all threads together)", title_justify="left", title_style="bold")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("ms/image", justify="right")
    for stage, span in spans.items():
        per_image = f"{1000 * span.seconds / images:.3f}" if images else "-"
        table.add_row(STAGE_NAMES.get(stage, stage), f"{span.seconds:.2f}", per_image)
    return table


class Bars:
    """Progress bars on stderr, one under the other; to be used in a ``with``. Draws nothing where stderr is no terminal
    and every tenth is a line there instead.
    """

    def __init__(self) -> None:
        self._console = progress_console()
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def update(self, name: str, done: int, total: int, note: str = "") -> None:
        """Moves the bar ``name``, which appears when it is first named, to ``done`` of ``total``."""
        if not self._console.is_terminal:
            self._print_tenth(name, done, total, note)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, note=note)
        self._progress.update(self._tasks[name], completed=done, total=total, note=note)

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._progress.console.print(text, highlight=False, soft_wrap=True)

    def _print_tenth(self, name: str, done: int, total: int, note: str) -> None:
        tenth = 10 * done // total if total else 10
        if tenth != self._tenths.get(name, 0):
            self._tenths[name] = tenth
            self._console.print(f"{name}: {done}/{total} {note}".rstrip(), highlight=False, soft_wrap=True)
