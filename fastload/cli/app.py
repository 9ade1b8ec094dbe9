"""The program `fastload`: its commands, and how it ends when something fails."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from fastload import __version__
from fastload.cli import bench, convert, demo, index, inspect, train, verify
from fastload.errors import FastloadError

app = typer.Typer(
    name="fastload",
    help="Feeds image training at the speed of the accelerator, from ordinary JPEG files in ordinary tar shards.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="convert")(convert.command)
app.command(name="index")(index.command)
app.command(name="inspect")(inspect.command)
app.command(name="verify")(verify.command)
app.command(name="train")(train.command)
app.command(name="bench")(bench.command)
app.command(name="demo")(demo.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fastload {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Feeds image training at the speed of the accelerator, from ordinary JPEG files in ordinary tar shards."""


def main() -> None:
    """Runs the command line. A failure is one sentence on stderr and a code other than 0; Ctrl-C ends with 130."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    try:
        app()
    except FastloadError as error:
        print(f"fastload: error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output is gone (`fastload ... | head`); what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
