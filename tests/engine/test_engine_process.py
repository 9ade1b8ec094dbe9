"""Engines in processes of their own: the end of a program, Ctrl-C, and the cache of compiled kernels."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

PRELUDE = """
import sys, time, threading
import numpy as np
from fastload.engine.cpu import CpuEngine
from tests.engine.helpers import MemoryDataset, jpeg, make_output, make_slot, picture, whole_images
dataset, output = MemoryDataset([jpeg(picture(60, 80))] * 50), make_output()
begin = time.process_time()
engine = CpuEngine(dataset, output, num_workers=2)
print("started", time.process_time() - begin, flush=True)
"""


def start(body, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + body],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, seconds=600):
    out, err = process.communicate(timeout=seconds)
    return out, err


def test_a_program_that_forgets_its_engine_ends_at_once():
    process = start("""
pending = engine.submit(whole_images(dataset, output), make_slot(50, output))
print(pending.result(), flush=True)
ended = time.monotonic()
import atexit
atexit.register(lambda: print("seconds", time.monotonic() - ended, flush=True))
""")
    out, err = finish(process)
    assert process.returncode == 0, err
    assert "()" in out
    # atexit functions run after the threads have been waited for.
    assert float(out.split("seconds")[1]) < 60.0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_control_c_ends_a_program_at_once():
    process = start("""
dataset.sizes([0])
read_into = dataset.read_into
def slow(sample_id, buffer):
    time.sleep(0.05)
    return read_into(sample_id, buffer)
dataset.read_into = slow
plans = [engine.submit(whole_images(dataset, output), make_slot(50, output)) for _ in range(100)]
print("waiting", flush=True)
plans[-1].result()
""")
    assert process.stdout.readline().startswith("started")
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = finish(process)
    assert time.monotonic() - begin < 60.0, "all batches would take two minutes"
    assert "KeyboardInterrupt" in err
    assert process.returncode != 0


@pytest.mark.slow  # tests/test_jit.py shows it of a kernel of its own; this compiles all of them, for 40 s
def test_kernels_are_compiled_once_even_with_a_read_only_home_and_several_first_processes(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder can be made below this")
    # Nothing can be written where the cache belongs, so that the temporary folder serves.
    environment = {"FASTLOAD_CACHE_DIR": str(in_the_way / "cache"), "TMPDIR": str(tmp_path)}
    body = "assert engine.submit(whole_images(dataset, output), make_slot(50, output)).result() == (); engine.close()"
    first = [start(body, **environment) for _ in range(3)]
    results = [finish(process) for process in first]
    assert [process.returncode for process in first] == [0, 0, 0], [err for _, err in results]
    spent = sorted(float(out.split()[1]) for out, _ in results)
    for group in ("cpu engine", "decoder"):
        said = sum(err.count(f"compiling fastload's {group} kernels") for _, err in results)
        assert said == 1, "the others wait for the first one"
    later = start(body, **environment)
    out, err = finish(later)
    assert later.returncode == 0, err
    assert "compiling" not in err
    assert float(out.split()[1]) < spent[-1] / 3
