"""RandomResizedCrop: torchvision's algorithm try by try, and torchvision's distribution."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.rng import random_words


def draw_boxes(step, height, width, ids, **stream):
    """Boxes (n, 4), top, left, height, width, of one image drawn under many numbers."""
    sizes = np.tile(np.array([height, width], dtype=np.int32), (len(ids), 1))
    draws = compile_plan([step]).draw(ids=ids, sizes=sizes, **({"seed": 7, "epoch": 0} | stream))
    assert np.array_equal(draws.box, np.rint(draws.box))
    return draws.box.astype(np.int64)


def box_one(step, height, width, sample, seed, epoch):
    """What torchvision's make_params does, with our words in place of its generator."""
    for number in range(10):
        words = random_words(np.array([sample]), seed=seed, epoch=epoch, transform=0, block=number)[:, 0].tolist()
        low, high = step.scale
        area = height * width * (low + (high - low) * words[0] / 2**32)
        low, high = map(math.log, step.ratio)
        ratio = math.exp(low + (high - low) * words[1] / 2**32)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [words[2] * (height - h + 1) >> 32, words[3] * (width - w + 1) >> 32, h, w]
    w, h = width, height
    if width / height < step.ratio[0]:
        h = max(1, round(w / step.ratio[0]))
    elif width / height > step.ratio[1]:
        w = max(1, round(h * step.ratio[1]))
    return [(height - h) // 2, (width - w) // 2, h, w]


STEPS = [
    T.RandomResizedCrop(224),
    T.RandomResizedCrop(224, scale=(0.9, 1.0), ratio=(1.0, 1.0)),
    T.RandomResizedCrop(224, scale=(0.5, 1.5), ratio=(0.2, 4.0)),
    T.RandomResizedCrop(224, scale=(0.9, 1.0), ratio=(2.0, 3.0)),
]


@pytest.mark.parametrize("step", STEPS)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    sample=st.integers(0, 2**40),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 500),
)
@settings(max_examples=60, deadline=None)
def test_try_by_try_as_torchvision(step, height, width, sample, seed, epoch):
    ours = draw_boxes(step, height, width, [sample], seed=seed, epoch=epoch)
    assert ours[0].tolist() == box_one(step, height, width, sample, seed, epoch)


def kolmogorov_smirnov(first, second):
    """The two-sample statistic, scaled so that 1.95 is passed by chance once in a thousand times."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate((first, second))
    gap = np.searchsorted(first, points, side="right") / len(first)
    gap -= np.searchsorted(second, points, side="right") / len(second)
    return np.abs(gap).max() * np.sqrt(len(first) * len(second) / (len(first) + len(second)))


def features(boxes, height, width):
    """What a box is made of, in terms that do not depend on each other by rounding."""
    top, left, tall, wide = boxes.T.astype(float)
    return {
        "area": tall * wide / (height * width),
        "ratio": np.log(wide / tall),
        "top": top / np.maximum(height - tall, 1),
        "left": left / np.maximum(width - wide, 1),
        "height": tall,
        "bottom": top + tall,
        "right": left + wide,
    }


@pytest.mark.parametrize(
    ("step", "height", "width"),
    [
        (T.RandomResizedCrop(224), 375, 500),
        (T.RandomResizedCrop(224), 500, 333),
        (T.RandomResizedCrop(224, scale=(0.25, 1.0)), 60, 300),  # long: many further tries, some central crops
        (T.RandomResizedCrop(224, scale=(0.5, 1.0), ratio=(0.5, 2.0)), 64, 64),
    ],
)
def test_boxes_have_the_distribution_of_torchvision(step, height, width):
    count = 20_000
    torch.manual_seed(0)
    reference = v2.RandomResizedCrop(step.size, step.scale, step.ratio)
    image = torch.empty(0, height, width)
    theirs = np.array([reference.get_params(image, list(step.scale), list(step.ratio)) for _ in range(count)])
    ours = draw_boxes(step, height, width, np.arange(count))
    expected = features(theirs, height, width)
    for name, values in features(ours, height, width).items():
        assert kolmogorov_smirnov(values, expected[name]) < 1.95, name


def test_the_statistic_sees_a_small_difference():
    # Otherwise the test above could not fail: another scale, another ratio, offsets that leave out the last place.
    ours = features(draw_boxes(T.RandomResizedCrop(224), 375, 500, np.arange(20_000)), 375, 500)
    other = draw_boxes(T.RandomResizedCrop(224, scale=(0.1, 1.0)), 375, 500, np.arange(20_000), seed=8)
    assert kolmogorov_smirnov(ours["area"], features(other, 375, 500)["area"]) > 1.95
    other = draw_boxes(T.RandomResizedCrop(224, ratio=(0.75, 1.4)), 375, 500, np.arange(20_000), seed=8)
    assert kolmogorov_smirnov(ours["ratio"], features(other, 375, 500)["ratio"]) > 1.95


def test_offsets_reach_both_ends():
    boxes = draw_boxes(T.RandomResizedCrop(8, scale=(0.25, 0.25), ratio=(1.0, 1.0)), 8, 8, np.arange(2000))
    assert set(boxes[:, 0].tolist()) == set(boxes[:, 1].tolist()) == {0, 1, 2, 3, 4}
    counts = np.bincount(boxes[:, 0] * 5 + boxes[:, 1], minlength=25)
    assert ((counts - 80) ** 2 / 80).sum() < 24 + 4.5 * np.sqrt(48)


def test_what_never_fits_is_cut_from_the_middle():
    step = T.RandomResizedCrop(224, scale=(1.0, 1.0), ratio=(2.0, 2.0))
    assert set(map(tuple, draw_boxes(step, 300, 100, np.arange(5)).tolist())) == {(125, 0, 50, 100)}
    assert set(map(tuple, draw_boxes(step, 100, 301, np.arange(5)).tolist())) == {(0, 50, 100, 200)}


def test_golden_values():
    # A change of these numbers changes the augmentation of every run with a given seed.
    step = T.RandomResizedCrop(224)
    ids = [0, 1, 2, 1_281_166, 2**40]
    assert draw_boxes(step, 375, 500, ids, seed=7, epoch=0).tolist() == [
        [12, 105, 209, 247],
        [18, 175, 268, 318],
        [185, 331, 146, 110],
        [1, 41, 373, 452],
        [122, 137, 135, 130],
    ]
    assert draw_boxes(step, 333, 500, ids, seed=7, epoch=3).tolist() == [
        [15, 14, 314, 387],
        [0, 95, 325, 318],
        [29, 69, 235, 299],
        [16, 193, 294, 294],
        [5, 168, 251, 238],
    ]
    assert draw_boxes(step, 100, 900, ids, seed=2**64 - 1, epoch=90).tolist() == [
        [0, 383, 100, 133],
        [0, 383, 100, 133],
        [0, 383, 100, 133],
        [3, 378, 94, 105],
        [0, 383, 100, 133],
    ]
