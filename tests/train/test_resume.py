"""A run that is killed with SIGKILL and goes on ends with the very bits of one that was left alone."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from fastload.train import checkpoint, train
from tests.train.small import TRAIN_IMAGES, report_of, small_recipe, start

# Everything that has a state: momentum, average, dropout, batch norm, growing images, accumulation.
EVERYTHING = (
    "train.epochs=3",
    "train.ema.decay=0.9",
    "train.accumulate=2",
    "train.label_smoothing=0.1",
    "model.args={width: 8, blocks: [1, 1], dropout: 0.3}",
    "resolution={min: 32, max: 64, ramp_start: 0, ramp_end: 2}",
    "optimizer={name: AdamW, lr: 0.003, weight_decay: 0.05}",
    "checkpoint.every_steps=3",
)


def files(directory, name="last"):
    folder = directory / "checkpoints" / name
    return {file: load_file(folder / f"{file}.safetensors") for file in ("model", "ema", "state")}


def assert_equal_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for file, tensors in ours.items():
        assert tensors.keys() == theirs[file].keys()
        for key, value in tensors.items():
            assert torch.equal(value, theirs[file][key]), f"{file}: {key}"


def test_a_killed_run_ends_with_the_bits_of_one_left_alone(images, tmp_path):
    # 15 batches an epoch, 8 steps: batch 26 lies within the second epoch, two steps after a checkpoint.
    killed = start(
        small_recipe(images, tmp_path / "killed", *EVERYTHING, "checkpoint.resume=auto"), tmp_path, kill_at=26
    )
    alone = train(small_recipe(images, tmp_path / "alone", *EVERYTHING))
    killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL
    stands = checkpoint.load(tmp_path / "killed" / "checkpoints" / "last").state
    assert (stands["run"]["epoch"], stands["run"]["batch"]) == (1, 8)
    assert stands["loader"]["batch"] == 8

    resumed = report_of(
        start(small_recipe(images, tmp_path / "killed", *EVERYTHING, "checkpoint.resume=auto"), tmp_path)
    )
    assert_equal_bits(files(tmp_path / "alone"), files(tmp_path / "killed"))
    assert_equal_bits(files(tmp_path / "alone", "best"), files(tmp_path / "killed", "best"))
    assert resumed["metrics"]["confusion"] == [list(row) for row in alone.metrics.confusion]
    assert resumed["train_account"] == vars(alone.train_account)
    assert resumed["train_images"] == alone.train_images == 3 * TRAIN_IMAGES

    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("alone", "killed")
    ]
    curves = [[(line["step"], line["loss"]) for line in log if line["event"] == "train"] for log in logs]
    assert curves[0] == curves[1]
    assert [line["event"] for line in logs[1]].count("resume") == 1


@pytest.mark.parametrize("epochs_alone", [1, 2])
def test_a_run_goes_on_after_whole_epochs_and_after_its_end(images, tmp_path, epochs_alone):
    class Stop(Exception):
        pass

    from fastload.train import Progress

    class Interrupt(Progress):
        def epoch(self, info):
            if info.epoch + 1 == epochs_alone:
                raise Stop

    directory = tmp_path / "run"
    with pytest.raises(Stop):
        train(small_recipe(images, directory), progress=Interrupt())
    report = train(small_recipe(images, directory, "checkpoint.resume=auto"))
    alone = train(small_recipe(images, tmp_path / "alone"))
    for name in ("last", "best"):
        ours, theirs = (
            load_file(d / "checkpoints" / name / "model.safetensors") for d in (directory, tmp_path / "alone")
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert report.metrics == alone.metrics
    assert report.train_account == alone.train_account


def test_resume_auto_begins_where_there_is_nothing(images, tmp_path):
    report = train(small_recipe(images, tmp_path / "run", "checkpoint.resume=auto", "train.epochs=1"))
    assert report.epochs == 1
