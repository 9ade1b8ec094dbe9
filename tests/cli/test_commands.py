"""The program as a user runs it: its output and exit code, in a process of its own where that may matter."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import fastload
from tests.command_line import run


def run_alone(*arguments, check=0):
    """As ``run``, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "fastload", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == check, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two classes of 24 noisy images (dark and bright), and one file that is no image."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for label, name in enumerate(("dark", "bright")):
        (folder / name).mkdir()
        for number in range(24):
            pixels = rng.integers(0, 120, (48, 64, 3)) + 130 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02}.jpg", quality=90)
    (folder / "bright" / "broken.jpg").write_bytes(b"\xff\xd8 this is no image")
    return folder


@pytest.fixture(scope="module")
def shards(photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "shards"
    run("convert", photos, folder, "--json")
    return folder


@pytest.fixture
def recipe(shards, tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    data = {
        "data": {"train": str(shards), "val": str(shards), "num_workers": 1},
        "resolution": {"min": 32},
        "model": {"name": "resnet_tiny"},
        "train": {"epochs": 2, "batch_size": 8, "device": "cpu"},
        "eval": {"size": 32},
        "report": {"directory": str(tmp_path / "run")},
    }
    path.write_text(yaml.safe_dump(data))
    return path


def test_version_and_help_name_the_program():
    assert run_alone("--version").stdout.strip() == f"fastload {fastload.__version__}"
    text = run("--help").stdout
    assert "convert" in text
    assert "train" in text


def test_convert_takes_several_sources_and_a_part_of_them(photos, shards, tmp_path):
    (tmp_path / "list.csv").write_text(f"where,kind\n{photos / 'dark' / '00.jpg'},grey\n")
    options = ("--image", "where", "--label", "kind", "--json")
    assert json.loads(run("convert", tmp_path / "list.csv", tmp_path / "list", *options).stdout)["classes"] == 1
    options = ("--part", "0:50%", "--part-seed", "1", "--classes", "dark,grey", "--json")
    summary = json.loads(run("convert", shards, shards, tmp_path / "list", tmp_path / "out", *options).stdout)
    assert summary["classes"] == 2
    assert 24 <= summary["written"] <= 25


def test_convert_accounts_for_every_file_on_stdout_and_shows_progress_on_stderr(photos, tmp_path):
    done = run_alone("convert", photos, tmp_path / "out", "--json")
    summary = json.loads(done.stdout)
    assert (summary["found"], summary["written"], summary["skipped"]) == (49, 48, 1)
    assert summary["skips"][0][0] == "bright/broken.jpg"
    assert "converting" in done.stderr
    again = json.loads(run("convert", photos, tmp_path / "out", "--json").stdout)
    assert again["already_done"]
    assert "skipped bright/broken.jpg" in run("convert", photos, tmp_path / "out").stdout


def test_a_failure_is_one_sentence_on_stderr_and_a_code(tmp_path):
    done = run_alone("convert", tmp_path / "missing", tmp_path / "out", check=1)
    assert done.stderr.count("\n") == 1
    assert "missing" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_strict_names_the_file(photos, tmp_path):
    done = run("convert", photos, tmp_path / "out", "--strict", check=1)
    assert "broken.jpg" in done.stderr


def test_annotations_and_masks_from_the_command_line(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "drawn").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "1.jpg")
    Image.new("L", (40, 30), 3).save(tmp_path / "drawn" / "1.png")
    tables = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6, 1, 6]]}
        ],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(tables))
    assert "--images" in run("convert", file, tmp_path / "coco", check=1).stderr
    run("convert", file, tmp_path / "coco", "--images", tmp_path / "photos", "--masks")
    run("convert", tmp_path / "photos", tmp_path / "pairs", "--mask-folder", tmp_path / "drawn")
    with fastload.open_dataset(tmp_path / "coco") as dataset:
        assert dataset.classes == ("cat",)
        assert dataset[0].fields["boxes"].tolist() == [[1, 2, 4, 6]]
        assert dataset[0].fields["mask.png"].sum() == 12
    with fastload.open_dataset(tmp_path / "pairs") as dataset:
        assert (dataset[0].fields["seg.png"] == 3).all()
    done = run("convert", tmp_path / "photos", tmp_path / "other", "--masks", check=1)
    assert done.stderr.count("\n") == 1
    assert "--mask-folder" in done.stderr


def test_unknown_option_ends_with_usage(photos, tmp_path):
    assert "No such option" in run("convert", photos, tmp_path / "out", "--sharp-size", "1", check=2).stderr


def test_train_reports_as_json(recipe, tmp_path):
    done = run("train", recipe, "--json")
    report = json.loads(done.stdout)
    assert report["epochs"] == 2
    assert report["metrics"]["samples"] == 48
    assert report["train_account"]["expected"] == report["train_account"]["read"] + report["train_account"]["skipped"]
    assert (tmp_path / "run" / "checkpoints" / "last").is_dir()


def test_print_config_is_a_recipe_that_reads_back_to_itself(recipe, tmp_path):
    text = run("train", recipe, "optimizer.lr=0.025", "--print-config").stdout
    assert yaml.safe_load(text)["optimizer"]["lr"] == 0.025
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    assert run("train", copy, "--print-config").stdout == text


def test_print_schema_needs_no_recipe():
    schema = json.loads(run("train", "--print-schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org")
    assert "optimizer" in schema["properties"]


def test_a_wrong_key_names_its_path_and_the_nearest(recipe):
    done = run("train", recipe, "train.epoch=3", check=1)
    assert "train.epoch" in done.stderr
    assert "epochs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("phase", ["convert", "train"])
def test_ctrl_c_ends_at_once_with_130(phase, photos, recipe, tmp_path):
    """SIGINT while the work is under way: no traceback, nothing half-written under a final name."""
    if phase == "convert":
        source = tmp_path / "many"
        (source / "a").mkdir(parents=True)
        pixels = np.random.default_rng(1).integers(0, 256, (1500, 2000, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(source / "a" / "0.jpg", quality=95)
        for number in range(1, 400):
            os.link(source / "a" / "0.jpg", source / "a" / f"{number}.jpg")
        command, mark = ["convert", source, tmp_path / "out", "--workers", "1"], "converting"
    else:
        command, mark = ["train", recipe, "train.epochs=100000"], "epoch"
    process = subprocess.Popen(
        [sys.executable, "-m", "fastload", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stderr:
            if mark in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=600)[1]
        assert process.returncode == 130
        assert "Traceback" not in rest
    finally:
        process.kill()
    if phase == "convert":
        assert not (tmp_path / "out" / "dataset.json").exists()
        assert not list((tmp_path / "out").glob("*.tar"))
