"""Transforms from a recipe's plain data and back, with errors that name the place and the nearest valid word."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fastload import transforms as T
from fastload.errors import ConfigError
from fastload.transforms.config import REGISTRY

sides = st.integers(1, 1000)
pairs = st.tuples(sides, sides)
modes = st.sampled_from(["nearest", "bilinear", "bicubic"])
ranges = st.tuples(st.floats(0.01, 1), st.floats(0, 2)).map(lambda pair: (pair[0], pair[0] + pair[1]))
numbers = st.floats(-100, 100)
transforms = st.one_of(
    st.builds(T.CenterCrop, pairs),
    st.builds(T.Resize, st.one_of(sides, pairs), modes, antialias=st.booleans()),
    st.builds(T.Resize, sides, modes, max_size=st.integers(1001, 2000)),
    st.builds(T.Resize, st.none(), modes, max_size=sides),
    st.builds(T.RandomResizedCrop, pairs, ranges, ranges, modes, st.booleans()),
    st.builds(T.MixUp, alpha=st.floats(0.1, 2), num_classes=st.one_of(st.none(), sides), per_sample=st.booleans()),
    st.builds(T.CutMix, alpha=st.floats(0.1, 2), per_sample=st.booleans()),
    st.builds(T.RandomHorizontalFlip, st.floats(0, 1)),
    st.builds(T.Normalize, st.tuples(numbers, numbers, numbers), st.tuples(*[st.floats(0.01, 300)] * 3)),
    st.builds(T.ToDtype, st.sampled_from(["uint8", "float16", "bfloat16", "float32"]), st.booleans()),
)


@given(st.lists(transforms, max_size=6))
def test_round_trip_through_json_and_yaml(chain):
    config = T.to_config(chain)
    assert T.from_config(json.loads(json.dumps(config))) == tuple(chain)
    assert T.from_config(yaml.safe_load(yaml.safe_dump(config))) == tuple(chain)


# One of each.
EACH = (
    T.Resize(256),
    T.CenterCrop(224),
    T.RandomResizedCrop(224),
    T.RandomHorizontalFlip(),
    T.RandomVerticalFlip(0.25),
    T.Pad((1, 2), fill=(1, 2, 3)),
    T.RandomCrop(32, 4, padding_mode="reflect"),
    T.RandomZoomOut(7, (1, 3)),
    T.RandomIoUCrop(sampler_options=[0.5, 1]),
    T.ScaleJitter((300, 400), (0.5, 1.5)),
    T.RandomShortestSize([256, 300], 500),
    T.RandomResize(200, 300, antialias=False),
    T.RandomRotation(15, expand=True, center=(3, 4)),
    T.RandomAffine((-5, 10), (0.1, 0.2), (0.5, 2), (1, 2, 3, 4), "bilinear", 9),
    T.RandomTranslate((0.1, 0.2)),
    T.RandomPerspective(0.25, 1, "nearest"),
    T.ElasticTransform((20, 30), 4),
    T.Identity(),
    T.ColorJitter(0.4, (0.5, 1.25), hue=0.1),
    T.RandomPhotometricDistort(p=0.25),
    T.Grayscale(),
    T.RandomGrayscale(),
    T.RandomChannelPermutation(),
    T.RandomInvert(),
    T.RandomPosterize(3),
    T.RandomSolarize(128),
    T.RandomAutocontrast(),
    T.RandomEqualize(),
    T.RandomAdjustSharpness(2),
    T.GaussianBlur((5, 3)),
    T.GaussianNoise(sigma=0.25),
    T.JPEG((10, 20)),
    T.AutoAugment("svhn", "bilinear", 99),
    T.RandAugment(3, fill=(1, 2, 3)),
    T.TrivialAugmentWide(),
    T.AugMix(all_ops=False),
    T.ThreeAugment(),
    T.Cutout(16),
    T.RandomErasing(value=(1, 2, 3)),
    T.RandomErasing(value="random"),
    T.RandomApply([T.Grayscale(), T.RandomInvert()], 0.25),
    T.RandomChoice([T.Compose([T.Grayscale(), T.RandomInvert()]), T.RandomApply([T.Grayscale()])], [1, 2.5]),
    T.RandomOrder([T.Grayscale(), T.RandomInvert()]),
    T.ToDtype("float16", scale=True),
    T.Normalize([0.5], [0.25]),
    T.MixUp(),
    T.CutMix(num_classes=10),
    T.ClampBoundingBoxes(),
    T.ConvertBoundingBoxFormat("XYWH"),
    T.SanitizeBoundingBoxes(),
    T.MultiView([[T.RandomResizedCrop(32), T.RandomHorizontalFlip()], T.Resize(8)]),
    T.MultiCrop(),
)


def test_every_transform_can_be_written_in_a_recipe():
    config = T.to_config(EACH)
    concrete = {name for name in T.__all__ if isinstance(getattr(T, name), type)} - {"Transform", "Container", "Lambda"}
    assert {name for entry in config for name in entry} | {"Compose"} == concrete == set(REGISTRY)
    assert config[0] == {"Resize": {"size": 256, "interpolation": "bilinear", "max_size": None, "antialias": True}}
    assert T.from_config(json.loads(json.dumps(config))) == EACH
    assert T.from_config(yaml.safe_load(yaml.safe_dump(config))) == EACH


def test_containers_hold_lists_of_entries():
    text = """
    - Compose: {transforms: [Grayscale]}
    - RandomChoice:
        transforms:
          - RandomInvert
          - Compose:
              transforms: [Grayscale, {RandomApply: {transforms: [{RandomSolarize: {threshold: 9}}], p: 0.25}}]
        p: [1, 3]
    """
    chain = (
        T.Grayscale(),
        T.RandomChoice([T.RandomInvert(), [T.Grayscale(), T.RandomApply([T.RandomSolarize(9)], 0.25)]], [1, 3]),
    )
    assert T.from_config(yaml.safe_load(text)) == chain
    assert T.from_config(T.to_config(chain)) == chain


def test_short_forms():
    text = """
    - RandomResizedCrop: {size: 224}
    - RandomHorizontalFlip
    - ToDtype:
    """
    assert T.from_config(yaml.safe_load(text)) == (T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToDtype())


def test_compose_is_written_as_its_parts():
    chain = T.Compose([T.Resize(8), T.CenterCrop(8)])
    assert T.to_config(chain) == T.to_config([T.Resize(8), T.CenterCrop(8)]) == T.to_config([chain])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([{"RandomResizeCrop": {"size": 1}}], ["transforms[0]", "'RandomResizeCrop'", "'RandomResizedCrop'"]),
        ([{"CenterCrop": {"size": 1}}, "randomhorizontalflip"], ["transforms[1]", "'RandomHorizontalFlip'"]),
        ([{"qwertz": {}}], ["qwertz", "(valid: AugMix, AutoAugment, CenterCrop, "]),
        ([{"Resize": {"szie": 3}}], ["transforms[0].Resize.szie", "'size'", "max_size"]),
        ([{"Resize": {"size": 0}}], ["transforms[0].Resize: size must be", "got 0"]),
        ([{"CenterCrop": {}}], ["transforms[0].CenterCrop", "'size' must be given"]),
        (["Normalize"], ["transforms[0].Normalize", "'mean' and 'std' must be given"]),
        ([{"CenterCrop": 224}], ["transforms[0].CenterCrop", "mapping", "224"]),
        ([{"CenterCrop": {"size": 3}, "Resize": {"size": 3}}], ["transforms[0]", "one {name: arguments}"]),
        ([3], ["transforms[0]", "got 3"]),
        (
            [{"RandomApply": {"transforms": [{"Resize": {"szie": 3}}]}}],
            ["transforms[0].RandomApply.transforms[0].Resize.szie"],
        ),
        ([{"RandomApply": {"transforms": "Resize"}}], ["transforms[0].RandomApply.transforms: expected a list"]),
        ([{"RandomApply": {"transforms": []}}], ["transforms[0].RandomApply: pass at least one transform"]),
        ([{"RandomApply": {"p": 1}}], ["transforms[0].RandomApply: 'transforms' must be given"]),
        ([{3: {}}], ["transforms[0]", "3"]),
        ({"Resize": {"size": 3}}, ["list"]),
        ("Resize", ["list"]),
        (None, ["list"]),
    ],
)
def test_errors_say_where_and_what_is_nearest(config, words):
    with pytest.raises(ConfigError) as caught:
        T.from_config(config)
    for word in words:
        assert word in str(caught.value)
