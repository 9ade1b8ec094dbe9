"""The loader in real processes: Ctrl-C, the end of the program, forks, and the first batch."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

PREAMBLE = """
import os, sys, threading, time
import fastload as fl
from fastload import transforms as T

def make(**options):
    return fl.Loader(sys.argv[1], batch_size=4, transforms=[T.RandomResizedCrop(16)], num_workers=3, **options)
"""


def start(code, photos):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + code, str(photos)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, seconds=600):
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"the process did not end:\n{out}\n{err}")
    return process.returncode, out, err


# Where the signal meets the program: waiting for a batch that takes forever, or in the user's own work.
SLOW = r"""
from fastload.dataset import ImageFolderDataset

class Slow(ImageFolderDataset):
    def read_into(self, sample_id, buffer):
        os.write(1, b"busy\n")  # one call, so that lines of several threads stay lines
        time.sleep(0.3)
        return super().read_into(sample_id, buffer)

loader = fl.Loader(Slow(sys.argv[1]), batch_size=48, transforms=[T.RandomResizedCrop(16)], num_workers=3)
for batch in loader:
    pass
"""
TRAINING = """
for batch in make():
    print("busy", flush=True)
    time.sleep(3600)
"""
HELD = """
kept = iter(make())
next(kept)
print("busy", flush=True)
time.sleep(3600)
"""
BETWEEN_EPOCHS = """
kept = make()
list(kept)
print("busy", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(SLOW, id="slow"),
        pytest.param(TRAINING, id="training"),
        pytest.param(HELD, id="held", marks=pytest.mark.slow),
        pytest.param(BETWEEN_EPOCHS, id="between", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_the_program_at_once(photos, code):
    process = start(code, photos)
    if process.stdout.readline() != "busy\n":
        pytest.fail(finish(process)[2])
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == -signal.SIGINT
    assert err.count("KeyboardInterrupt") == 1
    assert "Exception ignored" not in err
    assert "Fatal" not in err


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("kept = iter(make()); next(kept)", id="iterator"),
        pytest.param("kept = [make(), make()]; list(kept[0]); its = [iter(kept[1])]; next(its[0])", id="two loaders"),
        pytest.param("kept = make(); list(kept)", id="loader", marks=pytest.mark.slow),
        pytest.param("kept = iter(make()); batch = next(kept); del kept", id="batch", marks=pytest.mark.slow),
        pytest.param("kept = iter(make()); next(kept); raise SystemExit(0)", id="exit", marks=pytest.mark.slow),
        pytest.param("kept = iter(make()); kept.i = kept; next(kept); del kept", id="cycle", marks=pytest.mark.slow),
    ],
)
def test_a_program_that_just_ends_does_not_hang_or_complain(photos, code):
    code, _, err = finish(start(code, photos))
    assert (code, err) == (0, "")


FORK = """
import signal

signal.alarm(300)  # a child that hangs is ended
loader = make()
reference = [batch.ids.tolist() for batch in loader]
loader.set_epoch(0)
iterator = iter(loader)
next(iterator)
if child := os.fork():
    rest = [batch.ids.tolist() for batch in iterator]
    _, status = os.waitpid(child, 0)
    print("parent", rest == reference[1:], status, flush=True)
else:
    try:
        next(iterator)
    except fl.FastloadError as error:
        print("child", "threads do not exist in its forked child" in str(error), flush=True)
    loader.set_epoch(0)
    print("child", [batch.ids.tolist() for batch in loader] == reference, flush=True)
    loader.close()
    os._exit(0)
"""


def test_a_forked_child_gets_a_clear_error_and_reads_anew(photos):
    code, out, err = finish(start(FORK, photos))
    assert code == 0, err
    assert sorted(out.splitlines()) == ["child True", "child True", "parent True 0"]


FIRST = """
import torch
begin = time.process_time()
batch = next(iter(make()))
print(time.process_time() - begin)
"""


def test_the_first_batch_of_a_later_process_comes_from_compiled_kernels(photos):
    """Seconds of CPU beyond the import of torch, which a busy machine does not stretch: 0.7 measured, 2.1 where Python
    may not keep its bytecode; compiling takes 9 and more."""
    finish(start(FIRST, photos))
    code, out, err = finish(start(FIRST, photos))
    assert (code, err) == (0, "")
    assert float(out) < 4
