"""Training with soft labels: the loss, and runs with MixUp, CutMix and repeats that end where they should."""

import pytest
import torch

from fastload import transforms as T
from fastload.errors import ConfigError
from fastload.train import Progress, train
from fastload.train.images import eval_transforms, train_transforms
from fastload.train.stepper import loss_sum
from tests.train.small import TRAIN_IMAGES, small_recipe
from tests.train.test_train import equal, weights

LOOK = {"size": 32, "dtype": "float32", "mean": [0.5] * 3, "std": [0.25] * 3}
MIXED = "transforms.train=[RandomResizedCrop, {MixUp: {alpha: 0.2}}, {CutMix: {per_sample: true}}]"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_and_soft_labels_have_the_same_loss(smoothing):
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5), torch.randint(4, (6,))
    soft = torch.nn.functional.one_hot(labels, 4).float()  # the network has an output more than the data has classes
    hard = loss_sum(logits, labels, smoothing)
    torch.testing.assert_close(loss_sum(logits, soft, smoothing), hard)
    # Mixed labels weigh the losses of both, smoothed or not.
    weighed = 0.3 * loss_sum(logits, labels, smoothing) + 0.7 * loss_sum(logits, labels.roll(1), smoothing)
    torch.testing.assert_close(loss_sum(logits, 0.3 * soft + 0.7 * soft.roll(1, 0), smoothing), weighed)


def test_values_are_normalised_before_they_are_mixed():
    chain = train_transforms(["RandomResizedCrop", "MixUp", {"CutMix": None}], **LOOK)
    assert [type(step).__name__ for step in chain] == ["RandomResizedCrop", "ToDtype", "Normalize", "MixUp", "CutMix"]
    with pytest.raises(ConfigError, match=r"transforms\.eval\.1.*training only"):
        eval_transforms([{"Resize": {"size": [32, 32]}}, "MixUp"], crop_ratio=1.0, **LOOK)
    assert eval_transforms(None, crop_ratio=1.0, **LOOK)[0] == T.Resize(32)


def test_a_run_with_mixed_and_repeated_images_learns(images, tmp_path):
    recipe = small_recipe(images, tmp_path / "run", MIXED, "data.repeats=2", "train.epochs=10")
    report = train(recipe)
    assert report.top1 > 0.6
    assert report.train_account.read == report.train_account.expected == report.train_images == 10 * TRAIN_IMAGES


def test_a_resumed_run_mixes_as_the_whole_one(images, tmp_path):
    options = (MIXED, "data.repeats=3", "train.label_smoothing=0.1")
    train(small_recipe(images, tmp_path / "whole", *options))

    class Stop(Exception):
        pass

    class Stopper(Progress):
        def batch(self, info):
            if info.step == 20:
                raise Stop

    recipe = small_recipe(images, tmp_path / "parts", *options, "checkpoint.every_steps=4", "checkpoint.resume=auto")
    with pytest.raises(Stop):
        train(recipe, progress=Stopper())
    train(recipe)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
