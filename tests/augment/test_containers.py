"""Containers: which parts are drawn for which sample, how often, in which order, and what may stand in them."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.program import Code
from fastload.errors import ConfigError
from tests.augment.executor import draw, operations
from tests.augment.statistics import independent, same_shares

SQUARE = [T.CenterCrop(64)]
INVERT, GREY = T.RandomInvert(1.0), T.RandomGrayscale(1.0)


def marks(number):
    """A transform that is always done and can be told from others: it keeps so many bits."""
    return T.RandomPosterize(number, 1.0)


def bits(program, count):
    return [tuple(int(values[0]) for _, values in operations(program, sample)) for sample in range(count)]


def recorded(transform, count):
    """What torchvision's container does with parts that append their number to a list."""
    torch.manual_seed(1)
    return [tuple(transform(torch.zeros(0)).tolist()) for _ in range(count)]


class Mark(v2.Transform):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, image):
        return torch.cat((image, torch.tensor([self.number])))


def numbered(results):
    """Each different outcome as a number."""
    kinds = {outcome: number for number, outcome in enumerate(sorted(set(results)))}
    return [kinds[outcome] for outcome in results], list(kinds)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (T.RandomApply([marks(1), marks(2)], 0.3), v2.RandomApply([Mark(1), Mark(2)], 0.3)),
        (T.RandomChoice([marks(1), marks(2), marks(3)]), v2.RandomChoice([Mark(1), Mark(2), Mark(3)])),
        (
            T.RandomChoice([marks(1), [marks(2), marks(3)], marks(4)], [1, 6, 0]),
            v2.RandomChoice([Mark(1), v2.Compose([Mark(2), Mark(3)]), Mark(4)], [1, 6, 0]),
        ),
        (T.RandomOrder([marks(n) for n in range(1, 5)]), v2.RandomOrder([Mark(n) for n in range(1, 5)])),
        (T.RandomOrder([marks(n) for n in range(1, 7)]), v2.RandomOrder([Mark(n) for n in range(1, 7)])),
        (
            T.RandomOrder([T.RandomApply([marks(1)]), T.RandomChoice([marks(2), [marks(3), marks(4)]])]),
            v2.RandomOrder(
                [v2.RandomApply([Mark(1)]), v2.RandomChoice([Mark(2), v2.Compose([Mark(3), Mark(4)])])],
            ),
        ),
    ],
)
def test_parts_are_done_as_often_and_in_the_order_of_torchvision(ours, theirs):
    count = 30_000
    mine = bits(draw([*SQUARE, ours], count).after, count)
    codes, kinds = numbered([*mine, *recorded(theirs, 5_000)])
    assert set(kinds) == set(mine)
    assert same_shares(codes[:count], codes[count:])


def test_what_containers_hold_is_numbered_in_the_order_in_which_it_is_written():
    # The flip is the fifth random transform of both, wherever the container went.
    flips = [
        draw([*SQUARE, first, T.RandomHorizontalFlip()], 200).flip
        for first in (
            T.RandomApply([T.RandomApply([marks(1), marks(2)])]),
            T.RandomChoice([marks(1), T.Compose([marks(2), GREY])]),
        )
    ]
    assert np.array_equal(*flips)
    assert not np.array_equal(flips[0], draw([*SQUARE, marks(1), T.RandomHorizontalFlip()], 200).flip)


def test_parts_are_drawn_independently():
    program = draw([*SQUARE, T.RandomApply([T.RandomInvert(), T.RandomApply([T.RandomGrayscale(0.5)])])], 40_000).after
    done = np.zeros((40_000, 2), bool)
    samples = np.repeat(np.arange(40_000), np.diff(program.start))
    done[samples, (program.code == Code.GRAYSCALE).astype(int)] = True
    applied = done.any(axis=1)
    assert abs(done[:, 0].mean() - 0.25) < 0.01
    assert abs(done[:, 1].mean() - 0.125) < 0.01
    assert abs(applied.mean() - 0.5 * (1 - 0.5 * 0.75)) < 0.01


def test_geometry_within_containers_goes_its_own_way_for_each_sample():
    chain = [*SQUARE, T.RandomApply([T.RandomHorizontalFlip(1.0), INVERT])]
    draws = draw(chain, 1000)
    assert np.array_equal(draws.flip, np.diff(draws.after.start) == 1)
    assert 400 < draws.flip.sum() < 600


def test_operations_before_and_after_the_first_geometric_step_of_each_sample():
    draws = draw([T.RandomOrder([INVERT, T.CenterCrop(8)]), GREY], 1000)
    early = np.zeros(1000, bool)
    early[np.repeat(np.arange(1000), np.diff(draws.before.start))] = True
    assert np.array_equal(np.diff(draws.after.start), np.where(early, 1, 2))
    assert 400 < early.sum() < 600
    assert draws.window.tolist() == [[28, 28, 8, 8]] * 1000


def test_order_and_what_is_ordered_are_independent():
    program = draw([*SQUARE, T.RandomOrder([T.ColorJitter(0.4), GREY])], 20_000).after
    codes, values = program.code.reshape(-1, 2), program.values.reshape(-1, 2, 16)[:, :, 0]
    first = codes[:, 0] == Code.BRIGHTNESS
    assert independent(first, np.where(first, values[:, 0], values[:, 1]))


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([T.RandomApply([T.RandomResizedCrop(8)])], "sizes may differ after RandomApply("),
        ([T.RandomChoice([T.CenterCrop(8), T.CenterCrop(9)])], "sizes may differ after RandomChoice("),
        ([T.RandomChoice([T.Resize((8, 8)), T.Resize((8, 8), "bicubic")])], "same interpolation and antialias"),
        ([*SQUARE, T.RandomApply([T.ToDtype()])], "put it behind"),
        ([*SQUARE, T.RandomOrder([GREY, T.RandomResizedCrop(8)])], "put RandomResizedCrop before it"),
        ([*SQUARE, T.RandomOrder([GREY] * 5 + [T.CenterCrop(8)])], "before or behind it"),
    ],
)
def test_refusals_say_what_to_do(chain, words):
    with pytest.raises(ConfigError) as caught:
        compile_plan(chain)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "chain",
    [
        [T.RandomApply([T.RandomResizedCrop(8)]), T.Resize((4, 4))],
        [T.RandomChoice([T.CenterCrop(8), T.RandomResizedCrop(8)])],
        [T.RandomChoice([T.CenterCrop(8), T.CenterCrop(9)]), T.CenterCrop(5)],
        [T.RandomOrder([GREY, T.CenterCrop(9)]), INVERT],
        [*SQUARE, T.RandomOrder([GREY] * 9)],
    ],
)
def test_what_can_be_done_is_not_refused(chain):
    compile_plan(chain).draw(seed=0, epoch=0, ids=[0], sizes=np.full((1, 2), 20, np.int32))
