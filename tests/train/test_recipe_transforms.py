"""Transforms of a recipe: containers of transforms, their sizes, overrides below them, and the path in an error."""

import pytest
import yaml

from fastload import transforms as T
from fastload.errors import ConfigError
from fastload.recipe import dump_yaml, parse_recipe
from fastload.train.images import takes_size, train_transforms

VALUES = {"dtype": "float32", "mean": (0.5,) * 3, "std": (0.25,) * 3}
CHAIN = [
    {"RandomChoice": {"transforms": ["RandomResizedCrop", {"CenterCrop": {"size": 9}}, {"RandomResizedCrop": None}]}},
    {"RandomApply": {"transforms": [{"ColorJitter": {"brightness": 0.4}}, "RandomGrayscale"], "p": 0.8}},
]


def recipe(*overrides):
    data = {"data": {"train": "a", "val": "b"}, "transforms": {"train": CHAIN}}
    return parse_recipe(data, overrides)


def test_sizes_are_filled_in_within_containers():
    choice, jitter, *_ = train_transforms(recipe().transforms.train, size=64, **VALUES)
    assert choice == T.RandomChoice([T.RandomResizedCrop(64), T.CenterCrop(9), T.RandomResizedCrop(64)])
    assert jitter == T.RandomApply([T.ColorJitter(0.4), T.RandomGrayscale()], 0.8)
    assert takes_size(CHAIN)
    assert not takes_size([{"RandomApply": {"transforms": [{"CenterCrop": {"size": 9}}]}}, "Grayscale"])


def test_a_recipe_is_written_and_read_back():
    again = parse_recipe(yaml.safe_load(dump_yaml(recipe())))
    assert again == recipe()


def test_overrides_reach_into_containers():
    changed = recipe(
        "transforms.train.1.RandomApply.p=0.5",
        "transforms.train.1.RandomApply.transforms.0.ColorJitter.hue=0.1",
        "transforms.train.1.RandomApply.transforms.1.RandomGrayscale.p=0.2",
        "transforms.train.0.RandomChoice.p=[1, 2, 3]",
    )
    choice, jitter, *_ = train_transforms(changed.transforms.train, size=64, **VALUES)
    assert jitter == T.RandomApply([T.ColorJitter(0.4, hue=0.1), T.RandomGrayscale(0.2)], 0.5)
    assert choice.p == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "transforms.train.1.RandomApply.transforms.0.ColorJitter.heu=1",
            "0.ColorJitter.heu: there is",
        ),
        (
            "transforms.train.1.RandomApply.transforms.1=Grayscail",
            "train.1.RandomApply.transforms.1: there is",
        ),
        ("transforms.train.1.RandomApply.p=2", "transforms.train.1.RandomApply: p must lie between 0 and 1"),
        ("transforms.train.1.RandomApply.transforms=3", "transforms.train.1.RandomApply.transforms: expected a list"),
        ("transforms.train.1={RandomApply: 3}", "transforms.train.1.RandomApply: should be an object"),
    ],
)
def test_errors_name_the_place(override, words):
    with pytest.raises(ConfigError) as caught:
        train_transforms(recipe(override).transforms.train, size=64, **VALUES)
    assert words in str(caught.value)
