"""Declarations: torchvision v2's names, order, defaults and checks; plain values inside; errors that say what to do."""

import dataclasses
import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from fastload import transforms as T
from fastload.errors import ConfigError
from fastload.transforms.config import REGISTRY

# Ours -> what of torchvision's arguments is left out, and why.
LEFT_OUT = {
    "Normalize": {"inplace"},
    "RandomErasing": {"inplace"},
    "ClampBoundingBoxes": {"clamping_mode"},  # is about rotated boxes
    "SanitizeBoundingBoxes": {"labels_getter"},  # all that belongs to a box goes with it
}
# Ours -> defaults that torchvision does not have, or that are others: images have three channels, names are text.
ADDED_DEFAULTS = {"ToDtype": {"dtype"}, "Grayscale": {"num_output_channels"}, "AutoAugment": {"policy"}}


@pytest.mark.parametrize("name", [name for name in REGISTRY if hasattr(v2, name) and name not in ("MixUp", "CutMix")])
def test_arguments_and_defaults_are_those_of_torchvision(name):
    theirs = inspect.signature(getattr(v2, name)).parameters
    ours = inspect.signature(getattr(T, name)).parameters
    assert list(ours) == [key for key in theirs if key not in LEFT_OUT.get(name, ())]
    for key, parameter in ours.items():
        if key not in ADDED_DEFAULTS.get(name, ()):
            assert parameter.default == theirs[key].default, key
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def test_declarations_are_plain_frozen_comparable_values():
    crop = T.RandomResizedCrop(224)
    assert crop == T.RandomResizedCrop([224], (0.08, 1.0), [3 / 4, 4 / 3], InterpolationMode.BILINEAR, True)
    assert hash(crop) == hash(T.RandomResizedCrop((224, 224)))
    assert pickle.loads(pickle.dumps(crop)) == crop
    assert repr(T.CenterCrop(3)) == "CenterCrop(size=(3, 3))"
    with pytest.raises(dataclasses.FrozenInstanceError):
        crop.size = (1, 1)


@pytest.mark.parametrize("size", [224, [224], (224,), [224, 224], (np.int64(224), 224)])
def test_sizes_of_crops(size):
    assert T.CenterCrop(size).size == T.RandomResizedCrop(size).size == (224, 224)
    assert all(type(side) is int for side in T.CenterCrop(size).size)


def test_sizes_of_resize():
    assert T.Resize(256).size == T.Resize([256]).size == 256
    assert T.Resize([256, 128]).size == (256, 128)
    assert T.Resize(256, max_size=500).max_size == 500
    assert T.Resize(None, max_size=500).size is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("nearest", "nearest"),
        ("nearest-exact", "nearest"),
        ("bilinear", "bilinear"),
        ("bicubic", "bicubic"),
        (InterpolationMode.BICUBIC, "bicubic"),
        (InterpolationMode.NEAREST_EXACT, "nearest"),
        (Image.Resampling.BILINEAR, "bilinear"),
        (3, "bicubic"),
        (InterpolationMode.BOX, "box"),
        (Image.Resampling.BOX, "box"),
        ("area", "area"),
    ],
)
def test_interpolation(given, expected):
    assert T.Resize(8, given).interpolation == expected
    assert T.RandomResizedCrop(8, interpolation=given).interpolation == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float32", "float32"),
        (torch.float32, "float32"),
        (torch.half, "float16"),
        (torch.bfloat16, "bfloat16"),
        (torch.uint8, "uint8"),
        (np.float16, "float16"),
        (np.dtype("float32"), "float32"),
    ],
)
def test_dtypes(given, expected):
    assert T.ToDtype(given).dtype == expected


def test_channels():
    assert T.Normalize([0.5], (2,)) == T.Normalize((0.5, 0.5, 0.5), (2.0, 2.0, 2.0))
    assert T.Normalize(np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 4.0])) == T.Normalize((1, 2, 3), (1, 2, 4))


@pytest.mark.parametrize("value", [None, 0, 0.4, 2, (0.5, 1.5), (0, 0), (1, 1)])
def test_jitter_holds_what_torchvision_holds(value):
    for name in ("brightness", "contrast", "saturation"):
        assert getattr(T.ColorJitter(**{name: value}), name) == getattr(v2.ColorJitter(**{name: value}), name)


@pytest.mark.parametrize("value", [None, 0, 0.5, (-0.5, 0.5), (0, 0), (0.1, 0.2)])
def test_hue_holds_what_torchvision_holds(value):
    assert T.ColorJitter(hue=value).hue == v2.ColorJitter(hue=value).hue


def test_branches():
    parts = T.RandomChoice([[T.Grayscale(), T.RandomInvert()], T.Compose([T.Grayscale()]), T.RandomInvert()]).transforms
    assert parts == (T.Compose([T.Grayscale(), T.RandomInvert()]), T.Grayscale(), T.RandomInvert())
    assert T.RandomApply([T.Compose([T.Grayscale()]), T.RandomInvert()]).transforms == (T.Grayscale(), T.RandomInvert())


BAD = [
    (lambda: T.ColorJitter(-0.1), "at least 0"),
    (lambda: T.ColorJitter((0.5, 0.4)), "low <= high"),
    (lambda: T.ColorJitter((-0.5, 0.4)), "low <= high"),
    (lambda: T.ColorJitter("a"), "two numbers"),
    (lambda: T.ColorJitter(True), "two numbers"),
    (lambda: T.ColorJitter(float("inf")), "finite"),
    (lambda: T.ColorJitter(hue=0.6), "between 0 and 0.5"),
    (lambda: T.ColorJitter(hue=(-0.6, 0)), "-0.5 <= low"),
    (lambda: T.ColorJitter(hue=(0, 1, 2)), "two numbers"),
    (lambda: T.RandomPhotometricDistort(hue=0.1), "two numbers"),
    (lambda: T.RandomPhotometricDistort(p=2), "between 0 and 1"),
    (lambda: T.Grayscale(1), "images[:, :1]"),
    (lambda: T.RandomPosterize(9), "from 0 to 8"),
    (lambda: T.RandomPosterize(2.0), "from 0 to 8"),
    (lambda: T.RandomSolarize(256), "from 0 to 255"),
    (lambda: T.RandomInvert(-1), "between 0 and 1"),
    (lambda: T.RandomAdjustSharpness(-1), "at least 0"),
    (lambda: T.GaussianBlur(4), "odd"),
    (lambda: T.GaussianBlur((3, 3, 3)), "(width, height)"),
    (lambda: T.GaussianBlur(3, 0), "high > 0"),
    (lambda: T.GaussianBlur(3, (0, 1)), "between 0.001"),
    (lambda: T.GaussianNoise(sigma=-1), "between 0 and 10"),
    (lambda: T.GaussianNoise(clip=1), "True or False"),
    (lambda: T.JPEG(0), "from 1 to 100"),
    (lambda: T.JPEG((20, 10)), "from 1 to 100"),
    (lambda: T.JPEG(50.0), "from 1 to 100"),
    (lambda: T.AutoAugment("coco"), "'imagenet', 'cifar10' or 'svhn'"),
    (lambda: T.AutoAugment([]), "'imagenet', 'cifar10' or 'svhn'"),
    (lambda: T.AutoAugment(interpolation="bicubic"), "'nearest' or 'bilinear'"),
    (lambda: T.AutoAugment(fill=256), "fill"),
    (lambda: T.RandAugment(-1), "num_ops must be a whole number from 0 to 64"),
    (lambda: T.RandAugment(magnitude=31), "magnitude must be a whole number from 0 to 30"),
    (lambda: T.RandAugment(num_magnitude_bins=1), "from 2 to 1000"),
    (lambda: T.TrivialAugmentWide(1.5), "from 2 to 1000"),
    (lambda: T.AugMix(0), "severity must be a whole number from 1 to 10"),
    (lambda: T.AugMix(mixture_width=0), "mixture_width"),
    (lambda: T.AugMix(alpha=0), "alpha must lie between"),
    (lambda: T.AugMix(all_ops=1), "True or False"),
    (lambda: T.ThreeAugment(-1), "at least 0"),
    (lambda: T.RandomErasing(scale=(0.5, 1.5)), "between 0 and 1"),
    (lambda: T.RandomErasing(ratio=(0, 1)), "greater than 0"),
    (lambda: T.RandomErasing(value="noise"), "a number, three, or 'random'"),
    (lambda: T.RandomErasing(value=(1, 2)), "a number, three, or 'random'"),
    (lambda: T.RandomErasing(value=float("nan")), "finite"),
    (lambda: T.Cutout(0), "between 1 and"),
    (lambda: T.Cutout(3, "random"), "fill must be"),
    (lambda: T.Cutout(3, (0, 0, 300)), "from 0 to 255"),
    (lambda: T.RandomApply([]), "at least one"),
    (lambda: T.RandomApply([T.Grayscale()], 2), "between 0 and 1"),
    (lambda: T.RandomApply([v2.Grayscale(3)]), "take fastload.transforms.Grayscale"),
    (lambda: T.RandomChoice([]), "at least one"),
    (lambda: T.RandomChoice([[]]), "at least one"),
    (lambda: T.RandomChoice([T.Grayscale()], 1), "one weight for each of the 1"),
    (lambda: T.RandomChoice([T.Grayscale()], [1, 2]), "one weight for each of the 1"),
    (lambda: T.RandomChoice([T.Grayscale()] * 2, [0, 0]), "not all 0"),
    (lambda: T.RandomChoice([T.Grayscale()] * 2, [2, -1]), "at least 0"),
    (lambda: T.RandomOrder(T.Grayscale()), "list"),
    (lambda: T.RandomOrder([lambda image: image]), "declarations"),
    (lambda: T.Resize(0), "between 1 and"),
    (lambda: T.Resize(-3), "-3"),
    (lambda: T.Resize(2.5), "2.5"),
    (lambda: T.Resize(True), "True"),
    (lambda: T.Resize("224"), "224"),
    (lambda: T.Resize([1, 2, 3]), "height, width"),
    (lambda: T.Resize([]), "height, width"),
    (lambda: T.Resize(40_000), "32768"),
    (lambda: T.Resize(None), "max_size"),
    (lambda: T.Resize((3, 4), max_size=5), "max_size"),
    (lambda: T.Resize(5, max_size=5), "greater than size 5"),
    (lambda: T.Resize(5, "lanczos"), "lanczos"),
    (lambda: T.Resize(5, InterpolationMode.HAMMING), "HAMMING"),
    (lambda: T.Resize(5, 1), "interpolation"),
    (lambda: T.Resize(5, True), "interpolation"),
    (lambda: T.Resize(5, antialias=None), "antialias"),
    (lambda: T.CenterCrop("a"), "CenterCrop: size"),
    (lambda: T.CenterCrop((3, 0)), "CenterCrop: size"),
    (lambda: T.CenterCrop(None), "CenterCrop: size"),
    (lambda: T.RandomResizedCrop(None), "RandomResizedCrop: size"),
    (lambda: T.RandomResizedCrop(3, scale=0.5), "scale"),
    (lambda: T.RandomResizedCrop(3, scale=(1, 0.5)), "low <= high"),
    (lambda: T.RandomResizedCrop(3, scale=(0, 0)), "high > 0"),
    (lambda: T.RandomResizedCrop(3, scale=(-1, 1)), "scale"),
    (lambda: T.RandomResizedCrop(3, scale=(0, float("nan"))), "finite"),
    (lambda: T.RandomResizedCrop(3, ratio=(0, 1)), "ratio"),
    (lambda: T.RandomResizedCrop(3, ratio="ab"), "ratio"),
    (lambda: T.RandomHorizontalFlip(1.5), "between 0 and 1"),
    (lambda: T.RandomHorizontalFlip("x"), "finite number"),
    (lambda: T.Normalize([1, 2], [1, 1, 1]), "mean must be 3 numbers"),
    (lambda: T.Normalize([1, 2, 3], [1, 0, 1]), "std must not be 0"),
    (lambda: T.Normalize(0.5, 0.5), "3 numbers"),
    (lambda: T.Normalize("abc", "abc"), "3 numbers"),
    (lambda: T.Normalize([float("inf")], [1]), "finite"),
    (lambda: T.ToDtype("float64"), "uint8, float16, bfloat16, float32"),
    (lambda: T.ToDtype(torch.int64), "int64"),
    (lambda: T.ToDtype({}), "dtype"),
    (lambda: T.ToDtype(scale=1), "scale"),
    (lambda: T.Compose([]), "at least one"),
    (lambda: T.Compose([v2.CenterCrop(3)]), "take fastload.transforms.CenterCrop"),
    (lambda: T.Compose([lambda image: image]), "declarations"),
    (lambda: T.Compose("Resize"), "list"),
    (lambda: T.Compose(3), "list"),
]


@pytest.mark.parametrize(("make", "words"), BAD)
def test_bad_arguments_say_what_was_expected(make, words):
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)


def test_compose_is_flat():
    chain = T.Compose([T.Resize(256), T.Compose([T.CenterCrop(224), T.Compose([T.ToDtype()])])])
    assert chain.transforms == (T.Resize(256), T.CenterCrop(224), T.ToDtype())
    assert T.flatten([chain, T.RandomHorizontalFlip()])[-1] == T.RandomHorizontalFlip()
    assert T.flatten(None) == []
    assert T.flatten(T.CenterCrop(3)) == [T.CenterCrop(3)]


def test_importing_needs_neither_torch_nor_numba():
    code = (
        "import sys, fastload.transforms; sys.exit(bool({'torch', 'numba', 'PIL', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
