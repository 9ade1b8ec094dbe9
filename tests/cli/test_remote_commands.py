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
from fastload.recipe import parse_recipe
from fastload.train.data import open_data
from fastload.train.distributed import World
from tests.remote_server import serving


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("user-cache")
    monkeypatch.setattr("fastload.dataset.remote.user_cache_directory", lambda: folder)


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
        code, said = run("verify", server.url, "--json", "--cache-dir", tmp_path / "cache", "--cache-bytes", "1MB")
        (finding,) = json.loads(said)["findings"]
        assert code == 1
        assert (finding["key"], finding["file"]) == (key, shard.rpartition("/")[2])
        assert "expected crc32" in finding["reason"]


def test_verify_does_not_repair_from_afar(shards):
    with serving(shards) as server:
        done = CliRunner().invoke(app, ["verify", server.url, "--repair"])
        assert done.exit_code != 0
        assert "repair the copy that was uploaded" in str(done.exception)


def test_inspect_says_of_a_url_what_it_says_of_the_folder(shards, tmp_path):
    with serving(shards) as server:
        code, said = run(
            "inspect", server.url, "--json", "--html", tmp_path / "page.html", "--cache-dir", tmp_path / "c"
        )
        assert code == 0
        there = json.loads(said)
    here = json.loads(run("inspect", shards, "--json")[1])
    for differs in ("path", "seek", "cost", "written", "findings"):
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
