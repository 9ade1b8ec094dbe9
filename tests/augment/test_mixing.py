"""Draws of MixUp and CutMix: torchvision's distributions, and nothing that depends on anything but their key."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.mixing import BatchKey, draw_mixes
from fastload.errors import ConfigError

CHAIN = [T.RandomResizedCrop(32), T.ToDtype("float32", scale=True)]


def key(number=0, ids=(), *, epoch=0, size=(224, 160)):
    return BatchKey(seed=5, epoch=epoch, number=number, ids=np.array(ids, np.int64), size=size)


def gap(ours, theirs):
    """Kolmogorov's and Smirnov's statistic over the limit that equal distributions keep in 999 of 1,000 cases."""
    points = np.sort(np.concatenate((ours, theirs)))
    shares = [np.searchsorted(np.sort(side), points, side="right") / len(side) for side in (ours, theirs)]
    return np.abs(shares[0] - shares[1]).max() / (1.95 * math.sqrt(1 / len(ours) + 1 / len(theirs)))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_boxes_and_shares_are_distributed_as_torchvisions(alpha):
    reference = v2.CutMix(alpha=alpha, num_classes=2)
    image = torch.empty(1, 3, 224, 160)
    torch.manual_seed(1)
    drawn = [reference.make_params([image]) for _ in range(5_000)]
    left, top, right, bottom = np.array([params["box"] for params in drawn]).T
    (mix,) = draw_mixes([T.CutMix(alpha=alpha, per_sample=True)], key(ids=range(100_000)))
    assert gap(mix.own, np.array([params["lam_adjusted"] for params in drawn])) < 1
    for ours, theirs in zip(mix.boxes.T, (top, left, bottom - top, right - left), strict=True):
        assert gap(ours.astype(float), theirs.astype(float)) < 1
    assert (mix.boxes[:, :2] >= 0).all()
    assert (mix.boxes[:, :2] + mix.boxes[:, 2:] <= (224, 160)).all()
    np.testing.assert_allclose(mix.own, 1 - mix.boxes[:, 2] * mix.boxes[:, 3] / (224 * 160), atol=1e-12)


def test_a_weight_belongs_to_its_batch_or_to_its_sample_alone():
    (batch,) = draw_mixes([T.MixUp()], key(3, ids=[1, 2]))
    (same,) = draw_mixes([T.MixUp()], key(3, ids=[7, 8, 9]))
    (other,) = draw_mixes([T.MixUp()], key(4, ids=[1, 2]))
    (later,) = draw_mixes([T.MixUp()], key(3, ids=[1, 2], epoch=1))
    assert batch.own.shape == (1,)
    assert len({*batch.own.tolist(), *other.own.tolist(), *later.own.tolist()}) == 3
    assert batch.own.tolist() == same.own.tolist()
    (samples,) = draw_mixes([T.MixUp(per_sample=True)], key(3, ids=[5, 6, 7]))
    (fewer,) = draw_mixes([T.MixUp(per_sample=True)], key(9, ids=[7, 5]))
    assert samples.own[[2, 0]].tolist() == fewer.own.tolist()


def test_they_end_the_chain():
    plan = compile_plan([*CHAIN, T.MixUp(), T.CutMix()])
    assert plan.mixing == (T.MixUp(), T.CutMix())
    with pytest.raises(ConfigError, match="end of the chain"):
        compile_plan([T.RandomResizedCrop(32), T.CutMix(), T.ToDtype("float32")])
    with pytest.raises(ConfigError, match="ToDtype"):
        compile_plan([T.RandomResizedCrop(32), T.MixUp()])
    compile_plan([T.RandomResizedCrop(32), T.CutMix()])
    with pytest.raises(ConfigError, match=r"same num_classes.*\[3, 4\]"):
        compile_plan([*CHAIN, T.MixUp(num_classes=3), T.CutMix(num_classes=4)])


@pytest.mark.parametrize("options", [{"alpha": 0}, {"alpha": "1"}, {"num_classes": 0}, {"per_sample": 1}])
def test_a_wrong_argument_is_one_clear_error(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        T.MixUp(**options)
    with pytest.raises(ConfigError, match=next(iter(options))):
        T.CutMix(**options)


def test_repeats_are_drawn_anew_and_the_first_as_without():
    plan = compile_plan(CHAIN)
    ids, sizes = np.arange(50), np.full((50, 2), 300, np.int32)
    plain = plan.draw(seed=1, epoch=0, ids=ids, sizes=sizes)
    first, second = (plan.draw(seed=1, epoch=0, ids=ids, sizes=sizes, repeats=np.full(50, repeat)) for repeat in (0, 1))
    assert first.box.tolist() == plain.box.tolist()
    assert not (first.box == second.box).all(axis=1).any()
    assert second.ids.tolist() == ids.tolist()


def test_containers_decide_for_the_whole_batch():
    choice = [T.RandomChoice([T.MixUp(alpha=0.2), T.Compose([T.CutMix(), T.MixUp()])], p=[0.25, 0.75])]
    drawn = [draw_mixes(choice, key(number, ids=[1, 2, 3])) for number in range(2_000)]
    assert {len(mixes) for mixes in drawn} == {1, 2}
    share = np.mean([len(mixes) == 1 for mixes in drawn])
    assert abs(share - 0.25) < 4.5 * math.sqrt(0.25 * 0.75 / 2_000)
    assert [mix.boxes is None for mix in next(mixes for mixes in drawn if len(mixes) == 2)] == [False, True]
    applied = [len(draw_mixes([T.RandomApply([T.MixUp()], p=0.1)], key(number))) for number in range(2_000)]
    assert abs(np.mean(applied) - 0.1) < 4.5 * math.sqrt(0.1 * 0.9 / 2_000)
    orders = {
        tuple(mix.boxes is None for mix in draw_mixes([T.RandomOrder([T.MixUp(), T.CutMix()])], key(number)))
        for number in range(50)
    }
    assert orders == {(True, False), (False, True)}
    # What a container holds is numbered whether it is drawn or not: what follows stays as it is.
    others = T.RandomChoice([T.CutMix(), T.Compose([T.CutMix(), T.CutMix()])])
    for number in range(20):
        later, alone = (draw_mixes([*chain, T.MixUp()], key(number))[-1].own for chain in (choice, [others]))
        assert later == alone
    plan = compile_plan([*CHAIN, *choice])
    assert plan.mixing == tuple(choice)
    with pytest.raises(ConfigError, match="put it behind"):
        compile_plan([*CHAIN, T.RandomChoice([T.CutMix(), T.RandomHorizontalFlip()])])
    with pytest.raises(ConfigError, match="ToDtype"):
        compile_plan([CHAIN[0], *choice])
