"""The command line in this process: as a user's shell has it, without the seconds that a process takes to import."""

import contextlib
import io
import sys
from subprocess import CompletedProcess
from unittest.mock import patch

from fastload.cli import main


def run(*arguments, check=0):
    """What ``fastload`` with these arguments prints, and its code, which must be ``check``."""
    command = ["fastload", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", command), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    assert code == check, err.getvalue() + out.getvalue()
    return CompletedProcess(command, code, out.getvalue(), err.getvalue())
