"""Processes started by torchrun do what one process does at the same global batch."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from fastload.train import train
from tests.train.small import TRAIN_IMAGES, VAL_IMAGES, report_of, small_recipe, start

# A global batch of 8: 7 full batches of the 60 images and one of 4, of which some ranks get only padding.
COMMON = ("data.last_batch=pad", "train.epochs=3", "eval.flip=true", "checkpoint.every_steps=3")


def split(images, directory, processes, *overrides):
    return small_recipe(images, directory, *COMMON, f"train.batch_size={8 // processes}", *overrides)


def weights(directory):
    return load_file(directory / "checkpoints" / "last" / "model.safetensors")


@pytest.fixture(scope="module")
def alone(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    torch.set_num_threads(1)
    return folder, train(split(images, folder / "run", 1))


def assert_same_result(directory, report, alone):
    folder, expected = alone
    metrics = report["metrics"]
    # What computed with the others has ended: a thread of it that outlives the run can abort the process at its end.
    assert not [name for name in report["threads"] if "gloo" in name]
    assert metrics["samples"] == VAL_IMAGES
    assert metrics["confusion"] == [list(row) for row in expected.metrics.confusion]
    assert metrics["loss"] == pytest.approx(expected.metrics.loss, abs=1e-5)
    assert report["train_account"]["read"] == report["train_images"] == 3 * TRAIN_IMAGES
    assert report["steps"] == expected.steps == 3 * 8
    ours = weights(directory)
    for key, value in weights(folder / "run").items():
        assert torch.allclose(ours[key], value, atol=1e-5), key


@pytest.mark.slow  # the next test shows the same in less time
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_end_where_one_does(images, tmp_path, alone, processes):
    report = report_of(start(split(images, tmp_path / "run", processes), tmp_path, processes=processes))
    assert_same_result(tmp_path / "run", report, alone)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints",
        "confusion.json",
        "log.jsonl",
        "recipe.yaml",
        "report.json",
    ]


@pytest.mark.parametrize(("first", "second"), [(1, 2), pytest.param(2, 4, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_with_twice_as_many_processes(images, tmp_path, alone, first, second):
    killed = start(split(images, tmp_path / "run", first), tmp_path, processes=first, kill_at=13)
    killed.communicate(timeout=600)
    assert killed.returncode != 0
    recipe = split(images, tmp_path / "run", second, "checkpoint.resume=auto")
    assert_same_result(tmp_path / "run", report_of(start(recipe, tmp_path, processes=second)), alone)


@pytest.mark.slow
def test_an_error_of_rank_0_ends_all(images, tmp_path):
    train(small_recipe(images, tmp_path / "run", "train.epochs=1"))
    process = start(small_recipe(images, tmp_path / "run", "train.epochs=1"), tmp_path, processes=2)
    _, errors = process.communicate(timeout=600)
    assert process.returncode != 0
    assert errors.count("holds another run") >= 2


@pytest.mark.slow
def test_two_compiled_processes_end_where_one_does(images, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    more = ("train.accumulate=2", "resolution={min: 32, max: 64, ramp_start: 0, ramp_end: 1}", "eval.flip=false")
    train(split(images, tmp_path / "alone", 1, *more))
    recipe = split(images, tmp_path / "run", 2, "train.compile=true", *more)
    report = report_of(start(recipe, tmp_path, processes=2))
    assert report["graphs"] == [2, 0]
    ours = weights(tmp_path / "run")
    for key, value in weights(tmp_path / "alone").items():
        assert torch.allclose(ours[key], value, atol=1e-4), key
