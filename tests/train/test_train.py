"""Whole runs on a small data set, in this process."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fastload.errors import ConfigError, DataError, FastloadError
from fastload.recipe import load_recipe
from fastload.train import Progress, train
from tests.train.small import TRAIN_IMAGES, VAL_IMAGES, small_recipe


class Recorder(Progress):
    def __init__(self):
        self.calls = []

    def begin(self, info):
        self.calls.append(("begin", info))

    def batch(self, info):
        self.calls.append(("batch", info))

    def evaluating(self, done, total):
        self.calls.append(("evaluating", done, total))

    def epoch(self, info):
        self.calls.append(("epoch", info))

    def message(self, text, details):
        self.calls.append(("message", text))

    def of(self, kind):
        return [call[1] for call in self.calls if call[0] == kind]


def weights(directory, name="last", file="model.safetensors"):
    return load_file(directory / "checkpoints" / name / file)


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def close(ours, theirs, tolerance=1e-4):
    return all(torch.allclose(ours[key].float(), theirs[key].float(), atol=tolerance) for key in ours)


def test_a_run_learns_and_writes_what_it_promises(images, tmp_path):
    recorder = Recorder()
    recipe = small_recipe(images, tmp_path / "run", "train.epochs=6", "report.figures=true", "eval.flip=true")
    report = train(recipe, progress=recorder)
    assert report.top1 > 0.9
    assert report.metrics.samples == VAL_IMAGES
    assert (report.epochs, report.steps) == (6, 6 * TRAIN_IMAGES // 4)
    assert report.classes == ("blue", "green", "red")
    assert report.train_account.read == report.train_account.expected == report.train_images == 6 * TRAIN_IMAGES
    assert report.eval_account.read == VAL_IMAGES
    assert 0 <= report.wait_share == report.host_wait_share <= 1
    assert (report.graphs, report.compile_seconds) == ((0, 0), 0)
    assert {"decode", "wait"} <= set(report.stages)

    folder = tmp_path / "run"
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("train") == report.steps // 3
    assert [line["event"] for line in lines].count("eval") == 6
    assert (lines[0]["event"], lines[-1]["event"]) == ("begin", "end")
    written = json.loads((folder / "report.json").read_text())
    assert written["metrics"]["top1"] == report.top1
    confusion = json.loads((folder / "confusion.json").read_text())
    assert sum(map(sum, confusion["counts"])) == VAL_IMAGES
    for name in ("confusion.png", "curves.png"):
        with Image.open(folder / name) as figure:
            assert min(figure.size) > 100
            assert len(figure.convert("RGB").getcolors(1 << 24)) > 5
    for name in ("last", "best"):
        assert load_recipe(folder / "checkpoints" / name / "recipe.yaml") == recipe

    assert len(recorder.of("begin")) == 1
    assert len(recorder.of("epoch")) == 6
    assert len(recorder.of("batch")) == report.steps
    assert recorder.of("epoch")[-1].metrics == report.metrics
    assert recorder.of("batch")[-1].epoch == 5


def test_equal_seeds_give_equal_bits_and_others_do_not(images, tmp_path):
    for name, overrides in {
        "a": [],
        "b": ["data.num_workers=3", "data.prefetch=5"],
        "c": ["train.seed=6"],
    }.items():
        train(small_recipe(images, tmp_path / name, "train.epochs=1", *overrides))
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_accumulated_batches_are_one_larger_batch(images, tmp_path):
    # The last group holds one batch of the three: 60 images are 7 batches of 8 (and a rest), or 14 steps of 4.
    train(small_recipe(images, tmp_path / "whole", "train.batch_size=12"))
    train(small_recipe(images, tmp_path / "parts", "train.accumulate=3"))
    assert close(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    report = train(small_recipe(images, tmp_path / "rest", "train.accumulate=4", "train.epochs=1"))
    assert report.steps == 4  # 15 batches: 4 + 4 + 4 + 3


def test_the_last_batch_is_dropped_or_padded_as_asked(images, tmp_path):
    dropped = train(small_recipe(images, tmp_path / "drop", "train.batch_size=16", "train.epochs=1"))
    padded = train(
        small_recipe(images, tmp_path / "pad", "train.batch_size=16", "train.epochs=1", "data.last_batch=pad")
    )
    assert (dropped.steps, dropped.train_images) == (3, 48)
    assert (padded.steps, padded.train_images, padded.train_account.read) == (4, 60, 60)


def test_frozen_layers_do_not_move_and_pretrained_weights_are_where_it_begins(images, tmp_path):
    train(small_recipe(images, tmp_path / "first"))
    trained = tmp_path / "first" / "checkpoints" / "last" / "model.safetensors"
    freeze = ["model.freeze=[stem.*, stages.0.*]", f"model.pretrained={trained}"]
    train(small_recipe(images, tmp_path / "second", *freeze))
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    for key in before:
        assert torch.equal(before[key], after[key]) == key.startswith(("stem.", "stages.0.")), key


def test_the_average_follows_and_is_what_is_evaluated(images, tmp_path):
    class Check(Progress):
        def epoch(self, info):
            seen.append(info.metrics.loss)

    seen = []
    train(small_recipe(images, tmp_path / "plain"), progress=Check())
    overrides = ["train.ema={decay: 0.9, warmup: false}"]
    train(small_recipe(images, tmp_path / "ema", *overrides), progress=Check())
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "ema"))
    average = weights(tmp_path / "ema", file="ema.safetensors")
    assert not equal(average, weights(tmp_path / "ema"))
    assert seen[:2] != seen[2:]


@pytest.mark.parametrize("override", ["train.clip_norm=1e-6", "train.clip_value=1e-8"])
def test_clipped_gradients_hardly_move_the_weights(images, tmp_path, override):
    from fastload.train import create_model

    train(small_recipe(images, tmp_path / "run", override, "train.epochs=1", "optimizer.weight_decay=0"))
    torch.manual_seed(5)
    args = {"width": 8, "blocks": [1, 1], "norm": "group"}
    begin = create_model("resnet_tiny", num_classes=3, args=args).state_dict()
    assert close(begin, weights(tmp_path / "run"), 1e-4)
    assert not equal(begin, weights(tmp_path / "run"))


def test_images_grow_with_the_epochs(images, tmp_path):
    recorder = Recorder()
    ramp = "resolution={min: 32, max: 96, ramp_start: 0, ramp_end: 2}"
    train(small_recipe(images, tmp_path / "run", ramp, "train.epochs=3"), progress=recorder)
    assert sorted({(info.epoch, info.resolution) for info in recorder.of("batch")}) == [(0, 32), (1, 64), (2, 96)]
    fixed = "transforms.train=[{RandomResizedCrop: {size: 32}}]"
    with pytest.raises(ConfigError, match=r"resolution\.max"):
        train(small_recipe(images, tmp_path / "other", ramp, fixed))


def test_it_stops_early_when_nothing_gets_better(images, tmp_path):
    recorder = Recorder()
    overrides = ["train.epochs=20", "train.early_stopping.patience=2", "optimizer.lr=1e-12", "checkpoint.metric=top1"]
    report = train(small_recipe(images, tmp_path / "run", *overrides), progress=recorder)
    assert report.stopped_early
    assert (report.epochs, report.best_epoch) == (3, 1)
    assert any("stopped early" in text for text in recorder.of("message"))
    again = train(small_recipe(images, tmp_path / "run", *overrides, "checkpoint.resume=auto"))
    assert again.epochs == 3


def test_evaluations_are_as_rare_as_asked(images, tmp_path):
    recorder = Recorder()
    train(small_recipe(images, tmp_path / "run", "train.epochs=5", "eval.every=2"), progress=recorder)
    assert [info.metrics is not None for info in recorder.of("epoch")] == [False, True, False, True, True]


def test_a_skipped_sample_is_counted_and_named(images, tmp_path):
    import shutil

    copy = tmp_path / "images"
    shutil.copytree(images, copy)
    for split in ("train", "val"):
        (copy / split / "red" / "002.jpg").write_bytes(b"\xff\xd8\xff not a photograph")
    with pytest.raises(DataError, match=r"red/002"):
        train(small_recipe(copy, tmp_path / "stops"))
    report = train(small_recipe(copy, tmp_path / "goes", "data.on_error=skip"))
    account = report.train_account
    assert (account.expected, account.read, account.skipped) == (2 * TRAIN_IMAGES, 2 * TRAIN_IMAGES - 2, 2)
    assert [entry["key"] for entry in account.named] == ["red/002.jpg"] or "002" in account.named[0]["key"]
    # The replacement is another sample of the evaluation: it must not count twice.
    assert report.metrics.samples == VAL_IMAGES - 1
    assert (report.eval_account.expected, report.eval_account.skipped) == (VAL_IMAGES, 1)


def test_evaluation_counts_each_image_once_whatever_the_batch(images, tmp_path):
    found = [
        train(small_recipe(images, tmp_path / str(size), "train.epochs=1", f"eval.batch_size={size}")).metrics
        for size in (1, 5, 37, 64)
    ]
    assert all(item.confusion == found[0].confusion for item in found)
    assert all(item.loss == pytest.approx(found[0].loss, abs=1e-6) for item in found)


def test_a_folder_that_holds_a_run_is_not_written_over(images, tmp_path):
    train(small_recipe(images, tmp_path / "run", "train.epochs=1"))
    with pytest.raises(ConfigError, match="holds another run"):
        train(small_recipe(images, tmp_path / "run", "train.epochs=1"))
    (tmp_path / "run" / "notes.txt").write_text("mine")
    train(small_recipe(images, tmp_path / "run", "train.epochs=1", "report.overwrite=true"))
    assert (tmp_path / "run" / "notes.txt").exists()


def test_a_checkpoint_of_another_recipe_is_refused(images, tmp_path):
    train(small_recipe(images, tmp_path / "run", "train.epochs=1"))
    with pytest.raises(ConfigError, match=r"optimizer\.lr was 0\.05 and is 0\.06"):
        train(small_recipe(images, tmp_path / "run", "train.epochs=1", "optimizer.lr=0.06", "checkpoint.resume=auto"))
    with pytest.raises(ConfigError, match="global_batch was 4 and is 8"):
        train(small_recipe(images, tmp_path / "run", "train.epochs=1", "train.batch_size=8", "checkpoint.resume=auto"))
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        train(small_recipe(images, tmp_path / "run", f"checkpoint.resume={tmp_path / 'none'}"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.amp=fp16", r"train\.amp: fp16 needs a CUDA device"),
        ("model.num_classes=2", r"model\.num_classes: the data has 3 classes, got 2"),
        ("transforms.train=[RandomResizedCrop, {RandomHorizontalFlip: {q: 1}}]", r"transforms\.train\.1\..*q"),
        ("transforms.train=[RandomResizdCrop]", r"transforms\.train\.0.*RandomResizedCrop"),
        ("transforms.eval=[Normalize]", r"transforms\.eval\.0: Normalize is appended by itself"),
        ("train.batch_size=100", "batch"),
        ("optimizer.args.momentun=1", "did you mean momentum"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(images, tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        train(small_recipe(images, tmp_path / "run", override))


def test_data_sets_with_other_classes_are_refused(images, tmp_path):
    import shutil

    copy = tmp_path / "images"
    shutil.copytree(images, copy)
    (copy / "val" / "red").rename(copy / "val" / "scarlet")
    with pytest.raises(ConfigError, match="'red' against 'scarlet'"):
        train(small_recipe(copy, tmp_path / "run"))


def test_a_diverging_run_says_so(images, tmp_path):
    with pytest.raises(FastloadError, match=r"training loss is (nan|inf) at step"):
        train(small_recipe(images, tmp_path / "run", "optimizer.lr=1e30", "report.log_every=1"))


def test_bfloat16_on_the_cpu_learns(images, tmp_path):
    assert train(small_recipe(images, tmp_path / "run", "train.amp=bf16", "train.epochs=6")).top1 > 0.9


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_gpu_learns(images, tmp_path, amp):
    overrides = ["train.device=cuda", f"train.amp={amp}", "train.epochs=6", "train.ema.decay=0.9"]
    assert train(small_recipe(images, tmp_path / "run", *overrides)).top1 > 0.9
