"""The commands on a data set behind a URL."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fastload.cli.app import app
from fastload.convert import convert
from fastload.dataset import open_dataset
from fastload.errors import ConfigError, DataError
from fastload.recipe import parse_recipe
from fastload.train.data import open_data
from fastload.train.distributed import World
from fastload.verify import verify
from tests.remote_server import serving

pytestmark = pytest.mark.usefixtures("own_side_cache")


@pytest.fixture
def shards(tmp_path):
    """40 small pictures in two classes and several shards."""
    chance = np.random.default_rng(3)
    for number in range(40):
        path = tmp_path / "source" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (90, 90 + number, 3), dtype=np.uint8)).save(path)
    convert(tmp_path / "source", tmp_path / "data", shard_size="64KiB")
    return tmp_path / "data"


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout


def test_verify_reads_and_decodes_every_sample(shards, tmp_path):
    with serving(shards, misdeeds=("truncate",), share=0.1) as server:
        code, said = run("verify", server.url, "--json")
        report = json.loads(said)
        assert (code, report["ok"], report["storage"], report["decoded"]) == (0, True, "shards", 40)
        with open_dataset(shards) as local:
            names = [shard.name for shard in local.manifest.shards]
            assert [shard["name"] for shard in report["shards"]] == names
            _, offset, size = (int(column[0]) for column in local.extents(np.array([17])))
            shard, key = local.location(17), local.key(17)
        with open(shard, "r+b") as file:
            file.seek(offset + size // 2)
            file.write(b"!!")
        code, said = run("verify", server.url, "--json", "--work-dir", tmp_path)
        (finding,) = json.loads(said)["findings"]
        assert code == 1
        assert (finding["key"], finding["file"]) == (key, shard.rpartition("/")[2])
        assert "expected crc32" in finding["reason"]


def reports(folder, server):
    """What verify says of a folder, here and by its URL."""
    here, there = (json.loads(run("verify", place, "--json")[1]) for place in (folder, server.url))
    for report in (here, there):
        for differs in ("path", "seconds", "cpu_seconds", "images_per_second", "cpu_ms_per_image"):
            report.pop(differs)
    return here, there


def damage_header(folder):
    with open(folder / "shard-000001.tar", "r+b") as tar:
        tar.seek(100)
        tar.write(b"!")


def damage_label(folder):
    with open(folder / "shard-000001.tar", "r+b") as tar:
        place = tar.read().index(b"cls") - 10
        tar.seek(place // 512 * 512 + 512)
        tar.write(b"7")


def damage_idx(folder):
    path = folder / "shard-000000.idx"
    path.write_bytes(path.read_bytes().replace(b"512", b"513", 1))


def damage_seek(folder):
    data = bytearray((folder / "shard-000000.seek").read_bytes())
    data[-3] ^= 1
    (folder / "shard-000000.seek").write_bytes(data)


def swap_shards(folder):
    (folder / "shard-000000.tar").rename(folder / "x")
    (folder / "shard-000001.tar").rename(folder / "shard-000000.tar")
    (folder / "x").rename(folder / "shard-000001.tar")


def damage_index(folder):
    data = bytearray((folder / "index.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "index.arrow").write_bytes(data)


DAMAGES = {
    "tar": damage_header,
    "tar label": damage_label,
    "idx": damage_idx,
    "seek": damage_seek,
    "idx missing": lambda folder: (folder / "shard-000000.idx").unlink(),
    "name": swap_shards,
    "index": damage_index,
    "ledger": lambda folder: (folder / "conversion.jsonl").write_text("no line"),
    "manifest": lambda folder: (folder / "dataset.json").write_text("{}"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_verify_says_of_a_url_what_it_says_of_the_folder(shards, kind):
    with serving(shards, misdeeds=("truncate", "flip", "503", "drop"), share=0.05) as server:
        here, there = reports(shards, server)
        assert here == there
        assert there["ok"]
        DAMAGES[kind](shards)
        here, there = reports(shards, server)
    assert {finding["kind"] for finding in there["findings"]} == {kind.split()[0]}
    assert here == there


def test_verify_of_shards_that_a_server_lacks_or_has_otherwise(shards, tmp_path):
    with open(shards / "shard-000000.tar", "ab") as tar:
        tar.write(bytes(512))
    with serving(shards, missing={"shard-000001.tar", "shard-000000.seek"}) as server:
        code, said = run("verify", server.url, "--json", "--work-dir", tmp_path)
        findings = json.loads(said)["findings"]
        assert code == 1
        assert [(finding["kind"], finding["file"]) for finding in findings] == [
            ("shard", "shard-000000.tar"),
            ("shard", "shard-000001.tar"),
        ]
        assert "but the server has" in findings[0]["reason"]
        assert "but the server does not have it" in findings[1]["reason"]
        assert not list(tmp_path.glob("fastload-verify-*"))
        with pytest.raises(ConfigError, match="work_dir must be a folder"):
            verify(server.url, work_dir=tmp_path / "nowhere")
        server.script.missing.add("dataset.json")
        with pytest.raises(DataError, match="404"):
            verify(server.url)


def test_verify_does_not_repair_from_afar(shards):
    with serving(shards) as server:
        done = CliRunner().invoke(app, ["verify", server.url, "--repair"])
        assert done.exit_code != 0
        assert "repair the copy that was uploaded" in str(done.exception)


def test_inspect_says_of_a_url_what_it_says_of_the_folder(shards, tmp_path):
    with serving(shards, misdeeds=("truncate", "flip", "503"), share=0.1) as server:
        code, said = run(
            "inspect", server.url, "--json", "--html", tmp_path / "page.html", "--cache-dir", tmp_path / "c"
        )
        assert code == 0
        there = json.loads(said)
    here = json.loads(run("inspect", shards, "--json")[1])
    assert here["seek"]["indexed"] == 40
    assert here["seek"]["num_bytes"] > 40
    for differs in ("path", "cost", "written"):
        here.pop(differs, None)
        there.pop(differs, None)
    assert there == here
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_a_recipe_names_a_url_and_its_cache(shards, tmp_path):
    with serving(shards) as server:
        recipe = parse_recipe(
            {
                "data": {
                    "train": server.url,
                    "val": f"file://{shards}",
                    "engine": "cpu",
                    "num_workers": 1,
                    "cache_dir": str(tmp_path / "cache"),
                    "cache_bytes": 100_000_000,
                },
                "train": {"batch_size": 8, "device": "cpu"},
                "resolution": {"min": 32},
                "eval": {"size": 32, "batch_size": 8},
            }
        )

        with contextlib.ExitStack() as stack:
            data = open_data(recipe, World(rank=0, size=1, device=torch.device("cpu")), "off", stack)
            assert (data.train_samples, data.val_samples) == (40, 40)
            assert data.fingerprints[0] == data.fingerprints[1]
            assert sum(len(batch.ids) for batch in data.train) == 40
        shutil.rmtree(shards)
        assert list((tmp_path / "cache").rglob("*.pack"))
