"""The command line: each command parses, calls one function of the package, and prints; no logic of its own."""

from __future__ import annotations

from fastload.cli.app import main

__all__ = ["main"]
