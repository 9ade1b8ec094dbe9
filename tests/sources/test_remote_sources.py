"""Sources behind URLs become the data sets that they become when they lie here, byte for byte."""

import csv
import io
import json
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fastload.convert import convert
from fastload.errors import DataError, FastloadError
from fastload.remote import Patience
from tests.remote_server import serving

MISDEEDS = ("drop", "truncate", "503", "whole", "long", "shift", "garbage")


@pytest.fixture(autouse=True)
def hasty(monkeypatch, tmp_path_factory):
    """A test must not wait as long as a user would, nor leave anything in the user's cache."""
    folder = tmp_path_factory.mktemp("user-cache")
    monkeypatch.setattr("fastload.dataset.remote.user_cache_directory", lambda: folder)
    quick = Patience(attempts=10, timeout=1.0, first_wait=0.002, longest_wait=0.05)
    monkeypatch.setattr("fastload.remote.files.Patience", lambda: quick)


def picture(number: int) -> bytes:
    chance = np.random.default_rng(number)
    buffer = io.BytesIO()
    pixels = chance.integers(0, 256, (100 + number, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same 24 pictures as tars, Parquet files, lists, a folder and a data set; nobody may change it."""
    root = tmp_path_factory.mktemp("sources")
    pictures = [picture(number) for number in range(24)]
    for number, data in enumerate(pictures):
        path = root / "folder" / "ab"[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for shard in range(2):
        with tarfile.open(root / f"train-{shard:04}.tar", "w") as tar:
            for number in range(12 * shard, 12 * shard + 12):
                for suffix, data in (("jpg", pictures[number]), ("cls", b"%d" % (number % 2)), ("json", b'{"n": 1}')):
                    member = tarfile.TarInfo(f"{number:04}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        rows = range(12 * shard, 12 * shard + 12)
        table = pa.table(
            {
                "image": [{"bytes": pictures[number], "path": f"{number}.jpg"} for number in rows],
                "label": [number % 2 for number in rows],
                "note": [f"note {number}" for number in rows],
            }
        )
        pq.write_table(table, root / f"train-{shard}.parquet", row_group_size=5)
    names = [f"folder/{'ab'[number % 2]}/{number:02}.jpg" for number in range(24)]
    with (root / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "more"), *((name, name[7], "x") for name in names)])
    lines = [json.dumps({"path": name, "label": number % 2}) for number, name in enumerate(names)]
    (root / "list.jsonl").write_text("\n".join(lines))
    convert(root / "train-{0000..0001}.tar", root / "dataset", shard_size="64KiB")
    return root


def content(folder):
    """Everything of a data set but where it came from."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    manifest = json.loads(files.pop("dataset.json"))
    manifest.pop("conversion")
    return files, manifest


CASES = ["train-{0000..0001}.tar", "train-{0..1}.parquet", "list.csv", "list.jsonl", "dataset"]


@pytest.mark.parametrize("name", CASES)
def test_what_a_web_server_has_becomes_what_the_files_become(sources, tmp_path, name):
    convert(f"{sources}/{name}", tmp_path / "here", shard_size="128KiB")
    with serving(sources, misdeeds=MISDEEDS, share=0.2) as server:
        convert(f"{server.url}/{name}", tmp_path / "there", shard_size="128KiB")
        assert len(server.counts()) > 1 or name == "dataset"
    assert content(tmp_path / "there") == content(tmp_path / "here")


@pytest.fixture
def in_memory(sources):
    memory = fsspec.filesystem("memory")
    memory.put(str(sources), "/remote-sources", recursive=True)
    yield "memory://remote-sources"
    memory.rm("/remote-sources", recursive=True)


@pytest.mark.parametrize("name", [*CASES, "folder", "train-*.tar", "train-?.parquet"])
def test_what_fsspec_reads_becomes_what_the_files_become(sources, in_memory, tmp_path, name):
    convert(f"{sources}/{name}", tmp_path / "here", shard_size="128KiB")
    convert(f"{in_memory}/{name}", tmp_path / "there", shard_size="128KiB")
    assert content(tmp_path / "there") == content(tmp_path / "here")
    convert(f"file://{sources}/{name}", tmp_path / "file", shard_size="128KiB")
    assert content(tmp_path / "file") == content(tmp_path / "here")


def test_a_list_may_name_urls(sources, tmp_path):
    with serving(sources) as server:
        lines = [f"{server.url}/folder/a/00.jpg,x", f"{sources}/folder/b/01.jpg,y", f"{server.url}/folder/a/99.jpg,x"]
        (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
        summary = convert(tmp_path / "list.csv", tmp_path / "data")
    assert (summary.found, summary.written, summary.skipped) == (3, 2, 1)
    ledger = (tmp_path / "data" / "conversion.jsonl").read_text()
    assert "99.jpg" in ledger
    assert "404" in ledger


def test_a_server_that_goes_away_stops_the_conversion_and_another_run_completes_it(sources, tmp_path, monkeypatch):
    hasty = Patience(attempts=2, timeout=0.5, first_wait=0.001)
    monkeypatch.setattr("fastload.remote.files.Patience", lambda: hasty)
    monkeypatch.setattr("fastload.sources.table.FILES_AHEAD", 1)
    convert(sources / "list.jsonl", tmp_path / "here", shard_size="64KiB")
    with serving(sources) as server:

        def leave(done, total, skipped):
            server.script.gone = done >= 6

        with pytest.raises(FastloadError, match="run the conversion again, it continues where it stopped"):
            convert(f"{server.url}/list.jsonl", tmp_path / "there", shard_size="64KiB", workers=1, progress=leave)
        server.script.gone = False
        convert(f"{server.url}/list.jsonl", tmp_path / "there", shard_size="64KiB")
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_what_cannot_be_read_from_afar_is_told(sources, tmp_path):
    with serving(sources) as server:
        with pytest.raises(DataError, match=r"fetch a file \.beton first"):
            convert(f"{server.url}/x.beton", tmp_path / "data")
        with pytest.raises(DataError, match="a web server cannot list a folder"):
            convert(f"{server.url}/folder", tmp_path / "data")
        with pytest.raises(DataError, match="404"):
            convert(f"{server.url}/missing.tar", tmp_path / "data")
