"""The checks that stand before a number of an augmented pipeline counts: they must find what is wrong."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.harness import augmented
from benchmarks.harness.boxes import fault_of_boxes, fault_of_targets
from benchmarks.harness.pipelines import PIPELINES

SOURCE = (np.array([[10, 20, 60, 100], [0, 0, 200, 100]], np.float32), np.array([3, 7]), (200, 100))
MIRRORED = np.array([[210, 60, 285, 300], [0, 0, 300, 300]], np.float32)


def test_boxes_of_the_mirrored_image_are_right():
    assert fault_of_boxes([(MIRRORED, np.array([3, 7]))], [SOURCE], 300) is None
    assert fault_of_boxes([(MIRRORED[::-1], np.array([6, 2]))], [SOURCE], 300) is None  # classes counted from 0


@pytest.mark.parametrize(
    ("boxes", "classes", "words"),
    [
        (MIRRORED[:1], [3], "1 boxes"),
        (MIRRORED + np.array([[1, 0, 0, 0], [0, 0, 0, 0]]), [3, 7], "none of the photograph's"),
        (np.array([[15, 60, 90, 300], [0, 0, 300, 300]]), [3, 7], "none of the photograph's"),
        (MIRRORED, [7, 3], "class"),
        (MIRRORED, [3, 6], "class"),
    ],
)
def test_other_boxes_are_not(boxes, classes, words):
    assert words in fault_of_boxes([(boxes, np.array(classes))], [SOURCE], 300)


def test_the_form_of_boxes():
    good = (MIRRORED, np.array([3, 7]))
    assert fault_of_targets([good, (np.zeros((0, 4)), np.zeros(0))], 2, 300) is None
    assert "2 images" not in fault_of_targets([good], 2, 300)
    assert "leave the image" in fault_of_targets([good], 1, 299)
    assert "none" in fault_of_targets([(MIRRORED[:, [2, 1, 0, 3]], np.array([3, 7]))], 1, 300)
    assert "shape" in fault_of_targets([(MIRRORED, np.array([3]))], 1, 300)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twenty smooth pictures, and torchvision's own deliveries of them."""
    root = tmp_path_factory.mktemp("cache") / "corpus"
    root.mkdir()
    random = np.random.default_rng(0)
    for number in range(20):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC).save(root / f"{number}.jpg", quality=95)
    return SimpleNamespace(
        root=root, digest="test", photographs=20, photograph=lambda label, form: root / f"{label}.jpg"
    )


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A tenth of the deliveries, which is enough for differences as large as these."""
    monkeypatch.setattr(augmented, "_REFERENCE", 240)


def statistics(corpus, augment, seed):
    pipeline = replace(PIPELINES["jitter224-fp16"], name=f"test-{augment}", augment=augment, size=56)
    return augmented.reference_statistics(corpus, pipeline, seed)


@pytest.mark.parametrize("augment", [pytest.param("jitter", marks=pytest.mark.slow), "trivial"])
def test_torchvision_is_like_itself_and_not_like_the_crop_alone(corpus, augment):
    expected = statistics(corpus, augment, 0)
    allowed = dict.fromkeys(expected, 2.5)  # for so few deliveries of images without detail
    assert augmented.fault(statistics(corpus, augment, 1), expected, allowed) is None
    fault = augmented.fault(statistics(corpus, "", 1), expected, allowed)
    assert "level spreads" in fault
    assert ("erased" in fault) == (augment == "trivial")


def test_two_views_are_two_deliveries(corpus):
    pipeline = replace(PIPELINES["simclr224-fp16"], size=56)
    image = torch.zeros(2, 3, 56, 56)
    found = augmented.statistics([((image, image + 1), torch.arange(2))], pipeline)
    one = augmented.statistics([(image, torch.arange(2)), (image + 1, torch.arange(2))], pipeline)
    assert found == one
    assert found["level"][1] > 30
