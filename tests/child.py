"""Runs a function of a test module in a process of its own, for what other tests of this process would disturb."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

_PROGRAM = """
import importlib, json, sys
module, name, arguments = sys.argv[1:]
answer = getattr(importlib.import_module(module), name)(*json.loads(arguments))
sys.stdout.write("\\n" + json.dumps(answer))
"""


def in_a_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function(*arguments)`` returns in a fresh process: memory, threads and CPU time there are its alone.

    Arguments and answer travel as JSON, paths as strings; the function must stand at the top of its module.
    """
    command = [sys.executable, "-c", _PROGRAM, function.__module__, function.__name__]
    command.append(json.dumps(arguments, default=os.fspath))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
