"""The cache gives right bytes or none: shared, limited, damaged, full, and under SIGKILL at any moment."""

import contextlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.dataset.remote import RemoteShardedDataset
from fastload.errors import ConfigError
from tests.remote import reader
from tests.remote_server import serving

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.remote.reader"])  # a child then starts in milliseconds


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("fastload.dataset.supply._FIRST_BLOCK", reader._BLOCK)
    monkeypatch.setattr("fastload.dataset.supply._LARGEST_BLOCK", reader._BLOCK)
    monkeypatch.setattr("fastload.dataset.supply._GAP", 0)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with two data sets, a and b, of 100 samples and 2 MB each; nobody may change it."""
    root = tmp_path_factory.mktemp("two")
    for name, seed in (("a", 1), ("b", 2)):
        chance = np.random.default_rng(seed)
        (root / "source" / name / "x").mkdir(parents=True)
        for number in range(100):
            pixels = chance.integers(0, 256, (90, 100, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "source" / name / "x" / f"{number}.jpg", quality=92)
        convert(root / "source" / name, root / name, shard_size="256KiB")
    shutil.rmtree(root / "source")
    return root


def checksum(folder) -> int:
    """What reader.read_all gives for a local data set."""
    with open_dataset(folder) as dataset:
        return zlib.crc32(dataset.crc32(np.arange(len(dataset))).astype(np.uint32).tobytes())


def bytes_of(folder: Path) -> int:
    """Of all files, seen twice alike: one that gets its name or goes meanwhile would count beside its successor."""
    before, now = None, sizes_of(folder)
    while now != before:
        time.sleep(0.01)
        before, now = now, sizes_of(folder)
    return sum(now.values())


def sizes_of(folder: Path) -> dict[Path, int]:
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[path] = path.stat().st_size
    return found


def files_of(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.rglob(f"*{suffix}"))


def tars(server) -> int:
    return sum(count for name, count in server.names().items() if name.endswith(".tar"))


def test_a_full_cache_keeps_what_it_has_and_its_limit(two, tmp_path):
    limit = bytes_of(two / "a") // 2
    with serving(two) as server:
        url = f"{server.url}/a"
        with RemoteShardedDataset(url, cache_dir=tmp_path, cache_bytes=limit) as dataset:
            assert reader.read_all(dataset, 1) == checksum(two / "a")
            kept = files_of(tmp_path, ".pack")
            assert 0.6 * limit < bytes_of(tmp_path) <= limit
            server.forget()
            assert reader.read_all(dataset, 2) == checksum(two / "a")
            assert files_of(tmp_path, ".pack") == kept
            assert 20 < tars(server) < 75


def test_what_was_used_longest_ago_makes_room(two, tmp_path):
    limit = int(1.3 * bytes_of(two / "a"))
    with serving(two) as server:
        for name in ("a", "b", "b"):
            with RemoteShardedDataset(f"{server.url}/{name}", cache_dir=tmp_path, cache_bytes=limit) as dataset:
                reader.read_all(dataset, 1)
            assert bytes_of(tmp_path) <= limit
            for pack in files_of(tmp_path, ".pack"):  # as if it had been long ago
                os.utime(pack, (1, 1))
        assert len({path.parent for path in files_of(tmp_path, ".pack")}) == 2
        server.forget()
        with RemoteShardedDataset(f"{server.url}/b", cache_dir=tmp_path, cache_bytes=limit) as dataset:
            assert reader.read_all(dataset, 3) == checksum(two / "b")
        assert not tars(server)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign", "table"])
def test_damaged_files_are_never_believed(two, tmp_path, damage):
    with serving(two) as server:
        url = f"{server.url}/a"
        with RemoteShardedDataset(url, cache_dir=tmp_path) as dataset:
            expected = reader.read_all(dataset, 1)
        packs = files_of(tmp_path, ".pack")
        assert len(packs) > 4
        for number, pack in enumerate(packs):
            data = bytearray(pack.read_bytes())
            if damage == "flip":
                data[len(data) // 2] ^= 1
            elif damage == "cut":
                del data[len(data) // 2 :]
            elif damage == "empty":
                data.clear()
            elif damage == "foreign":
                data[:] = b"this is no pack" * 100
            else:
                data[30 + number] ^= 255
            pack.write_bytes(data)
        index = next(iter(files_of(tmp_path, ".arrow")))
        index.write_bytes(index.read_bytes()[:-1] + b"!")
        with RemoteShardedDataset(url, cache_dir=tmp_path) as dataset:
            assert reader.read_all(dataset, 2) == expected == checksum(two / "a")


def test_a_pack_that_is_damaged_while_it_is_open_is_never_believed(two, tmp_path):
    """The engine's kernel compares checksums by itself; what it refuses is fetched again."""
    import fastload as fl
    from fastload import transforms as T

    def epoch(source):
        with fl.Loader(source, batch_size=9, transforms=[T.CenterCrop(64)], engine="cpu", seed=4) as loader:
            return [batch.images.numpy().copy() for batch in loader]

    with serving(two) as server, open_dataset(f"{server.url}/a", cache_dir=tmp_path) as dataset:
        epoch(dataset)
        for pack in files_of(tmp_path, ".pack"):
            with pack.open("r+b") as file:
                file.seek(pack.stat().st_size * 2 // 3)
                file.write(bytes(1000))
        server.forget()
        assert all(map(np.array_equal, epoch(dataset), epoch(two / "a")))
        assert tars(server)


def test_files_that_others_remove_are_fetched_again(two, tmp_path):
    with serving(two) as server, RemoteShardedDataset(f"{server.url}/a", cache_dir=tmp_path) as dataset:
        expected = reader.read_all(dataset, 1)
        for pack in files_of(tmp_path, ".pack"):
            pack.unlink()
        assert reader.read_all(dataset, 2) == expected
        shutil.rmtree(tmp_path)
        assert reader.read_all(dataset, 3) == expected
        assert reader.read_all(dataset, 4) == expected


def test_two_processes_share_a_cache(two, tmp_path):
    limit = 10 * bytes_of(two / "a")
    with serving(two) as server:
        answers = SPAWN.Queue()
        url = f"{server.url}/a"
        processes = [
            SPAWN.Process(target=reader.read_epochs, args=(url, tmp_path, limit, seeds, answers))
            for seeds in ([1, 2, 3], [4, 5, 6])
        ]
        for process in processes:
            process.start()
        found = [answers.get(timeout=600) for _ in range(6)]
        for process in processes:
            process.join(600)
            assert process.exitcode == 0
        assert set(found) == {checksum(two / "a")}
        server.forget()
        with RemoteShardedDataset(url, cache_dir=tmp_path) as dataset:  # a third finds all of it
            assert reader.read_all(dataset, 7) == found[0]
        assert not tars(server)
        assert not files_of(tmp_path, ".tmp")


def kill_often(two: Path, cache: Path, times: int) -> None:
    """Processes that read two data sets by turns through a cache too small for both, killed at random moments."""
    limit = int(1.2 * bytes_of(two / "a"))
    expected = {name: checksum(two / name) for name in ("a", "b")}
    chance = random.Random(8)
    with serving(two, misdeeds=("truncate", "drop"), share=0.05) as server:
        for number in range(times):
            name = "ab"[number % 2]
            pair = [
                SPAWN.Process(target=reader.read_for_ever, args=(f"{server.url}/{name}", cache, limit, 10 * number + i))
                for i in range(1 + number % 2)
            ]
            for process in pair:
                process.start()
            before = len(server.requests)
            while len(server.requests) == before:  # it has begun
                assert all(process.is_alive() for process in pair)
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.25))
            for process in pair:
                process.kill()
                process.join()
            assert bytes_of(cache) <= limit
            if number % 5 == 4:
                with RemoteShardedDataset(
                    f"{server.url}/{name}", cache_dir=cache, cache_bytes=limit, patience=reader.QUICK
                ) as dataset:
                    assert reader.read_all(dataset, number) == expected[name]
        server.script.misdeeds = ()
        for name in ("a", "b"):
            for seed in (1, 2):
                with RemoteShardedDataset(f"{server.url}/{name}", cache_dir=cache, cache_bytes=limit) as dataset:
                    server.forget()
                    assert reader.read_all(dataset, seed) == expected[name]
                    assert bytes_of(cache) <= limit
        assert tars(server) < 60  # of 100 samples: most of the second epoch came from the cache
        assert not files_of(cache, ".tmp")


def test_processes_that_are_killed_leave_nothing_wrong(two, tmp_path):
    kill_often(two, tmp_path / "cache", 15)


@pytest.mark.slow
def test_a_hundred_processes_that_are_killed_leave_nothing_wrong(two, tmp_path):
    kill_often(two, tmp_path / "cache", 100)


_ON_A_SMALL_DISK = """
import logging, sys
from tests.remote import reader
from fastload.dataset.remote import RemoteShardedDataset
reader.small_blocks()
logging.basicConfig(format="%(message)s")
with RemoteShardedDataset(sys.argv[1], cache_dir=sys.argv[2], cache_bytes=1 << 40) as dataset:
    print(reader.read_all(dataset, 1), reader.read_all(dataset, 2))
"""


@pytest.mark.parametrize("megabytes", [1, 0.016])
def test_a_full_disk_is_a_warning(two, tmp_path, megabytes):
    """On a real file system of that size, in a namespace of the test's own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = ["unshare", "-rm", "sh", "-c"]
    mount = f'mount -t tmpfs -o size={int(megabytes * 1024)}k tmpfs "$0" && exec "$@"'
    if shutil.which("unshare") is None or subprocess.run([*inside, mount, disk, "true"], check=False).returncode:
        pytest.skip("this system mounts nothing for us")
    with serving(two) as server:
        command = [*inside, mount, disk, sys.executable, "-c", _ON_A_SMALL_DISK, f"{server.url}/a", disk]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(checksum(two / "a"))] * 2
    assert "cannot be written to (No space left on device); going on without" in done.stderr


def test_a_folder_that_cannot_be_written_to_is_refused(two, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with serving(two) as server, pytest.raises(ConfigError, match="choose another folder with cache_dir"):
        RemoteShardedDataset(f"{server.url}/a", cache_dir=tmp_path / "file" / "cache")
