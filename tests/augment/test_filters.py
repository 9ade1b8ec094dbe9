"""Blur, noise, compression and sharpness: numbers drawn as torchvision draws them, and where they make no sense."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.program import Code
from fastload.errors import ConfigError
from tests.augment.executor import draw, execute, operations, picture
from tests.augment.statistics import same_distribution, same_shares
from tests.augment.test_color import SQUARE, theirs_drawn

COUNT = pytest.mark.parametrize("count", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])


@COUNT
@pytest.mark.parametrize("sigma", [(0.1, 2.0), 1.5])
def test_blur_is_distributed_as_torchvision_draws_it(count, sigma):
    program = draw([*SQUARE, T.GaussianBlur((5, 3), sigma)], 100_000).after
    assert (program.code == Code.BLUR).all()
    assert (program.values[:, :2] == [5, 3]).all()
    assert np.array_equal(program.values[:, 2], program.values[:, 3])
    theirs = [params["sigma"][0] for params in theirs_drawn(v2.GaussianBlur((5, 3), sigma), count)]
    assert same_distribution(program.values[:, 2], theirs)


@COUNT
@pytest.mark.parametrize("quality", [(60, 73), (1, 100), 50])
def test_compression_is_distributed_as_torchvision_draws_it(count, quality):
    program = draw([*SQUARE, T.JPEG(quality)], 100_000).after
    theirs = [params["quality"] for params in theirs_drawn(v2.JPEG(quality), count)]
    assert same_shares(program.values[:, 0], theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "params"),
    [
        (T.GaussianBlur((5, 3)), v2.GaussianBlur((5, 3)), lambda v: {"sigma": [float(v[2]), float(v[3])]}),
        (T.JPEG((10, 90)), v2.JPEG((10, 90)), lambda v: {"quality": int(v[0])}),
        (T.RandomAdjustSharpness(1.75, 1.0), v2.RandomAdjustSharpness(1.75, 1.0), lambda v: {}),
    ],
)
@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
def test_the_same_choices_give_the_same_image(monkeypatch, ours, theirs, params):
    image, program = picture(), draw([*SQUARE, ours], 20).after
    for sample in range(20):
        steps = operations(program, sample)
        drawn = params(steps[0][1])
        monkeypatch.setattr(theirs, "make_params", lambda _, drawn=drawn: drawn)
        assert torch.equal(execute(image, steps), theirs(image))


def test_noise_has_a_seed_for_each_sample_and_epoch():
    chain = [*SQUARE, T.GaussianNoise(0.01, 0.2, clip=False)]
    first, second = (draw(chain, 5_000, epoch=epoch).after.values for epoch in (0, 1))
    assert (first[:, :3] == [0.01, 0.2, 0.0]).all()
    seeds = np.concatenate((first, second))[:, 3:5]
    assert len(np.unique(seeds, axis=0)) == 10_000
    assert (seeds == np.rint(seeds)).all()
    assert ((seeds >= 0) & (seeds < 2**32)).all()
    assert draw([*SQUARE, T.GaussianNoise()], 1).after.values[0, :3].tolist() == [0.0, 0.1, 1.0]


def test_sharpness_comes_as_often_as_asked():
    program = draw([*SQUARE, T.RandomAdjustSharpness(0.5, 0.3)], 20_000).after
    assert abs(np.diff(program.start).mean() - 0.3) < 4.5 * np.sqrt(0.21 / 20_000)
    assert (program.values[:, 0] == 0.5).all()


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([T.JPEG(50), T.RandomHorizontalFlip()], "put RandomHorizontalFlip before it"),
        ([T.RandomHorizontalFlip(), T.JPEG(5), T.CenterCrop(8)], "CenterCrop(size=(8, 8)) cannot follow JPEG("),
        ([T.GaussianBlur((3, 129))], "a kernel of 129 reaches over the whole height of 64"),
        ([T.GaussianBlur((129, 3))], "a kernel of 129 reaches over the whole width of 64"),
    ],
)
def test_refusals_say_what_to_do(chain, words):
    with pytest.raises(ConfigError) as caught:
        compile_plan([*SQUARE, *chain])
    assert words in str(caught.value)


def test_what_can_be_done_is_not_refused():
    compile_plan([*SQUARE, T.GaussianBlur(127), T.RandomAdjustSharpness(2), T.RandomHorizontalFlip(), T.JPEG(3)])
    compile_plan([T.JPEG(3), T.RandomHorizontalFlip(), *SQUARE])
