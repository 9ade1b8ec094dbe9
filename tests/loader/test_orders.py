"""Flips and crops around operations on pixels, on photographs: as torchvision does one step after the other."""

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import fastload as fl
from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.errors import ConfigError
from tests.augment.executor import execute, operations
from tests.loader.test_augmentations import SEED, open_image, read

IMAGES = 24


def flips(p):
    return [T.RandomHorizontalFlip(p), T.RandomVerticalFlip(p)]


def sources(folder):
    """The first photographs, uint8 (3, height, width)."""
    dataset = fl.open_dataset(folder)
    for number in range(IMAGES):
        with open_image(dataset.location(number)) as image:
            yield torch.from_numpy(np.array(image)).permute(2, 0, 1)


# Levels, and what part of the values may be further off: of two pixels as near the other one may be taken, and resizing
# makes several of one.
@pytest.mark.parametrize(
    ("steps", "tolerance", "share"),
    [
        ([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 2, 0.0),
        ([T.RandomGrayscale(0.5), T.RandomSolarize(128, 0.5), T.RandomEqualize(0.5)], 2, 0.0),
        ([T.GaussianBlur((5, 9)), T.RandomAdjustSharpness(2.0, 0.5)], 3, 0.0),
        ([T.Cutout(60, 9), T.RandomErasing(1.0, value=(1, 200, 30))], 2, 0.0),
        ([T.TrivialAugmentWide(fill=(10, 20, 200))], 2, 1e-3),
        ([T.RandAugment(interpolation="bilinear")], 2, 1e-3),
        ([T.AugMix()], 3, 1e-3),
    ],
)
def test_operations_between_a_flip_and_a_random_resized_crop(imagenet_sample, steps, tolerance, share):
    mirrored, _ = read(imagenet_sample, [*flips(1.0), *steps, T.RandomResizedCrop(96)])
    # The same numbers, but for what the flips make of them.
    plan = compile_plan([*flips(0.0), *steps, T.RandomResizedCrop(96)])
    sizes = fl.open_dataset(imagenet_sample).sizes(np.arange(IMAGES))
    draws = plan.draw(seed=SEED, epoch=0, ids=np.arange(IMAGES), sizes=sizes)
    off = 0
    for row, source in enumerate(sources(imagenet_sample)):
        image = execute(source.flip(-1, -2), operations(draws.before, row))
        top, left, height, width = map(int, draws.box[row])
        expected = v2.functional.resize(image[:, top : top + height, left : left + width], [96, 96], antialias=True)
        off += int(((expected.int() - mirrored[row].int()).abs() > tolerance).sum())
    assert off <= share * IMAGES * 96 * 96 * 3


def test_a_random_flip_before_colours_and_a_crop(imagenet_sample):
    chain = [
        T.RandomHorizontalFlip(),
        T.ColorJitter(0.4, 0.4, 0.4, 0.1),
        T.RandomResizedCrop(96),
        T.RandomVerticalFlip(),
    ]
    images, draws = read(imagenet_sample, chain)
    assert 0 < draws.flip[:IMAGES].sum() < IMAGES
    for row, source in enumerate(sources(imagenet_sample)):
        image = execute(source, operations(draws.before, row))
        top, left, height, width = map(int, draws.box[row])
        expected = v2.functional.resize(image[:, top : top + height, left : left + width], [96, 96], antialias=True)
        expected = expected.flip(-1) if draws.flip[row] else expected
        expected = expected.flip(-2) if draws.flip_vertical[row] else expected
        assert int((images[row].int() - expected.int()).abs().max()) <= 2


@pytest.mark.parametrize(
    ("steps", "tolerance", "share"),
    [
        ([T.TrivialAugmentWide()], 0, 2e-4),
        ([T.AutoAugment("svhn", "bilinear")], 1, 1e-3),
        ([T.AugMix()], 2, 1e-4),
        ([T.Cutout(20, 7), T.RandomErasing(1.0, value=(10, 200, 30))], 0, 0.0),
    ],
)
def test_flips_behind_what_knows_left_from_right(imagenet_sample, steps, tolerance, share):
    crop = T.RandomResizedCrop(96)
    plain, _ = read(imagenet_sample, [crop])
    mirrored, _ = read(imagenet_sample, [crop, *steps, *flips(1.0)])
    _, draws = read(imagenet_sample, [crop, *steps, *flips(0.0)])
    off = 0
    for row, (number, image) in enumerate(mirrored.items()):
        expected = execute(plain[number], operations(draws.after, row)).flip(-1, -2)
        off += int(((expected.int() - image.int()).abs() > tolerance).sum())
    assert off <= share * len(mirrored) * 96 * 96 * 3


def test_flips_behind_values_that_were_erased(imagenet_sample):
    chain = [T.RandomResizedCrop(96), T.ToDtype(scale=True), T.Normalize([0.5], [0.5]), T.RandomErasing(1.0, value=7.0)]
    plain, _ = read(imagenet_sample, [*chain, *flips(0.0)])
    mirrored, _ = read(imagenet_sample, [*chain, *flips(1.0)])
    assert all((image == 7.0).any() for image in plain.values())
    assert all(torch.equal(mirrored[number], image.flip(-1, -2)) for number, image in plain.items())


@pytest.mark.parametrize("crop", [T.RandomCrop((80, 72)), T.CenterCrop((80, 72))])
@pytest.mark.parametrize(
    ("steps", "tolerance"),
    [
        ([T.ColorJitter(0.4, None, 0.4, 0.1), T.RandomPosterize(3)], 0),
        ([T.RandomSolarize(100), T.RandomHorizontalFlip(), T.RandomChannelPermutation()], 0),
        ([T.RandomRotation(30, "bilinear"), T.RandomGrayscale(0.5), T.RandomInvert()], 1),
    ],
)
def test_crops_behind_what_works_on_each_pixel(imagenet_sample, steps, tolerance, crop):
    """Those are compared with torchvision's in other tests: here the crop is a part of the image without the crop.

    Of a map that is composed with the crop a rounding may go the other way.
    """
    before = [T.RandomResizedCrop(96), T.RandomVerticalFlip(), *steps]
    whole, _ = read(imagenet_sample, before)
    parts, _ = read(imagenet_sample, [*before, crop])
    places = set()
    for number, part in itertools.islice(parts.items(), IMAGES):
        candidates = [(8, 12)] if isinstance(crop, T.CenterCrop) else itertools.product(range(17), range(25))
        image = whole[number].int()
        found = [
            (y, x)
            for y, x in candidates
            if int((image[:, y : y + 80, x : x + 72] - part.int()).abs().max()) <= tolerance
        ]
        assert found
        places.update(found[:1])
    assert len(places) == 1 if isinstance(crop, T.CenterCrop) else len(places) > IMAGES // 2


SQUARE = T.RandomResizedCrop(96)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([SQUARE, T.ColorJitter(0.4), T.CenterCrop(80)], None),
        ([SQUARE, T.ColorJitter(0.4, 0.4), T.CenterCrop(80)], "works on the whole image"),
        ([SQUARE, T.RandomAutocontrast(), T.RandomCrop(80)], "works on the whole image"),
        ([SQUARE, T.RandomApply([T.RandomEqualize()]), T.RandomCrop(80)], "RandomEqualize(p=0.5)"),
        ([SQUARE, T.GaussianBlur(5), T.CenterCrop(80)], "put CenterCrop before it"),
        ([SQUARE, T.ColorJitter(0.4), T.RandomRotation(9), T.CenterCrop(80)], "cannot follow RandomRotation"),
        ([SQUARE, T.ColorJitter(0.4), T.CenterCrop(97)], "pixels are sampled before they are worked on"),
        ([SQUARE, T.ColorJitter(0.4), T.RandomCrop(80, pad_if_needed=True)], "pixels are sampled before"),
        ([SQUARE, T.ColorJitter(0.4), T.Resize((80, 80))], "put Resize before it"),
        ([T.RandomHorizontalFlip(), T.ColorJitter(0.4, 0.4), T.CenterCrop(80)], None),
        ([T.RandomHorizontalFlip(), T.RandAugment(), T.Resize(80), T.CenterCrop(80)], None),
        ([T.RandomHorizontalFlip(), T.JPEG(50), SQUARE], "put RandomResizedCrop before it"),
        ([T.JPEG(50), T.RandomHorizontalFlip(), SQUARE], None),
        ([SQUARE, T.JPEG(50), T.RandomHorizontalFlip()], "the mirror image would be worked on"),
    ],
)
def test_orders_that_are_carried_out_and_those_that_are_not(chain, words):
    if words is None:
        compile_plan(chain)
        return
    with pytest.raises(ConfigError) as caught:
        compile_plan(chain)
    assert words in str(caught.value)
