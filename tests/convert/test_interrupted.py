"""A conversion may be killed, interrupted, starved of disk space or run twice: it ends as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from fastload.convert import convert
from fastload.convert.transcode import transcode
from fastload.dataset import open_dataset
from fastload.errors import DataError

OPTIONS = {"shard_size": "100k", "seed": 7, "quality": 85}

# A second process. It says "ready" when the work begins, so that the moment of the kill falls into it.
CHILD = """
import json, os, signal, sys, time
from fastload.convert import convert
source, destination, extra = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
renames = 0
def hook(event, arguments):
    global renames
    if event == "os.rename":
        renames += 1
        if renames == extra["kill_at_rename"]:
            os.kill(os.getpid(), signal.SIGKILL)
if "kill_at_rename" in extra:
    sys.addaudithook(hook)
if "largest_file" in extra:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (extra["largest_file"], extra["largest_file"]))
def progress(done, total, skipped):
    if done >= extra.get("hold_at", 1 << 60):
        print("holding", flush=True)
        time.sleep(3600)
print("ready", flush=True)
convert(source, destination, workers=2, progress=progress, **extra["options"])
"""


def start(source, destination, **extra):
    command = [sys.executable, "-c", CHILD, str(source), str(destination), json.dumps({"options": OPTIONS} | extra)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n", child.stderr.read()
    return child


def end(child):
    """Return code and what stood on stderr."""
    _, errors = child.communicate(timeout=600)
    return child.returncode, errors


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    """What an undisturbed conversion writes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    convert(photos, folder, **OPTIONS)
    return contents(folder)


def assert_nothing_half_written(folder, expected):
    """Whatever stands under a final name is what belongs there; without dataset.json there is no data set."""
    if not folder.exists():
        return
    final = {name: data for name, data in contents_of_files(folder).items() if not name.endswith(".tmp")}
    assert final.items() <= expected.items()
    if "dataset.json" in final:
        assert final.keys() == expected.keys()
    elif any(folder.iterdir()):
        with pytest.raises(DataError, match="not been finished"):
            open_dataset(folder)


def contents_of_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def kill_and_resume(photos, folder, expected, moments):
    """Kills one process after another, each at its moment, then lets one finish."""
    killed = 0
    for moment in moments:
        child = start(photos, folder, **moment.get("extra", {}))
        if "delay" in moment:
            time.sleep(moment["delay"])
            child.kill()
        code, errors = end(child)
        assert code in (0, -signal.SIGKILL), errors
        killed += code != 0
        assert_nothing_half_written(folder, expected)
    summary = convert(photos, folder, **OPTIONS)
    assert (summary.found, summary.written, summary.skipped) == (80, 77, 3)
    assert contents(folder) == expected
    return killed


def by_time(generator, duration=0.4):
    return {"delay": generator.uniform(0, duration)}


def by_rename(generator):
    return {"extra": {"kill_at_rename": generator.randint(1, 50)}}


def test_killed_at_random_moments(photos, expected, tmp_path):
    generator = random.Random(1)
    moments = [by_rename(generator), by_time(generator), by_rename(generator), by_time(generator)]
    assert kill_and_resume(photos, tmp_path / "out", expected, moments) >= 2


def test_killed_while_files_get_their_final_names(photos, expected, tmp_path):
    """From the first process on everything is done but the last renames; dataset.json comes with the last."""
    generator = random.Random(2)
    parts = sum(name.endswith(".tar") for name in expected)
    first = 1 + 5 * parts  # the notes, then five files of each part
    moments = [{"extra": {"kill_at_rename": first + generator.randint(1, 3 * parts)}}]
    moments += [{"extra": {"kill_at_rename": 2}}, {"extra": {"kill_at_rename": 3}}]
    assert kill_and_resume(photos, tmp_path / "out", expected, moments) == 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_killed_at_a_hundred_random_moments(photos, expected, tmp_path, seed):
    """Four of them for each seed; a moment that comes after the end is none, and then a new conversion is begun."""
    generator = random.Random(seed)
    killed = begun = 0
    while killed < 4:
        moments = [generator.choice([by_time, by_rename])(generator) for _ in range(4 - killed)]
        killed += kill_and_resume(photos, tmp_path / f"{begun}", expected, moments)
        begun += 1
        assert begun < 20


def test_a_resumed_conversion_does_not_repeat_finished_parts(photos, expected, tmp_path, monkeypatch):
    child = start(photos, tmp_path / "out", hold_at=40)
    assert child.stdout.readline() == "holding\n"
    child.kill()
    end(child)
    decoded = []
    monkeypatch.setattr(
        "fastload.convert.production.transcode", lambda data, **options: decoded.append(1) or transcode(data, **options)
    )
    calls = []
    convert(photos, tmp_path / "out", progress=lambda *call: calls.append(call), **OPTIONS)
    assert 0 < len(decoded) < 60
    assert calls[0][0] >= 20
    assert contents(tmp_path / "out") == expected


def test_other_options_on_an_unfinished_conversion_are_refused(photos, expected, tmp_path):
    child = start(photos, tmp_path / "out", hold_at=40)
    assert child.stdout.readline() == "holding\n"
    child.kill()
    end(child)
    with pytest.raises(DataError, match=r"quality \(85 then, None now\).*begin anew"):
        convert(photos, tmp_path / "out", **OPTIONS | {"quality": None})
    convert(photos, tmp_path / "out", **OPTIONS)
    assert contents(tmp_path / "out") == expected


def test_an_unfinished_conversion_goes_on_with_seek_indexes_as_it_began(photos, expected, tmp_path):
    child = start(photos, tmp_path / "out", hold_at=40)
    assert child.stdout.readline() == "holding\n"
    child.kill()
    end(child)
    with pytest.raises(DataError, match=r"differs in seek_index \(True then, False now\)"):
        convert(photos, tmp_path / "out", seek_index=False, **OPTIONS)
    convert(photos, tmp_path / "out", **OPTIONS)
    assert contents(tmp_path / "out") == expected


def test_two_conversions_at_once_are_refused_and_the_lock_dies_with_its_process(photos, expected, tmp_path):
    child = start(photos, tmp_path / "out", hold_at=40)
    assert child.stdout.readline() == "holding\n"
    with pytest.raises(DataError, match="another conversion"):
        convert(photos, tmp_path / "out", **OPTIONS)
    child.kill()
    end(child)
    convert(photos, tmp_path / "out", **OPTIONS)
    assert contents(tmp_path / "out") == expected


def test_many_that_start_together_leave_one_data_set(photos, expected, tmp_path):
    children = [start(photos, tmp_path / "out") for _ in range(3)]
    codes = []
    for child in children:
        code, errors = end(child)
        codes.append(code)
        assert code == 0 or "another conversion is writing" in errors, errors
    assert 0 in codes
    assert contents(tmp_path / "out") == expected


def test_ctrl_c_ends_it_at_once(photos, expected, tmp_path):
    child = start(photos, tmp_path / "out", hold_at=1)
    assert child.stdout.readline() == "holding\n"
    child.send_signal(signal.SIGINT)  # what it waits for lasts an hour
    code, errors = end(child)
    assert code != 0
    assert "KeyboardInterrupt" in errors
    assert_nothing_half_written(tmp_path / "out", expected)
    assert not list((tmp_path / "out" / ".fastload-convert").glob("*.tmp"))
    convert(photos, tmp_path / "out", **OPTIONS)
    assert contents(tmp_path / "out") == expected


def test_ctrl_c_while_threads_decode(photos, expected, tmp_path, monkeypatch):
    """The interrupt arrives while the main thread waits for a result; no thread stays behind."""
    begun: list[str] = []
    sent = threading.Lock()

    def slow(data, **options):
        begun.append(threading.current_thread().name)
        counts = Counter(begun)
        # Both threads have long been started: in that moment Python itself would forget one that is interrupted.
        if len(counts) == 2 and min(counts.values()) >= 4 and sent.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1.0 if sent.locked() else 0.05)
        return transcode(data, **options)

    monkeypatch.setattr("fastload.convert.production.transcode", slow)
    with pytest.raises(KeyboardInterrupt):
        convert(photos, tmp_path / "out", workers=2, **OPTIONS)
    assert len(begun) < 60  # of 80: two a second, until the main thread has seen it
    assert not any(thread.name.startswith("fastload-convert") for thread in threading.enumerate())
    monkeypatch.undo()
    convert(photos, tmp_path / "out", **OPTIONS)
    assert contents(tmp_path / "out") == expected


def test_a_file_that_may_not_grow_is_one_clear_error(photos, expected, tmp_path):
    child = start(photos, tmp_path / "out", largest_file=50_000)
    code, errors = end(child)
    assert code == 1
    assert "DataError" in errors
    assert "cannot write: File too large" in errors
    assert_nothing_half_written(tmp_path / "out", expected)
    convert(photos, tmp_path / "out", **OPTIONS)
    assert contents(tmp_path / "out") == expected


@pytest.fixture
def small_disk(tmp_path):
    """A function that makes (or resizes) a file system of so many bytes; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(size, option=""):
        command = ["mount", "-t", "tmpfs", "-o", f"{option}size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this user may not mount a file system")
        return folder

    yield resize
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.95, 1.0])
def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(photos, expected, small_disk, share):
    needed = sum(-(-len(data) // 4096) * 4096 for data in expected.values())
    disk = small_disk(int(share * needed))
    with pytest.raises(DataError, match=r"No space left on device.*continues where it stopped"):
        convert(photos, disk / "out", **OPTIONS)
    assert_nothing_half_written(disk / "out", expected)
    small_disk(4 * needed, "remount,")
    convert(photos, disk / "out", **OPTIONS)
    assert contents(disk / "out") == expected
