"""s3:// and gs:// against servers of these protocols on loopback, where drivers and servers are installed.

pip install s3fs "moto[server,s3]" gcsfs gcp-storage-emulator, in an environment of its own.
"""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

import fastload as fl
from fastload import transforms as T
from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.errors import DataError, MissingExtraError
from fastload.remote import Patience
from fastload.remote.origin import open_origin
from fastload.verify import verify

# Drivers leave sessions to the end of the process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
SERVERS = {"s3": ("s3fs", "moto_server"), "gs": ("gcsfs", "gcp-storage-emulator")}


@pytest.mark.parametrize(
    ("url", "module", "install"),
    [
        ("s3://bucket/train", "s3fs", "s3"),
        ("gs://bucket/train", "gcsfs", "gcs"),
        ("gcs://bucket/x.beton", "gcsfs", "gcs"),
        ("hf://datasets/a/b", "huggingface_hub", "hf"),
    ],
)
def test_a_driver_that_is_missing_is_one_clear_error(url, module, install, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else object())
    says = rf"reading {url.partition(':')[0]}:// URLs.*pip install 'fastload\[{install}\]'"
    for use in (lambda: open_origin(url, Patience()), lambda: open_dataset(url), lambda: convert(url, "nowhere")):
        with pytest.raises(MissingExtraError, match=says):
            use()


def test_a_driver_that_nobody_has_is_one_clear_error():
    with pytest.raises(fl.FastloadError, match=r"nothing://bucket/train cannot be read: Protocol not known"):
        open_dataset("nothing://bucket/train")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.2)
    raise AssertionError("the server did not start")


@pytest.fixture(params=SERVERS)
def bucket(request, tmp_path, monkeypatch):
    """The URL of a folder in an empty bucket, and what puts a file there."""
    driver, program = SERVERS[request.param]
    # Read when gcsfs is imported: it would ask by gRPC as well, which the emulator lacks.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    pytest.importorskip(driver)
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        pytest.skip(f"{program} is not installed")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(path), "-p", str(port), "-H", "127.0.0.1"]
    options = {}
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    if request.param == "s3":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "none")
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    else:
        command = [str(path), "start", f"--port={port}", "--host=127.0.0.1", "--in-memory"]
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        options = {"token": "anon", "project": "none"}
        monkeypatch.setitem(fsspec.config.conf, "gs", options)
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        wait_for(address, process)
        system = fsspec.filesystem(request.param, skip_instance_cache=True, **options)
        system.mkdir("bucket-of-a-test")

        def put(name, data):
            if request.param == "s3":
                system.pipe_file(f"bucket-of-a-test/folder/{name}", data)
                return
            query = urllib.parse.urlencode({"uploadType": "media", "name": f"folder/{name}"})
            place = f"{address}/upload/storage/v1/b/bucket-of-a-test/o?{query}"
            sent = urllib.request.Request(place, data, {"Content-Type": "application/octet-stream"})
            urllib.request.urlopen(sent, timeout=60).close()

        yield f"{request.param}://bucket-of-a-test/folder", put
    finally:
        fsspec.get_filesystem_class(request.param).clear_instance_cache()
        process.kill()
        process.wait()


def batches(source):
    transforms = [T.RandomResizedCrop(24), T.RandomHorizontalFlip()]
    with fl.Loader(source, batch_size=7, transforms=transforms, engine="cpu", num_workers=2, seed=5) as loader:
        return [(batch.images.numpy().tobytes(), batch.labels.tolist(), batch.ids.tolist()) for batch in loader]


def test_a_bucket_gives_what_the_folder_gives(bucket, tmp_path):
    url, put = bucket
    chance = np.random.default_rng(3)
    for number in range(30):
        path = tmp_path / "source" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (90, 90 + number, 3), dtype=np.uint8)).save(path)
    # With a line in the ledger no file is empty, which Google's emulator does not take.
    (tmp_path / "source" / "a" / "broken.jpg").write_bytes(b"no image")
    convert(tmp_path / "source", tmp_path / "data", shard_size="64KiB")
    convert(tmp_path / "source", tmp_path / "x.beton")
    for place in sorted(tmp_path.rglob("*")):
        if place.is_file() and place.name != "server.log":
            put(str(place.relative_to(tmp_path)), place.read_bytes())
    for name in ("data", "x.beton"):
        assert batches(f"{url}/{name}") == batches(tmp_path / name)
        assert verify(f"{url}/{name}").ok
    for name in ("source", "data", "data/shard-*.tar", "x.beton"):
        convert(f"{url}/{name}", tmp_path / "there")
        convert(f"{tmp_path}/{name}", tmp_path / "here")
        here, there = (sorted((tmp_path / at).iterdir()) for at in ("here", "there"))
        pairs = [(one, other) for one, other in zip(here, there, strict=True) if one.name != "dataset.json"]
        assert len(pairs) >= 4
        for one, other in pairs:
            assert one.read_bytes() == other.read_bytes()
        for path in (*here, *there):
            path.unlink()
    with pytest.raises(DataError, match="there is no such file"):
        open_dataset(f"{url}/nothing")
