"""The contestants as the benchmark sees them: processes that are started, asked, and ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any

from fastload.bench.task import Round, Task
from fastload.errors import FastloadError

# Seconds that a process gets to end by itself.
_PATIENCE = 10.0


class Contestant:
    """A process that does one thing at a time; to be used in a ``with``.

    Args:
        name: What it is called in errors.
        kind: ``fastload``, ``torch`` or ``model``.
        task: What it is to do; for ``model`` the recipe as plain data.

    Raises:
        FastloadError: From any method: the process failed, with its reason.
    """

    def __init__(self, name: str, kind: str, task: Task | Mapping[str, Any]) -> None:
        self.name = name
        self._said = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastload.bench.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            bufsize=1,
        )
        self._send({"kind": kind, "task": asdict(task)} if isinstance(task, Task) else {"kind": kind, "recipe": task})

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None)

    def wait_until_ready(self) -> None:
        """Returns when it has imported what it needs and opened its data."""
        self._receive()

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Calls the method ``what`` of the contestant and returns its answer."""
        self._send({"do": what, **arguments})
        return self._receive()

    def measure(self, workers: int, seconds: float) -> Round:
        """One round."""
        return Round(**self.ask("measure", workers=workers, seconds=seconds))

    def close(self, *, at_once: bool = False) -> None:
        """Ends the process. Safe to call twice."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if at_once:
            process.kill()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._said.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; _receive says why
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise FastloadError(f"{self.name} ended without an answer{self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise FastloadError(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = [line.strip() for line in self._said if line.strip()]
        return f" (exit code {code}){': ' + lines[-1] if lines else ''}"
