"""Operations on pixels through the Loader, on photographs, against torchvision's functions with the drawn numbers."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import fastload as fl
from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.program import Code
from tests.augment.executor import execute, operations

CROP = [T.RandomResizedCrop(96), T.RandomHorizontalFlip()]
FLOATS = [T.ToDtype(scale=True), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
IMAGES, SEED = 64, 11


def read(folder, chain, **options):
    """Images of the first samples, by their number, and all that was drawn for them."""
    loader = fl.Loader(folder, batch_size=16, transforms=chain, shuffle=False, seed=SEED, num_workers=2, **options)
    with loader:
        images: dict[int, torch.Tensor] = {}
        for batch in itertools.islice(loader, IMAGES // 16):
            images |= dict(zip(batch.ids.tolist(), batch.images.clone(), strict=True))
        ids = np.array(list(images))
        draws = compile_plan(chain).draw(seed=SEED, epoch=0, ids=ids, sizes=loader.dataset.sizes(ids))
    return images, draws


@pytest.fixture(scope="module")
def plain(imagenet_sample):
    return read(imagenet_sample, CROP)[0]


# A rounding that torchvision does in float32 may go the other way: which of two pixels is the nearer one, which level
# a bilinear mean is; a Solarize or an Equalize behind it makes more of that. AugMix's shears are thirtieths of a pixel
# per row, so that whole rows lie half way between two pixels. ThreeAugment's jitter makes up to four levels of the one
# by which a blur may differ.
@pytest.mark.parametrize(
    ("chain", "tolerance", "share"),  # levels, and what part of the values may be further off
    [
        ([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0, 0.0),
        ([T.RandomPhotometricDistort()], 0, 0.0),
        ([T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8), T.RandomGrayscale(0.2), T.GaussianBlur(9)], 1, 0.0),
        ([T.AutoAugment()], 0, 1e-4),
        ([T.AutoAugment("cifar10", fill=(124, 116, 104))], 0, 1e-4),
        ([T.AutoAugment("svhn", "bilinear")], 1, 1e-3),
        ([T.RandAugment()], 0, 1e-4),
        ([T.TrivialAugmentWide()], 0, 2e-4),
        ([T.TrivialAugmentWide(interpolation="bilinear", fill=128)], 1, 0.0),
        ([T.TrivialAugmentWide(interpolation="bilinear")], 1, 0.0),
        ([T.AugMix()], 2, 1e-5),
        ([T.AugMix(5, 4, 2, 0.5, interpolation="nearest")], 1, 5e-3),
        ([T.ThreeAugment()], 1, 2e-3),
        ([T.RandomErasing(0.8, value=(10, 200, 30)), T.Cutout(20, 7)], 0, 0.0),
        ([T.RandomOrder([T.RandomChoice([T.RandomEqualize(), T.RandomAutocontrast()]), T.RandomSolarize(77)])], 0, 0.0),
    ],
)
def test_images_are_those_of_torchvision(imagenet_sample, plain, chain, tolerance, share):
    images, draws = read(imagenet_sample, [*CROP, *chain])
    changed = off = 0
    for row, (number, image) in enumerate(images.items()):
        expected = execute(plain[number], operations(draws.after, row))
        changed += not torch.equal(image, plain[number])
        off += int(((expected.int() - image.int()).abs() > tolerance).sum())
    assert changed > IMAGES // 4
    assert off <= share * IMAGES * 96 * 96 * 3


def test_operations_before_the_crop_are_done_on_the_source(imagenet_sample):
    chain = [T.RandomInvert(1.0), T.RandomPosterize(3, 0.5), T.RandomEqualize(0.5), *CROP]
    images, draws = read(imagenet_sample, chain)
    loader = fl.Loader(imagenet_sample, batch_size=1, transforms=CROP, shuffle=False)
    for row, (number, image) in itertools.islice(enumerate(images.items()), 24):
        source = torch.from_numpy(np.array(open_image(loader.dataset.location(number)))).permute(2, 0, 1)
        source = execute(source, operations(draws.before, row))
        top, left, height, width = map(int, draws.box[row])
        expected = v2.functional.resize(source[:, top : top + height, left : left + width], [96, 96], antialias=True)
        expected = expected.flip(-1) if draws.flip[row] else expected
        assert int((image.int() - expected.int()).abs().max()) <= 2


def open_image(path):
    with Image.open(path) as file:
        return file.convert("RGB")


def test_erasing_after_normalize_leaves_stored_values(imagenet_sample, plain):
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(FLOATS[1].mean, FLOATS[1].std)])
    for value in (0.0, (0.5, -1.0, 2.0), "random"):
        images, draws = read(imagenet_sample, [*CROP, *FLOATS, T.RandomErasing(1.0, ratio=(1, 1), value=value)])
        noise = []
        for row, (number, image) in enumerate(images.items()):
            ((code, values),) = operations(draws.after, row)
            assert code == (Code.ERASE_NOISE if value == "random" else Code.ERASE_STORED)
            top, left, height, width = map(int, values[:4])
            expected = reference(plain[number])
            inside = (slice(None), slice(top, top + height), slice(left, left + width))
            if value == "random":
                noise.append(image[inside].flatten())
                expected[inside] = image[inside]
            else:
                expected[inside] = torch.tensor(value).reshape(-1, 1, 1)
            torch.testing.assert_close(image, expected, rtol=3e-7, atol=2e-6)
        if noise:
            together = torch.cat(noise)
            assert abs(float(together.mean())) < 5 / len(together) ** 0.5
            assert abs(float(together.std()) - 1) < 5 / len(together) ** 0.5
            assert len(noise[0].unique()) > 0.99 * len(noise[0])


def test_equal_seeds_give_equal_images_whatever_the_threads_and_batches(imagenet_sample):
    chain = [*CROP, T.RandAugment(), T.AugMix(), T.GaussianNoise(), *FLOATS, T.RandomErasing(0.5, value="random")]
    results = []
    for workers, size in ((1, 16), (2, 16), (2, 9)):
        loader = fl.Loader(
            imagenet_sample, batch_size=size, transforms=chain, shuffle=False, seed=SEED, num_workers=workers
        )
        with loader:
            batches = [batch.images.clone() for batch in itertools.islice(loader, 36 // size + 1)]
        results.append(torch.cat(batches)[:32])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
