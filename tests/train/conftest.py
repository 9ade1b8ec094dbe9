"""Fixtures of the training tests: images on disk, and one thread for torch."""

from pathlib import Path

import pytest
import torch

from tests.train.small import TRAIN_IMAGES, VAL_IMAGES, write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """train/ with 60 and val/ with 37 JPEGs of three classes."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "train", TRAIN_IMAGES, 0)
    write_images(folder / "val", VAL_IMAGES, 1)
    return folder


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Small networks on shared machines: threads only wait for each other, and sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
