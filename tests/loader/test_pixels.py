"""Pixels against torchvision and Pillow on real photographs, and the same samples from a folder and from its shards."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import fastload as fl
from fastload import transforms as T


def test_evaluation_is_within_a_grey_level_of_torchvision(imagenet_sample):
    loader = fl.Loader(
        imagenet_sample, batch_size=32, transforms=[T.Resize(256), T.CenterCrop(224)], shuffle=False, num_workers=2
    )
    reference = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    compared = 0
    for batch in itertools.islice(loader, 2):
        for number, label, image in zip(batch.ids.tolist(), batch.labels.tolist(), batch.images, strict=True):
            with Image.open(loader.dataset.location(number)) as file:
                expected = reference(file.convert("RGB"))
            difference = (image.int() - expected.int()).abs()
            assert int(difference.max()) <= 1, loader.dataset.key(number)
            assert loader.classes[label] == loader.dataset.key(number).split("/")[0]
            compared += 1
    assert compared == 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normalised_values_are_those_of_torchvision(photos, evaluate, dtype):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    loader = fl.Loader(photos, batch_size=16, transforms=evaluate, shuffle=False, num_workers=2)
    chain = [*evaluate, T.ToDtype(torch.float32, scale=True), T.Normalize(mean, std), T.ToDtype(dtype)]
    normalised = fl.Loader(photos, batch_size=16, transforms=chain, shuffle=False, num_workers=2)
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    for plain, batch in zip(loader, normalised, strict=True):
        assert batch.images.dtype == dtype
        torch.testing.assert_close(
            batch.images.float(), reference(plain.images), rtol=2 * torch.finfo(dtype).eps, atol=2e-6
        )


def test_a_folder_and_its_shards_deliver_the_same_images(photos, tmp_path, evaluate):
    """Numbers of samples follow the order in which they are stored, so that order and crops of a shuffled epoch may
    differ between the two; what belongs to a name does not."""
    fl.convert(photos, tmp_path / "shards")

    def by_content(source):
        loader = fl.Loader(source, batch_size=16, transforms=evaluate, num_workers=2)
        return sorted(
            (loader.classes[label], image.numpy().tobytes())
            for batch in loader
            for label, image in zip(batch.labels.tolist(), batch.images, strict=True)
        )

    assert by_content(photos) == by_content(tmp_path / "shards")


def test_shards_resume_and_shuffle_locally(photos, tmp_path, train):
    fl.convert(photos, tmp_path / "shards")
    for shuffle in (True, "local"):
        first, second = (
            fl.Loader(tmp_path / "shards", batch_size=8, transforms=train, shuffle=shuffle, num_workers=2)
            for _ in range(2)
        )
        reference = [(batch.ids.tolist(), batch.images.clone()) for batch in first]
        assert sorted(np.concatenate([ids for ids, _ in reference])) == list(range(50))
        first.set_epoch(0)
        list(itertools.islice(first, 3))
        second.load_state_dict(first.state_dict())
        rest = list(second)
        assert len(rest) == 4
        for (ids, images), batch in zip(reference[3:], rest, strict=True):
            assert ids == batch.ids.tolist()
            assert torch.equal(images, batch.images)
