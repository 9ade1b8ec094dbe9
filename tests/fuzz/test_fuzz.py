"""No mutation of anything that is read makes a reader crash, hang, stray, or allocate without bound.

The long job, of a million inputs by default, with its results in ``tests/fuzz/RESULTS.md`` when it has been run for
the record: ``pytest -m fuzz --fuzz-inputs 1000000 --fuzz-seed 1 --fuzz-report FILE.md``. Each parser runs in a process
of its own, whose memory is limited, which ends when one input takes a minute of processor time, and which dies if a
kernel strays. One input again: ``python -m tests.fuzz "JPEG: decode" --seed 1 --first 4711 --inputs 1``. With
FASTLOAD_BOUNDSCHECK=1 kernels check what is indexed and not addressed.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.harness import run
from tests.fuzz.parsers import PARSERS

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")


@pytest.mark.parametrize("name", PARSERS)
def test_a_few_inputs(name, tmp_path):
    parser = PARSERS[name]
    result = run(parser, tmp_path, inputs=parser.short, seed=0)
    # Every way out is taken; otherwise this would test nothing.
    assert set(parser.outcomes) <= set(result.outcomes), result.outcomes


def test_guards_do_guard():
    """The tests above can fail: one byte beyond ends a process."""
    program = (
        "import numpy as np; from tests.jpeg.guarded import Guarded; data = Guarded(100).empty(100, True)\n"
        "np.lib.stride_tricks.as_strided(data, (100 + {},))[-1] = 1"
    )
    for beyond, signal_number in ((0, 0), (1, -signal.SIGSEGV)):
        done = subprocess.run([sys.executable, "-c", program.format(beyond)], cwd=ROOT, check=False)
        assert done.returncode == signal_number


def test_limits_do_limit():
    program = (
        "import numpy as np; from tests.fuzz.harness import limited_memory\nwith limited_memory(1 << 30): np.ones({})"
    )
    for size, sign in ((1 << 20, ""), (1 << 28, "MemoryError")):
        command = [sys.executable, "-c", program.format(size)]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert sign in done.stderr
        assert bool(sign) == bool(done.returncode)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", PARSERS)
def test_a_share_of_many_inputs(name, request):
    inputs, seed, report = (request.config.getoption(f"fuzz_{name}") for name in ("inputs", "seed", "report"))
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        last = Path(folder, "last")
        command = [sys.executable, "-m", "tests.fuzz", name, "--job", str(inputs), "--seed", str(seed)]
        command += ["--folder", folder, "--last", str(last), *(["--report", report] if report else [])]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"}
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
        seen = int(np.fromfile(last, np.int64)[0]) if last.exists() else -1
    where = f"{name} ended with {done.returncode} at input {seen} of seed {seed}"
    assert done.returncode == 0, f"{where}\n{done.stderr[-8000:]}"
