"""A data set behind a URL gives what the local one gives, bit for bit, whatever the server does."""

import dataclasses
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings

import fsspec
import numpy as np
import pytest
from PIL import Image

import fastload as fl
from fastload import transforms as T
from fastload.dataset import RemoteShardedDataset, open_dataset
from fastload.errors import ConfigError, DataError
from fastload.remote import Patience
from tests.remote_server import MISDEEDS, serving

TRAIN = [T.RandomResizedCrop(24), T.RandomHorizontalFlip()]
# A test must not wait as long as a user would.
QUICK = Patience(attempts=16, timeout=0.4, slowest=1.0, first_wait=0.002, longest_wait=0.05)


pytestmark = pytest.mark.usefixtures("own_side_cache")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """60 noisy pictures of 80 KB in 10 shards; nobody may change it."""
    source, folder = tmp_path_factory.mktemp("noise"), tmp_path_factory.mktemp("remote") / "data"
    chance = np.random.default_rng(3)
    for number in range(60):
        (source / str(number % 3)).mkdir(exist_ok=True)
        pixels = chance.integers(0, 256, (200 + number, 230, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / str(number % 3) / f"{number}.jpg", quality=90)
    fl.convert(source, folder, shard_size="512KiB")
    return folder


def batches(source, *, epochs=1, skip=0, state=None, **options):
    """Everything that a Loader hands over."""
    found = []
    with fl.Loader(source, batch_size=7, transforms=TRAIN, engine="cpu", num_workers=2, seed=5, **options) as loader:
        if state is not None:
            loader.load_state_dict(state)
        for _ in range(epochs):
            for batch in itertools.islice(loader, skip, None):
                images = batch.images.numpy().copy()
                found.append((images, batch.labels.tolist(), batch.ids.tolist()))
    return found


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def image_of(dataset, sample):
    buffer = np.zeros(int(dataset.num_bytes(np.array([sample]))[0]), np.uint8)
    assert dataset.read_into(sample, buffer) == len(buffer)
    return buffer.tobytes()


@pytest.mark.parametrize("shuffle", [True, "local", False])
def test_batches_equal_those_of_the_local_data_set(shards, shuffle):
    expected = batches(shards, epochs=2, shuffle=shuffle)
    with serving(shards) as server:
        assert_equal(batches(server.url, epochs=2, shuffle=shuffle), expected)


def test_samples_sizes_and_labels_are_the_same(shards):
    with serving(shards) as server, open_dataset(shards) as local, open_dataset(server.url) as remote:
        assert isinstance(remote, RemoteShardedDataset)
        ids = np.arange(len(local))
        assert remote.path == server.url
        assert (remote.classes, remote.schema, remote.fingerprint) == (local.classes, local.schema, local.fingerprint)
        for name in ("labels", "sizes", "num_bytes", "crc32"):
            assert np.array_equal(getattr(remote, name)(ids), getattr(local, name)(ids))
        for sample in ids.tolist():
            assert remote[sample] == local[sample]
            assert remote.location(sample).startswith(server.url)


def test_further_members_are_read(photos, tmp_path):
    (tmp_path / "list.jsonl").write_text(
        "".join(f'{{"path": "{path}", "note": "{path.stem}"}}\n' for path in sorted(photos.rglob("*.jpg"))[:6])
    )
    fl.convert(tmp_path / "list.jsonl", tmp_path / "data")
    with serving(tmp_path / "data", misdeeds=("flip", "truncate"), share=0.3) as server:
        with open_dataset(tmp_path / "data") as local, RemoteShardedDataset(server.url, patience=QUICK) as remote:
            assert [remote[i] for i in range(6)] == [local[i] for i in range(6)]
            assert b"note" in remote[0].extras["json"]


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_misbehaving_server_costs_time_and_nothing_else(shards, misdeed):
    expected = batches(shards)
    share = 0.15 if misdeed in ("stall", "flip") else 0.4
    with serving(shards, misdeeds=(misdeed,), share=share) as server:
        with RemoteShardedDataset(server.url, patience=QUICK, connections=8) as remote:
            assert_equal(batches(remote), expected)
        assert server.counts()[misdeed] > 0


def test_a_server_that_does_all_of_it_costs_time_and_nothing_else(shards, tmp_path):
    expected = batches(shards, epochs=2)
    misdeeds = tuple(misdeed for misdeed in MISDEEDS if misdeed != "stall")
    with serving(shards, misdeeds=misdeeds, share=0.5) as server:
        with RemoteShardedDataset(server.url, patience=QUICK, cache_dir=tmp_path / "cache") as remote:
            assert_equal(batches(remote, epochs=2), expected)


def test_a_range_that_breaks_off_is_resumed_where_it_broke(shards):
    with serving(shards, misdeeds=("truncate",), share=0.7) as server:
        with RemoteShardedDataset(server.url, patience=QUICK, connections=1) as remote:
            server.forget()
            assert_equal(batches(remote, shuffle=False), batches(shards, shuffle=False))
        tars = [entry for entry in server.requests if entry[0].endswith(".tar")]
        again = [(one, other) for one, other in itertools.pairwise(tars) if one[0] == other[0] and one[2] == other[2]]
        assert again
        assert all(other[1] >= one[1] for one, other in again)
        assert any(other[1] > one[1] for one, other in again)


def test_an_epoch_is_resumed_in_its_middle(shards):
    expected = batches(shards)
    with serving(shards) as server:
        with fl.Loader(server.url, batch_size=7, transforms=TRAIN, engine="cpu", seed=5) as loader:
            iterator = iter(loader)
            for _ in range(4):
                next(iterator)
            state = loader.state_dict()
        assert_equal(batches(server.url, state=state), expected[4:])


def test_what_will_be_read_is_asked_for_beforehand_in_few_requests(shards):
    with serving(shards) as server, open_dataset(server.url) as remote:
        server.forget()
        found = batches(remote, shuffle=False)
        tars = requests_of_tars(server)
        assert len(found) == 9
        # As stored, a shard is one range, or two where a block ends in it, and no byte comes twice.
        assert set(tars.values()) == {1, 2}
        assert sum(tars.values()) <= len(tars) + 5


def requests_of_tars(server):
    return {name: count for name, count in server.names().items() if name.endswith(".tar")}


def all_asked_for(server, dataset):
    """Whether some request was for each image, or more."""
    _, offsets, sizes = dataset.extents(np.arange(len(dataset)))
    names = [os.path.basename(dataset.location(number)) for number in range(len(dataset))]
    asked = [entry for entry in server.requests if entry[0].endswith(".tar")]
    return all(
        any(entry[0] == name and entry[1] <= offset and offset + size <= entry[2] for entry in asked)
        for name, offset, size in zip(names, offsets.tolist(), sizes.tolist(), strict=True)
    )


def test_what_comes_next_is_fetched_while_a_batch_is_used_many_requests_at_once(shards):
    batches(shards)  # kernels that are compiled for the first time would keep requests from being made
    with serving(shards) as server, open_dataset(server.url) as remote:
        server.forget()
        server.script.together = 10
        with fl.Loader(remote, batch_size=2, transforms=TRAIN, engine="cpu", prefetch=1) as loader:
            iterator = iter(loader)
            next(iterator)
            deadline = time.monotonic() + 300
            while not all_asked_for(server, remote):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            asked = len(server.requests)
            assert sum(1 for _ in iterator) == 29
            assert [entry for entry in server.requests[asked:] if entry[0].endswith(".tar")] == []
        assert server.most_at_once >= 10


def test_no_more_is_fetched_ahead_than_may_be(shards):
    with serving(shards) as server, RemoteShardedDataset(server.url, ahead_bytes=30_000) as remote:
        server.forget()
        with fl.Loader(remote, batch_size=2, transforms=TRAIN, engine="cpu", seed=5, prefetch=1) as loader:
            iterator = iter(loader)
            next(iterator)
            time.sleep(0.3)
            asked = sum(requests_of_tars(server).values())
            assert 0 < asked < 40
            assert sum(1 for _ in iterator) == 29


def test_after_an_epoch_in_a_large_cache_nothing_is_fetched_again(shards, tmp_path):
    expected = batches(shards, epochs=3)
    with serving(shards) as server, open_dataset(server.url, cache_dir=tmp_path) as remote:
        assert_equal(batches(remote), expected[:9])
        server.forget()
        assert_equal(batches(remote, epochs=3), expected)
        assert not server.requests
    with serving(shards) as server:
        assert_equal(batches(server.url, epochs=3, cache_dir=tmp_path), expected)
        assert set(server.names()) == {"dataset.json"}


def test_a_server_that_is_gone_is_one_error_and_no_hang(shards):
    patience = Patience(attempts=4, first_wait=0.01, longest_wait=0.02)
    with serving(shards) as server, RemoteShardedDataset(server.url, patience=patience, ahead_bytes=20_000) as remote:
        with fl.Loader(remote, batch_size=3, transforms=TRAIN, engine="cpu", seed=5, on_error="skip") as loader:
            iterator = iter(loader)
            next(iterator)
            server.script.gone = True
            with pytest.raises(
                DataError, match=r"/data/shard-.*tried 4 times in .* s; check that the server"
            ) as caught:
                for _ in iterator:
                    pass
            assert caught.value.__cause__ is None
            state = loader.state_dict()
            server.script.gone = False
            loader.load_state_dict(state)
            rest = [batch.ids.tolist() for batch in loader]
            assert rest == ids_in_order(shards, 3)[state["batch"] :]


def ids_in_order(source, batch_size):
    with fl.Loader(source, batch_size=batch_size, transforms=TRAIN, engine="cpu", seed=5) as loader:
        return [batch.ids.tolist() for batch in loader]


def test_a_server_that_was_never_there_is_one_error():
    patience = Patience(attempts=3, first_wait=0.01, longest_wait=0.02)
    with pytest.raises(DataError, match=r"127\.0\.0\.1:1/data/dataset\.json.*Connection refused; tried 3 times"):
        RemoteShardedDataset("http://127.0.0.1:1/data", patience=patience)


def test_a_folder_without_a_data_set_is_told_at_once(tmp_path):
    with serving(tmp_path) as server:
        with pytest.raises(DataError, match=r"dataset\.json: the server answered 404 Not Found; .* check the URL"):
            open_dataset(server.url)
        assert len(server.requests) == 1


def test_a_lost_shard_is_replaced_if_it_may_be_and_accounted_for(shards):
    with serving(shards, missing={"shard-000003.tar"}) as server:
        with pytest.raises(DataError, match=r"shard-000003\.tar.*404"):
            batches(server.url)
        with fl.Loader(server.url, batch_size=7, transforms=TRAIN, engine="cpu", seed=5, on_error="skip") as loader:
            assert sum(int(batch.valid.sum()) for batch in loader) == 60
            epoch = loader.stats().epoch
            with open_dataset(shards) as local:
                lost = [i for i in range(60) if local.location(i).endswith("shard-000003.tar")]
            assert lost
            assert sorted(entry.sample_id for entry in epoch.skipped) == lost


def test_a_shard_that_is_damaged_on_the_server_is_named_with_its_sample(shards, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(shards, folder)
    with open_dataset(shards) as local:
        _, offset, size = (int(column[0]) for column in local.extents(np.array([11])))
        location, key = local.location(11), local.key(11)
    with open(folder / os.path.basename(location), "r+b") as file:
        file.seek(offset + size // 2)
        file.write(b"damaged")
    with serving(folder) as server, open_dataset(server.url) as remote:
        with pytest.raises(DataError, match=r"expected crc32 .* 5 times in a row.*upload it again") as caught:
            image_of(remote, 11)
        assert (caught.value.path, caught.value.key) == (f"{server.url}/{os.path.basename(location)}", key)
        with fl.Loader(remote, batch_size=7, transforms=TRAIN, engine="cpu", on_error="skip") as loader:
            assert sum(1 for _ in loader) == 9
            assert [entry.sample_id for entry in loader.stats().epoch.skipped] == [11]


def test_a_shard_of_another_size_is_refused(shards, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(shards, folder)
    with open(folder / "shard-000000.tar", "ab") as file:
        file.write(bytes(512))
    patience = Patience(attempts=2, first_wait=0.001)
    with serving(folder) as server, RemoteShardedDataset(server.url, patience=patience) as remote:
        with pytest.raises(DataError, match=r"shard-000000\.tar.*the file has .* bytes in place of"):
            image_of(remote, 0)


def test_memory_and_file_urls(shards):
    expected = batches(shards)
    assert_equal(batches(f"file://{shards}"), expected)
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/remote-test", recursive=True)
    try:
        assert_equal(batches("memory://remote-test"), expected)
    finally:
        memory.rm("/remote-test", recursive=True)
    with pytest.raises(DataError, match=r"memory://remote-test/dataset\.json: there is no such file"):
        open_dataset("memory://remote-test")


def test_it_survives_pickle_fork_and_close(shards):
    with serving(shards) as server:
        remote = open_dataset(server.url)
        expected = image_of(remote, 5)
        with pickle.loads(pickle.dumps(remote)) as copy:
            assert image_of(copy, 5) == expected
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, where there are threads
            child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if image_of(remote, 5) == expected else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        remote.close()
        remote.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastload-fetch")]


def test_an_abandoned_iterator_lets_go_of_what_was_fetched(shards):
    with serving(shards) as server, open_dataset(server.url) as remote:
        loader = fl.Loader(remote, batch_size=7, transforms=TRAIN, engine="cpu")
        iterator = iter(loader)
        next(iterator)
        assert list(remote._supply._expected)
        del iterator
        assert not list(remote._supply._expected)
        loader.close()


def test_what_was_fetched_is_counted(shards):
    patience = dataclasses.replace(QUICK, timeout=60.0)  # what was cut off is asked for again, and nothing else
    with serving(shards, misdeeds=("truncate",), share=0.3) as server:
        with RemoteShardedDataset(server.url, patience=patience) as remote:
            with fl.Loader(remote, batch_size=7, transforms=TRAIN, engine="cpu") as loader:
                assert sum(1 for _ in loader) == 9
                counts = loader.stats().counts
        tars = requests_of_tars(server)
    images = int(remote.num_bytes(np.arange(60)).sum())
    assert counts["remote.requests"] >= sum(tars.values())
    assert counts["remote.retries"] > 0
    assert images <= counts["remote.bytes"] < 1.5 * images


_WAITING = """
import sys, time
import fastload as fl
from fastload import transforms as T
loader = fl.Loader(sys.argv[1], batch_size=7, transforms=[T.CenterCrop(8)], engine="cpu", num_workers=2)
iterator = iter(loader)
print("waiting", flush=True)
if sys.argv[2] == "leave":
    time.sleep(0.3)
else:
    next(iterator)
"""


@pytest.mark.parametrize("end", ["leave", "interrupt"])
def test_a_program_that_waits_for_a_server_ends_at_once(shards, end):
    with serving(shards) as server:
        command = [sys.executable, "-c", _WAITING, server.url, end]
        server.script.slow = ".tar"
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        begin = time.monotonic()
        if end == "interrupt":
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
        assert time.monotonic() - begin < 60  # the server takes two minutes
        assert process.returncode == (0 if end == "leave" else -signal.SIGINT), said


def test_options_that_cannot_be_used_are_refused(shards, tmp_path):
    with pytest.raises(ConfigError, match="cache_bytes limits the folder cache_dir"):
        open_dataset(shards, cache_bytes=10)
    with pytest.raises(ConfigError, match="cache_bytes must be a number of bytes"):
        open_dataset(shards, cache_dir=tmp_path, cache_bytes=0)
    with open_dataset(shards) as local, pytest.raises(ConfigError, match="pass cache_dir to open_dataset"):
        fl.Loader(local, batch_size=2, transforms=TRAIN, cache_dir=tmp_path)
