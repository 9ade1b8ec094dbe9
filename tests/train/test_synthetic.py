"""Synthetic data: the same run and report without a data set, marked so that nobody takes its accuracy for real."""

import json

import pytest
import torch

from fastload.cli.training import result_table
from fastload.errors import ConfigError
from fastload.recipe import dump_yaml, load_recipe
from fastload.train import train
from fastload.train.distributed import World
from fastload.train.synthetic import SyntheticFeed, synthetic_batch
from tests.command_line import run
from tests.train.small import REPOSITORY, report_of, small_recipe, start

NOWHERE = REPOSITORY / "tests" / "there is no such folder"
SMALL = ("data.synthetic=true", "data.synthetic_samples=18", "model.num_classes=3")


def test_it_needs_no_data_set_and_says_what_it_is(tmp_path):
    grows = "resolution={min: 32, max: 64, ramp_start: 0, ramp_end: 1}"
    report = train(small_recipe(NOWHERE, tmp_path / "run", "report.figures=true", "report.log_every=1", grows, *SMALL))
    assert report.synthetic
    # 18 samples are four batches of 4.
    assert (report.steps, report.train_images, report.metrics.samples) == (8, 32, 8)
    assert report.images_per_second > 0
    assert report.wait_share < 0.5
    assert report.train_account.expected == 0
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["synthetic"] is True
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["synthetic"] is True
    assert [line["resolution"] for line in lines if line["event"] == "train"] == 4 * [32] + 4 * [64]
    assert not (tmp_path / "run" / "confusion.png").exists(), "a picture of chance"
    cells = [str(cell) for column in result_table(report).columns for cell in column.cells]
    assert any("SYNTHETIC" in cell for cell in cells)
    assert not any("top-1" in cell for cell in cells)


def test_real_data_are_not_called_synthetic(images, tmp_path):
    report = train(small_recipe(images, tmp_path / "run", "train.epochs=1"))
    assert not report.synthetic
    cells = [str(cell) for column in result_table(report).columns for cell in column.cells]
    assert any("top-1" in cell for cell in cells)
    assert not any("SYNTHETIC" in cell for cell in cells)


def test_the_recipes_run_on_synthetic_data(tmp_path):
    recipe = load_recipe(
        REPOSITORY / "recipes" / "rn50.yaml",
        [
            "data.synthetic=true",
            "data.synthetic_samples=4",
            "model={name: resnet_tiny, args: {width: 8, blocks: [1, 1]}, blurpool: false}",
            "train.batch_size=4",
            "train.epochs=3",
            "train.amp=auto",
            "optimizer.no_decay=[]",
            "resolution={min: 32, max: 64, ramp_start: 0, ramp_end: 1}",
            "eval.size=32",
            "train.device=cpu",
            f"report.directory={tmp_path / 'run'}",
        ],
    )
    report = train(recipe)
    assert (report.synthetic, report.steps, len(report.classes)) == (True, 3, 1000)


@pytest.mark.slow
def test_a_killed_synthetic_run_goes_on(tmp_path):
    recipe = small_recipe(NOWHERE, tmp_path / "run", "checkpoint.every_steps=1", "checkpoint.resume=auto", *SMALL)
    killed = start(recipe, tmp_path, kill_at=6)
    killed.communicate(timeout=600)
    assert killed.returncode != 0
    report = report_of(start(recipe, tmp_path))
    assert (report["steps"], report["train_images"]) == (8, 32)


def test_too_few_samples_for_a_batch_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.synthetic_samples: 18 samples do not fill one batch of 32"):
        train(small_recipe(NOWHERE, tmp_path / "run", "train.batch_size=32", *SMALL))


def test_a_feed_hands_over_the_same_memory_at_each_step_and_each_rank_its_own():
    def feed(rank):
        return SyntheticFeed(
            100,
            8,
            world=World(rank=rank, size=2, device=torch.device("cpu")),
            make=lambda side, first_id: synthetic_batch(
                8,
                side,
                num_classes=10,
                dtype=torch.bfloat16,
                channels_last=True,
                device=torch.device("cpu"),
                first_id=first_id,
            ),
            side=lambda epoch: (32, 48)[epoch],
        )

    first, second = feed(0), feed(1)
    batches = list(first)
    assert len(batches) == len(first) == 6
    assert len({batch.images.data_ptr() for batch in batches}) == 1
    images = batches[0].images
    assert images.shape == (8, 3, 32, 32)
    assert images.dtype == torch.bfloat16
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert abs(images.float().mean()) < 0.1
    assert abs(images.float().std() - 1) < 0.1
    other = next(iter(second))
    assert not torch.equal(other.images, images)
    assert other.ids.tolist() == list(range(8, 16))
    first.set_epoch(1)
    assert next(iter(first)).images.shape == (8, 3, 48, 48)
    state = first.state_dict()
    again = feed(0)
    again.load_state_dict(state)
    assert len(list(again)) == 5


def test_the_command_line_shows_no_accuracy(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(small_recipe(NOWHERE, tmp_path / "run", *SMALL)))
    done = run("train", path)
    said = done.stdout + done.stderr
    assert "SYNTHETIC: random pixels and labels" in " ".join(said.replace("│", " ").split())
    assert "images/s" in said
    assert "top-1" not in said
