"""`fastload bench` as a user runs it, on a folder, on shards and on a recipe; and how it fails."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.bench.conftest import NUM_PHOTOS

SPEED = {
    "workers",
    "images",
    "images_per_second",
    "slowest",
    "fastest",
    "cpu_ms_per_image",
    "memory_bytes",
    "skipped",
}
# What a program may rely on. A field that goes, or changes its meaning, needs another SCHEMA_VERSION.
SCHEMA = {
    "": {
        "version", "recipe", "data", "machine", "transforms", "batch_size", "rounds", "cold", "first_batch_seconds",
        "fastload", "scaling", "stages", "decoders", "dataloader", "dataloader_failure", "storage", "gil", "training",
        "limit", "target", "seconds", "notes",
    },
    "data": {"path", "form", "samples", "classes", "mean_bytes", "seek_index"},
    "machine": {"processors", "processor", "platform", "python", "torch", "fastload"},
    "fastload": SPEED,
    "dataloader": SPEED,
    "storage": {
        "threads", "reads", "num_bytes", "megabytes_per_second", "reads_per_second", "cpu_ms_per_read",
        "in_memory_before", "in_memory_read", "dropped", "from_device", "needed_megabytes_per_second",
    },
    "gil": {"threads", "main_thread_speed", "us_per_image", "images_per_second"},
    "training": {
        "device", "model", "resolution", "batch_size", "recipe_batch_size", "model_images_per_second",
        "loader_images_per_second", "together_images_per_second", "wait_share", "waits", "copy_images_per_second",
    },
    "limit": {"name", "share", "reason", "advice"},
    "target": {
        "images_per_second", "source", "threads", "extrapolated", "processors_needed", "processors",
        "megabytes_per_second",
    },
}  # fmt: skip


def bench(*arguments, check=0, columns=80):
    done = subprocess.run(
        [sys.executable, "-m", "fastload", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": str(columns)},
    )
    assert done.returncode == check, done.stderr + done.stdout
    return done


def check_schema(report, *absent):
    assert report["version"] == 1
    assert set(report) == SCHEMA[""]
    for name, fields in SCHEMA.items():
        if name in absent:
            assert report[name] is None
        elif name:
            assert set(report[name]) == fields


def check_figures(report):
    """What has to hold between the figures, whatever the machine."""
    ours, storage = report["fastload"], report["storage"]
    assert ours == report["scaling"][-1]
    assert ours["slowest"] <= ours["images_per_second"] <= ours["fastest"]
    total = sum(stage["cpu_ms_per_image"] for stage in report["stages"])
    assert total == pytest.approx(ours["cpu_ms_per_image"], rel=0.5)
    # No process computes for longer than all processors together.
    for speed in (*report["scaling"], report["dataloader"]):
        busy = speed["cpu_ms_per_image"] / 1000 * speed["slowest"]
        assert busy <= 1.1 * report["machine"]["processors"]
    assert storage["num_bytes"] == pytest.approx(storage["reads"] * report["data"]["mean_bytes"], rel=0.01)
    assert sum(report["decoders"].values()) > 0


def test_a_folder_as_json(photos):
    done = bench(photos, "--json", "--seconds", "2", "--threads", "2", "--batch-size", "16", "--target", "50")
    report = json.loads(done.stdout)
    check_schema(report, "training", *(["gil"] if report["gil"] is None else []))
    check_figures(report)
    assert (report["data"]["form"], report["data"]["samples"]) == ("folder", NUM_PHOTOS)
    assert [speed["workers"] for speed in report["scaling"]] == [1, 2]
    assert report["dataloader"]["workers"] == 2
    assert (report["target"]["images_per_second"], report["target"]["source"]) == (50, "asked")
    assert report["target"]["threads"] == 1
    assert report["storage"]["reads"] == NUM_PHOTOS
    assert not report["cold"]


@pytest.mark.slow
def test_cold_shards_as_a_table(shards):
    done = bench(shards, "--seconds", "2", "--threads", "1", "--batch-size", "16", "--transform", "eval224", "--cold")
    for words in ("fastload, 1 thread", "your DataLoader, 1 worker", "JPEG decoded", "--cold", "48 images", "(256)"):
        assert words in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if line[:1] in "┏┃┡│└┌") <= 80
    assert "note: an epoch of this data set takes" in done.stdout


@pytest.mark.slow
def test_a_recipe_says_who_waits(recipe):
    done = bench(recipe, "train.batch_size=8", "--seconds", "2", "--json")
    report = json.loads(done.stdout)
    check_schema(report, *(["gil"] if report["gil"] is None else []))
    check_figures(report)
    training = report["training"]
    assert (report["batch_size"], training["recipe_batch_size"], training["resolution"]) == (8, 8, 32)
    assert training["loader_images_per_second"] == report["fastload"]["images_per_second"]
    assert training["together_images_per_second"] < 1.3 * training["model_images_per_second"]
    assert report["target"]["images_per_second"] == training["model_images_per_second"]
    assert (report["limit"]["name"] == "model") == (training["waits"] == "loader")
    assert training["copy_images_per_second"] is None


@pytest.mark.slow
def test_a_dataloader_that_fails_is_a_line_of_the_report(photos, tmp_path):
    """torchvision's ImageFolder stops at a file that is no image; fastload puts another in its place and counts it."""
    for file in photos.rglob("*.jpg"):
        target = tmp_path / file.relative_to(photos)
        target.parent.mkdir(exist_ok=True)
        os.link(file, target)
    (tmp_path / "class0" / "broken.jpg").write_bytes(b"this is no image")
    report = json.loads(bench(tmp_path, "--json", "--seconds", "2", "--threads", "1", "--batch-size", "49").stdout)
    assert report["dataloader"] is None
    assert "UnidentifiedImageError" in report["dataloader_failure"]
    assert report["fastload"]["skipped"] > 0
    assert any("could not be read" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["MISSING"], "there is nothing at"),
        (["PHOTOS", "--transform", "train512"], "train224, eval224"),
        (["RECIPE", "train.epoch=3"], "train.epochs"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)  # a process each
            for case in (
                (["README"], "neither a data set"),
                (["EMPTY"], "found none"),
                (["PHOTOS", "train.epochs=3"], "key=value is for recipes"),
                (["PHOTOS", "--seconds", "0.5"], "at least 2"),
                (["PHOTOS", "--target", "0"], "above 0"),
                (["RECIPE", "--transform", "eval224"], "a recipe says its own"),
                (["RECIPE", "data.train=MISSING"], "nothing at this path"),
            )
        ),
    ],
)
def test_a_failure_is_one_sentence_and_a_code(arguments, word, photos, recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    places = {
        "MISSING": tmp_path / "missing",
        "README": tmp_path / "notes.txt",
        "EMPTY": tmp_path / "empty",
        "PHOTOS": photos,
        "RECIPE": recipe,
    }
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    done = bench(*arguments, check=1)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("fastload: error: ")]
    assert len(errors) == 1
    assert word in done.stderr


@pytest.mark.slow
def test_ctrl_c_ends_every_process(photos):
    process = subprocess.Popen(
        [sys.executable, "-m", "fastload", "bench", str(photos), "--seconds", "60", "--batch-size", "16"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stderr:
            if "measuring" in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        rest = process.communicate(timeout=600)[1]
        assert process.returncode == 130
        assert "Traceback" not in rest
        assert not psutil.wait_procs(family, timeout=120)[1]
    finally:
        process.kill()
