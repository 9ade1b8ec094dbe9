"""How many passes over pixels remain, counted by hand."""

import numpy as np
import pytest

from fastload import transforms as T
from fastload.augment import compile_plan, count_passes


def passes(*chain, count=4000):
    sizes = np.broadcast_to(np.array((300, 400), np.int32), (count, 2))
    draws = compile_plan(chain).draw(seed=0, epoch=0, ids=np.arange(count), sizes=sizes)
    return {one.name: one.per_image for one in count_passes(draws)}


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.RandomVerticalFlip()], {"resample": 1}),
        ([T.RandomResizedCrop(224), T.RandomTranslate((0.1, 0.1))], {"resample": 1}),
        ([T.RandomResizedCrop(32), T.Pad(2, fill=7), T.RandomCrop(36)], {"resample": 1, "store": 1}),
        ([T.Resize(256), T.CenterCrop(224), T.Pad(4)], {"resample": 1, "map": 1, "store": 1}),
        (
            [T.RandomRotation(30), T.RandomAffine(10), T.RandomResizedCrop(224), T.RandomPerspective(p=1)],
            {"resample": 1, "map": 1, "store": 1},
        ),
        (
            # Three tables in a row are one pass, and a mirror image between them is none.
            [T.CenterCrop(9), T.RandomInvert(1), T.RandomHorizontalFlip(), T.RandomSolarize(9, 1), T.RandomEqualize(1)],
            {"resample": 1, "table of levels": 1, "store": 1},
        ),
        (
            [T.RandomInvert(1), T.Grayscale(), T.RandomCrop(9, 2, padding_mode="edge"), T.RandomRotation(9)],
            {"before: table of levels": 1, "before: grayscale": 1, "resample": 1, "frame": None, "map": None},
        ),
    ],
)
def test_passes_are_counted(chain, expected):
    found = passes(*chain)
    for name, number in expected.items():
        if number is not None:
            assert found.pop(name) == number
    assert set(found) <= set(expected) | {"store", "warp"}


def test_what_is_drawn_for_some_images_counts_for_those():
    found = passes(T.CenterCrop(9), T.RandomApply([T.RandomRotation(9), T.Grayscale()], 0.25))
    assert found["resample"] == 1
    assert found["map"] == found["grayscale"] == found["store"]
    assert abs(found["map"] - 0.25) < 0.04
    assert count_passes(compile_plan([T.CenterCrop(9)]).draw(seed=0, epoch=0, ids=[], sizes=np.empty((0, 2)))) == ()
