"""The Loader where Lightning, Accelerate or torch.distributed lead: nothing skipped, doubled or lost on a resume."""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

import fastload as fl
from fastload import transforms as T
from fastload.errors import ConfigError

# Both packages warn about themselves (deprecated pytree calls, few workers); what we warn about is tested elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore")

BATCHES = 7  # 50 images in batches of 8


def make(photos, **options):
    transforms = [T.RandomResizedCrop(16), T.ToDtype(torch.float32, scale=True)]
    return fl.Loader(photos, **{"batch_size": 8, "transforms": transforms, "seed": 3, "num_workers": 1, **options})


def plain_loop(photos, epochs):
    """(epoch, ids, images) of each batch, read without any framework."""
    loader = make(photos)
    return [(epoch, batch.ids.tolist(), batch.images) for epoch in range(epochs) for batch in loader]


def assert_same(batches, reference):
    assert [batch[:2] for batch in batches] == [batch[:2] for batch in reference]
    for batch, expected in zip(batches, reference, strict=True):
        assert torch.equal(batch[2], expected[2])


def run_ranks(command, *arguments):
    """The lines of JSON that the processes of one distributed run print; WORLD_SIZE and the like are theirs to set."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("RANK", "WORLD_SIZE"))}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env={**kept, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Stopped(Exception):
    """Ends a run as a crash would, in mid-epoch."""


def lightning_run(photos, folder, *, stop_at=None, resume=None):
    """Trains two epochs with Lightning; what training_step saw, and the module."""
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
            self.seen = []
            self.validated = []
            self.moved = []

        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
            self.moved.append(type(batch))
            return batch

        def training_step(self, batch, batch_idx):
            self.seen.append((self.current_epoch, batch.ids.tolist(), batch.images))
            assert self.trainer.train_dataloader.epoch == self.current_epoch
            images, labels = batch
            return torch.nn.functional.cross_entropy(self.net(images), labels)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            if self.global_step == stop_at:
                self.trainer.save_checkpoint(folder / "middle.ckpt")
                raise Stopped

        def validation_step(self, batch, batch_idx):
            self.validated += batch.ids.tolist()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        enable_checkpointing=False,
        num_sanity_val_steps=2,
        default_root_dir=folder,
        **quiet,
    )
    module = Module()
    loaders = make(photos), make(photos, shuffle=False)
    if stop_at is None:
        trainer.fit(module, *loaders, ckpt_path=resume)
    else:
        with pytest.raises(Stopped):
            trainer.fit(module, *loaders)
    return module


def test_lightning_sees_the_epochs_of_a_plain_loop(photos, tmp_path):
    module = lightning_run(photos, tmp_path)
    assert_same(module.seen, plain_loop(photos, 2))
    # 16 come from the sanity check, and each epoch is validated whole and in order.
    assert module.validated == [*range(16), *range(50), *range(50)]
    assert set(module.moved) == {fl.Batch}


def test_a_checkpoint_of_lightning_in_mid_epoch_goes_on_where_it_was_written(photos, tmp_path):
    stop = BATCHES + 3
    before = lightning_run(photos, tmp_path, stop_at=stop).seen
    after = lightning_run(photos, tmp_path, resume=tmp_path / "middle.ckpt").seen
    assert len(before) == stop
    assert_same(before + after, plain_loop(photos, 2))


LIGHTNING_DDP = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import torch, lightning
import fastload as fl
from fastload import transforms as T

seen = []

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
    def train_dataloader(self):
        transforms = [T.RandomResizedCrop(16), T.ToDtype(torch.float32, scale=True)]
        return fl.Loader(sys.argv[1], batch_size=4, transforms=transforms, seed=3, num_workers=1)
    def training_step(self, batch, batch_idx):
        seen.append(batch.ids.tolist())
        return torch.nn.functional.cross_entropy(self.net(batch.images), batch.labels)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

trainer = lightning.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
    enable_model_summary=False, enable_checkpointing=False, default_root_dir=sys.argv[2],
)
trainer.fit(Module())
os.write(1, (json.dumps({"rank": trainer.global_rank, "seen": seen}) + "\\n").encode())  # in one piece
"""


@pytest.mark.slow
def test_two_processes_of_lightning_share_each_batch(photos, tmp_path):
    """Lightning's launcher sets WORLD_SIZE but not RANK: both ranks were rank 0 once and read the same half."""
    pytest.importorskip("lightning")
    script = tmp_path / "ddp.py"
    script.write_text(LIGHTNING_DDP)
    assert_ranks_share(photos, run_ranks([sys.executable, script], photos, tmp_path))


def assert_ranks_share(photos, results):
    """Both ranks together saw the batches of a plain loop, the first half of each on rank 0."""
    first, second = (result["seen"] for result in sorted(results, key=lambda result: result["rank"]))
    together = [one + other for one, other in zip(first, second, strict=True)]
    assert together == [ids for _, ids, _ in plain_loop(photos, 2)]


ACCELERATE = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import torch
from accelerate import Accelerator
import fastload as fl
from fastload import transforms as T

accelerator = Accelerator(cpu=True)
transforms = [T.RandomResizedCrop(16), T.ToDtype(torch.float32, scale=True)]
loader = fl.Loader(sys.argv[1], batch_size=8 // accelerator.num_processes, transforms=transforms, seed=3, num_workers=1)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
prepared, model, optimizer = accelerator.prepare(loader, model, torch.optim.SGD(model.parameters(), 0.1))
assert prepared is loader
accelerator.register_for_checkpointing(loader)
seen = []
for epoch in range(2):
    for step, (images, labels) in enumerate(prepared):
        accelerator.backward(torch.nn.functional.cross_entropy(model(images), labels))
        optimizer.step()
        optimizer.zero_grad()
        if (epoch, step) == (1, 2):
            accelerator.save_state(sys.argv[2])
loader.set_epoch(0)
seen = [batch.ids.tolist() for _ in range(2) for batch in loader]
accelerator.wait_for_everyone()
accelerator.load_state(sys.argv[2])
rest = [batch.ids.tolist() for batch in prepared]
os.write(1, (json.dumps({"rank": accelerator.process_index, "seen": seen, "rest": rest}) + "\\n").encode())
accelerator.end_training()
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_of_accelerate_share_each_batch_and_resume(photos, tmp_path, processes):
    pytest.importorskip("accelerate")
    script = tmp_path / "train.py"
    script.write_text(ACCELERATE)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    results = run_ranks([*launch, script], photos, tmp_path / "state")
    assert len(results) == processes
    for result in results:
        assert result["rest"] == result["seen"][BATCHES + 3 :]
    if processes == 2:
        assert_ranks_share(photos, results)


def test_accelerate_moves_a_batch_with_its_own_method(photos):
    operations = pytest.importorskip("accelerate.utils.operations")
    batch = next(iter(make(photos)))
    moved = operations.send_to_device(batch, "meta", non_blocking=True)
    assert type(moved) is fl.Batch
    assert moved.images.device.type == moved.labels.device.type == "meta"
    assert moved.ids is batch.ids


@pytest.fixture
def second_of_two():
    """Makes this process rank 1 of 2 of a process group that needs no peer."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    begin = lambda: dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)  # noqa: E731
    yield begin
    if dist.is_initialized():
        dist.destroy_process_group()


def test_rank_and_world_size_come_from_the_process_group(photos, second_of_two, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2, but RANK is not set: make the Loader when"):
        make(photos)
    second_of_two()
    loader = make(photos)
    assert (loader.rank, loader.world_size) == (1, 2)


def test_a_loader_made_before_its_process_group_does_not_double_batches(photos, second_of_two):
    early, alone = make(photos), make(photos, rank=0, world_size=1)
    second_of_two()
    with pytest.raises(
        ConfigError, match=r"made as rank 0 of 1, before torch\.distributed made this process rank 1 of 2"
    ):
        iter(early)
    assert len(list(alone)) == BATCHES


def test_an_iterator_without_a_batch_leaves_its_epoch_to_the_next(photos):
    loader = make(photos)
    reference = [[batch.ids.tolist() for batch in loader] for _ in range(2)]
    again = make(photos)
    iter(again)
    kept = iter(again)
    assert [batch.ids.tolist() for batch in again] == reference[0]
    with pytest.raises(fl.FastloadError, match="another one was begun"):
        next(kept)
    iterator = iter(again)
    next(iterator)
    next(iterator)
    resumed = make(photos)
    resumed.load_state_dict(again.state_dict())
    iter(resumed)
    resumed.set_epoch(1)
    iter(resumed)
    assert [batch.ids.tolist() for batch in resumed] == reference[1][2:]
    assert resumed.state_dict()["epoch"] == 2
    iter(resumed)
    resumed.set_epoch(0)
    assert [batch.ids.tolist() for batch in resumed] == reference[0]
