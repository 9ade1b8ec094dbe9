"""The demo from end to end: its report reconciles, its folder is safe, and it learns."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import fastload.demo.run
from fastload.demo import run_demo
from fastload.demo.run import next_commands
from fastload.errors import ConfigError, DataError
from fastload.recipe import load_recipe

SMALL = {"num_train": 100, "num_val": 30, "epochs": 2, "num_workers": 2, "device": "cpu", "seed": 5}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A small demo in a folder of its own: the folder, the report, the progress calls."""
    folder, calls = tmp_path_factory.mktemp("demo") / "kept", []
    report = run_demo(folder, **SMALL, progress=lambda *call: calls.append(call))
    return folder, report, calls


def test_the_account_reconciles_and_names_the_broken_file(kept):
    _, report, _ = kept
    assert (report.found, report.written, report.skipped) == (130, 129, 1)
    ((name, reason),) = report.skips
    assert name == "train/warm-striped-disc/00009.jpg"
    assert "truncated" in reason
    # 99 samples are 3 full batches of 32.
    assert (report.expected, report.read, report.replaced) == (2 * 96, 2 * 96, 0)
    assert report.feed.images == 99


def test_the_report_has_every_number(kept):
    _, report, _ = kept
    assert list(report.phases) == ["render", "convert", "feed", "train"]
    assert all(seconds > 0 for seconds in report.phases.values())
    assert report.seconds == pytest.approx(sum(report.phases.values()))
    assert {"read", "decode", "resize", "wait"} <= set(report.stages)
    assert report.stages["decode"].items == report.read
    assert report.feed.num_workers == 2
    assert 0 < report.feed.cpu_ms_per_image < 1000
    assert report.images_per_second > 0
    confusion = np.array(report.confusion)
    assert confusion.sum(axis=1).tolist() == [3] * 10
    assert report.evaluated == 30
    assert report.top1 == pytest.approx(np.trace(confusion) / 30)
    assert report.device == "cpu"
    assert len(report.classes) == 10


def test_the_report_is_json(kept):
    _, report, _ = kept
    data = json.loads(json.dumps(report.to_json()))
    assert data["skips"] == [list(skip) for skip in report.skips]
    assert data["seconds"] == report.seconds
    assert data["feed"]["cpu_ms_per_image"] == report.feed.cpu_ms_per_image
    assert data["stages"]["decode"]["items"] == report.read


@pytest.fixture
def three_torch_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_torch_threads")
def test_torch_has_its_threads_back(kept, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    folder, _, _ = kept
    seen = []
    run_demo(folder, **SMALL, progress=lambda name, *_: name == "training" and seen.append(torch.get_num_threads()))
    assert set(seen) == {1}  # half of them trained, the others were the Loader's
    assert torch.get_num_threads() == 3


def test_progress_names_each_phase_and_ends_it(kept):
    _, _, calls = kept
    last = {name: (done, total) for name, done, total, _ in calls}
    assert list(last) == ["drawing", "converting", "reading", "training"]
    assert last["drawing"] == last["converting"] == (130, 130)
    assert last["training"] == (6, 6)
    assert all(done == total for done, total in last.values())
    assert any(note == "1 skipped" for name, _, _, note in calls if name == "converting")


def test_what_is_kept_can_be_used_again(kept):
    folder, report, _ = kept
    assert Path(report.folder) == folder
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "images").rglob("*.jpg")}
    calls = []
    again = run_demo(folder, **SMALL, progress=lambda *call: calls.append(call))
    assert "drawing" not in {call[0] for call in calls}
    assert stamps == {path: path.stat().st_mtime_ns for path in (folder / "images").rglob("*.jpg")}
    assert again.confusion == report.confusion  # one seed, one result
    assert again.skips == report.skips


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="holds other files"):
        run_demo(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_demo_with_other_settings_is_left_alone(kept):
    folder, _, _ = kept
    with pytest.raises(ConfigError, match="other settings"):
        run_demo(folder, **{**SMALL, "seed": 6})


def test_a_damaged_stamp_is_one_clear_error(tmp_path):
    (tmp_path / "demo.json").write_text('{"settings": 3}')
    with pytest.raises(ConfigError, match="is damaged: remove the folder"):
        run_demo(tmp_path, **SMALL)


def test_a_file_in_place_of_the_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the demo cannot use this folder: File exists"):
        run_demo(tmp_path / "file", **SMALL)


def test_a_temporary_folder_goes_even_when_the_demo_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []

    def interrupt(name, done, total, note):
        seen.extend(tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(**SMALL, progress=interrupt)
    assert seen
    assert not list(tmp_path.iterdir())


def test_a_demo_that_was_interrupted_goes_on(tmp_path, kept):
    def interrupt(name, done, total, note):
        if (name, done) == ("drawing", 60):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, **SMALL, progress=interrupt)
    assert run_demo(tmp_path, **SMALL).confusion == kept[1].confusion


def test_the_commands_name_files_that_exist(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UV", raising=False)
    convert, train = next_commands()
    assert convert.startswith("fastload convert PHOTOS/train shards/train && ")
    program, command, recipe, *overrides = shlex.split(train)
    assert (program, command) == ("fastload", "train")
    assert Path(recipe).is_file()
    assert load_recipe(recipe, overrides).data.train == "shards/train"
    monkeypatch.chdir(fastload.demo.run.RECIPE.parents[2])
    assert shlex.split(next_commands()[1])[2] == "fastload/demo/recipe.yaml"
    monkeypatch.setenv("UV", "/somewhere/uv")
    assert all(command.startswith("uv run fastload ") for command in next_commands())


@pytest.mark.slow
def test_the_demo_learns():
    report = run_demo(seed=0, device="cpu")
    assert report.evaluated == 400
    assert report.top1 >= 0.90
