"""Kernels that work on addresses keep to their arrays: between unmapped pages, in a process whose end is a failure."""

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guard pages by mprotect")
@pytest.mark.parametrize(("what", "least"), [("programs", 2_000), ("images", 200)])
def test_nothing_outside_of_the_arrays_is_touched(what, least):
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.engine.guarded_operations", what]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= least
