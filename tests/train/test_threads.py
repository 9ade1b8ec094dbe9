"""Torch's threads while the processor trains."""

import pytest
import torch

from fastload.train.threads import training_threads


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
class TestTrainingThreads:
    def test_half_is_left_to_the_loader(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        with training_threads(torch.device("cpu"), None):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 4

    def test_the_environment_has_the_word(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        with training_threads(torch.device("cpu"), None):
            assert torch.get_num_threads() == 4

    def test_the_recipe_has_the_last_word(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        with training_threads(torch.device("cpu"), 3):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 4

    def test_a_gpu_changes_nothing(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        with training_threads(torch.device("cuda"), None):
            assert torch.get_num_threads() == 4
