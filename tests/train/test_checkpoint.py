"""Checkpoints survive a crash at any moment, and hold no pickle."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from fastload.errors import ConfigError, DataError
from fastload.train import checkpoint
from fastload.train.checkpoint import Checkpoint
from fastload.train.model import create_model
from fastload.train.optimizer import create_optimizer
from fastload.train.state import check_same_run


def some(number):
    return Checkpoint(weights={"w": torch.full((2, 2), float(number))}, state={"number": number}, recipe="r: 1\n")


class Crash(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches a power cut."""


class Budget:
    """Lets so many calls pass, of all functions together, and crashes before the next one."""

    def __init__(self, calls):
        self.left = calls

    def limit(self, original):
        def call(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise Crash
            return original(*args, **kwargs)

        return call


def test_a_crash_between_any_two_operations_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    """Every call that changes the disk is, in turn, the one before which the process dies."""
    changing = [
        (os, "fsync"),
        (Path, "mkdir"),
        (Path, "rename"),
        (shutil, "rmtree"),
        (checkpoint, "_write"),
    ]
    finished, crash_at = False, 0
    while not finished:
        folder = tmp_path / f"run{crash_at}" / "last"
        checkpoint.save(folder, some(1))
        with monkeypatch.context() as patch:
            budget = Budget(crash_at)
            for owner, name in changing:
                patch.setattr(owner, name, budget.limit(getattr(owner, name)))
            try:
                checkpoint.save(folder, some(2))
                finished = True
            except Crash:
                pass
        assert checkpoint.exists(folder)
        found = checkpoint.load(folder)
        assert found.state["number"] in (1, 2)
        assert torch.equal(found.weights["w"], torch.full((2, 2), float(found.state["number"])))
        checkpoint.save(folder, some(3))
        assert checkpoint.load(folder).state["number"] == 3
        assert sorted(path.name for path in folder.parent.iterdir()) == ["last"]
        crash_at += 1
    assert crash_at > 10


def test_files_are_safetensors_and_json(tmp_path):
    checkpoint.save(tmp_path / "best", some(1))
    names = sorted(path.name for path in (tmp_path / "best").iterdir())
    assert names == ["model.safetensors", "recipe.yaml", "state.json", "state.safetensors"]
    json.loads((tmp_path / "best" / "state.json").read_text())


def test_damage_is_one_error(tmp_path):
    folder = tmp_path / "last"
    with pytest.raises(DataError, match="no checkpoint here"):
        checkpoint.load(folder)
    checkpoint.save(folder, some(1))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-3])
    with pytest.raises(DataError, match="cannot be read"):
        checkpoint.load(folder)
    (folder / "model.safetensors").write_bytes(whole)
    for content in ("{", "[]", '{"version": 99}'):
        (folder / "state.json").write_text(content)
        with pytest.raises(DataError):
            checkpoint.load(folder)


@pytest.mark.parametrize(("name", "args"), [("SGD", {"momentum": 0.9}), ("AdamW", {}), ("RMSprop", {"centered": True})])
def test_an_optimiser_goes_on_bit_for_bit(name, args):
    def step(model, optimizer, seed):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()

    def make():
        torch.manual_seed(0)
        model = create_model("resnet_tiny", num_classes=3, args={"width": 8, "blocks": [1, 1], "norm": "group"})
        groups = [{"params": list(model.parameters()), "weight_decay": 1e-4}]
        return model, create_optimizer(name, groups, lr=0.01, args=args)

    model, optimizer = make()
    step(model, optimizer, 1)
    tensors = {}
    # Through JSON, as on the disk.
    state = json.loads(json.dumps(checkpoint.flatten(optimizer.state_dict(), tensors, "optimizer")))
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    step(model, optimizer, 2)

    other, other_optimizer = make()
    checkpoint.load_weights(other, weights, "x")
    checkpoint.load_optimizer(other_optimizer, state, tensors)
    for parameter, entries in other_optimizer.state.items():
        for value in entries.values():
            if value.shape == parameter.shape:
                assert value.stride() == parameter.stride()
    step(other, other_optimizer, 2)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_of_another_network_are_refused():
    with pytest.raises(DataError, match="do not fit"):
        checkpoint.load_weights(nn.Linear(2, 2), {"weight": torch.zeros(3, 2)}, "x")


def test_recipes_that_differ_in_what_matters_are_refused():
    ours = "train: {epochs: 3, batch_size: 4}\ndata: {num_workers: 1, train: a}\nreport: {directory: x}\n"
    free = "train: {epochs: 3, batch_size: 8}\ndata: {num_workers: 2, train: b}\nreport: {directory: y, new: 1}\n"
    check_same_run(ours, free, saved={"global_batch": 8}, current={"global_batch": 8})
    with pytest.raises(ConfigError, match=r"optimizer was None and is 3; train\.epochs was 3 and is 5"):
        check_same_run(ours, ours.replace("epochs: 3", "epochs: 5") + "optimizer: 3\n", saved={}, current={})
    with pytest.raises(ConfigError, match="global_batch was 8 and is 9"):
        check_same_run(ours, ours, saved={"global_batch": 8}, current={"global_batch": 9})
