"""Waiting is counted on the device's own clock, and nothing that is counted makes the host wait."""

import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastload.train.clock import Clock
from fastload.train.distributed import World
from fastload.train.ema import WeightAverage
from fastload.train.epoch import EpochPlan, EpochTrainer
from fastload.train.journal import Journal
from fastload.train.metrics import Meter
from fastload.train.model import create_model
from fastload.train.optimizer import create_optimizer, decay_groups
from fastload.train.progress import Progress
from fastload.train.state import RunState
from fastload.train.stepper import Stepper
from fastload.train.synthetic import SyntheticFeed, synthetic_batch

CPU = torch.device("cpu")
ALONE = World(rank=0, size=1, device=CPU)


class Device:
    """A device that does one thing after the other, as a CUDA stream does; milliseconds on a clock of its own."""

    def __init__(self):
        self.host = 0.0  # when the host gives it work
        self.free = 0.0  # when it will have done all that it was given
        self.now = 0.0  # how far it has come
        self.made = 0

    def compute(self, milliseconds):
        self.free = max(self.free, self.host) + milliseconds

    def wait_until(self, moment):
        self.free = max(self.free, moment)

    def event(self):
        self.made += 1
        return Event(self)


class Event:
    """A timing event; there is no way to wait for it."""

    def __init__(self, device):
        self.device = device

    def record(self):
        self.reached = self.device.free = max(self.device.free, self.device.host)

    def query(self):
        return self.reached <= self.device.now

    def elapsed_time(self, end):
        assert self.query(), "CUDA refuses to compare events that have not been reached"
        assert end.query()
        return end.reached - self.reached


def wait_of(steps, *, compute, ask, arrives=None):
    """Milliseconds that the clock counts for the device, over steps of ``compute`` ms with batches after ``ask`` ms."""
    device = Device()
    clock = Clock(torch.device("cpu"), make_event=device.event)
    for step in range(steps):
        with clock.waiting():
            device.host += ask
            if arrives is not None:
                device.wait_until(arrives(step))
        device.host += 0.5  # the host's work for a step
        device.compute(compute)
    device.now = device.free
    return clock.read(), device


def test_a_device_that_is_always_behind_never_waits():
    times, device = wait_of(10, compute=30.0, ask=5.0)
    # The first batch alone finds the device idle.
    assert times.wait_seconds == pytest.approx(0.005)
    assert device.made == 20


def test_a_host_that_is_late_with_data_leaves_the_device_idle():
    times, _ = wait_of(10, compute=10.0, ask=25.0)
    # The device ends each step 10.5 ms after the host returned with its batch, and is asked for again 25 ms after that.
    assert times.wait_seconds == pytest.approx((25 + 9 * (25.5 - 10.5)) / 1000)


def test_a_copy_that_is_late_counts_though_the_host_did_not_wait():
    times, _ = wait_of(5, compute=10.0, ask=0.0, arrives=lambda step: 40.0 * (step + 1))
    assert times.wait_seconds == pytest.approx((40 + 4 * 30) / 1000)
    assert times.host_wait_seconds < 0.05


def test_work_that_the_host_is_slow_to_give_is_not_waiting_for_data():
    device = Device()
    clock = Clock(CPU, make_event=device.event)
    for _ in range(5):
        with clock.waiting():
            device.host += 1.0
        device.compute(2.0)
        device.host += 50.0  # Python, a log, a checkpoint
    device.now = device.free
    assert clock.read().wait_seconds == pytest.approx(0.005)


def test_events_are_read_as_they_are_reached_and_used_again():
    device = Device()
    clock = Clock(CPU, make_event=device.event)
    for step in range(100):
        with clock.waiting():
            device.host += 1.0
        device.compute(5.0)
        device.now = max(0.0, device.free - 12.0)  # two steps behind
        before = clock.read().wait_seconds
        assert before <= 0.001 * (step + 1)
    assert device.made <= 10


def test_without_a_device_the_host_is_what_waits():
    clock = Clock(CPU)
    with clock.waiting():
        time.sleep(0.02)
    times = clock.read_when_idle()
    assert times.wait_seconds == times.host_wait_seconds
    assert 0.02 <= times.wait_seconds <= times.seconds


class CountReads(TorchDispatchMode):
    """Counts what would make the host wait for a device: values that are read out of tensors."""

    reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        aten = torch.ops.aten
        masked = function is aten.index.Tensor and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        if masked or function in (aten._local_scalar_dense.default, aten.nonzero.default, aten.bincount.default):
            self.reads += 1
        return function(*args, **(kwargs or {}))


def test_the_instrument_sees_a_read():
    with CountReads() as mode:
        torch.ones(3).sum().item()
        torch.ones(3)[torch.tensor([True, False, True])]
        torch.bincount(torch.tensor([0, 2]))
    assert mode.reads == 3


def make_trainer(batches, **options):
    torch.manual_seed(0)
    model = create_model("resnet_tiny", num_classes=3, args={"width": 8, "blocks": [1, 1]})
    groups = decay_groups(model, weight_decay=1e-4)
    stepper = Stepper(
        model,
        create_optimizer("SGD", groups, lr=0.01, args={"momentum": 0.9}),
        world=ALONE,
        lr=0.01,
        schedule=lambda epoch: 1.0,
        label_smoothing=0.1,
        average=WeightAverage(model, decay=0.9),
        **options,
    )
    feed = SyntheticFeed(
        4 * batches,
        4,
        world=ALONE,
        make=lambda side, first_id: synthetic_batch(
            4, side, num_classes=3, dtype=torch.float32, channels_last=True, device=CPU, first_id=first_id
        ),
        side=lambda epoch: 32,
    )
    plan = EpochPlan(
        accumulate=2,
        train_samples=4 * batches,
        global_batch=4,
        transforms=lambda epoch: (),
        resolution=lambda epoch: 32,
        log_every=1000,
        save_every_steps=None,
    )
    return EpochTrainer(
        plan,
        stepper=stepper,
        loader=feed,
        world=ALONE,
        state=RunState(),
        journal=Journal(None),
        progress=Progress(),
        save=lambda state: None,
    )


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "clip_value": 0.5}, {"precision": "bf16"}])
def test_no_step_reads_a_value_from_the_device(options):
    found = []
    for batches in (4, 16):
        trainer = make_trainer(batches, **options)
        with CountReads() as mode:
            trainer.run()
        assert trainer.state.step == batches // 2
        found.append(mode.reads)
    assert found[0] == found[1], "an epoch of more steps reads more values"
    assert found[0] <= 2


def test_a_batch_of_an_evaluation_reads_no_value():
    meter = Meter(5, CPU)
    logits, labels = torch.randn(64, 5), torch.randint(5, (64,))
    with CountReads() as mode:
        for _ in range(3):
            meter.update(logits, labels)
    assert mode.reads == 0
    counts = torch.zeros(5, 5, dtype=torch.int64)
    for label, guess in zip(labels.tolist(), logits.argmax(1).tolist(), strict=True):
        counts[label, guess] += 3
    assert meter.compute(ALONE).confusion == tuple(map(tuple, counts.tolist()))


@pytest.mark.gpu
def test_a_gpu_trains_without_the_host_waiting_for_it():
    world = World(rank=0, size=1, device=torch.device("cuda", 0))
    model = create_model("resnet_tiny", num_classes=3, args={"width": 8, "blocks": [1, 1]}).to(world.device)
    optimizer = create_optimizer("SGD", decay_groups(model, weight_decay=0.0), lr=0.1, device=world.device)
    stepper = Stepper(model, optimizer, world=world, lr=0.1, schedule=lambda epoch: 1.0, precision="fp16")
    batch = synthetic_batch(8, 32, num_classes=3, dtype=torch.float16, channels_last=True, device=world.device)
    clock = Clock(world.device)
    for step in range(8):
        if step == 3:
            torch.cuda.set_sync_debug_mode("error")
        try:
            with clock.waiting():
                pass
            stepper.begin_step(0.0)
            stepper.accumulate(batch, number=step, total=8, last=True)
            stepper.finish_step()
            clock.read()
        finally:
            if step == 7:
                torch.cuda.set_sync_debug_mode("default")
    assert clock.read_when_idle().wait_seconds >= 0


@pytest.mark.gpu
def test_a_gpu_counts_what_it_waits_for_and_nothing_else():
    device = torch.device("cuda", 0)
    cycles_per_ms = 1_000_000
    torch.cuda._sleep(cycles_per_ms)
    torch.cuda.synchronize()
    ahead = Clock(device)
    for _ in range(5):
        torch.cuda._sleep(50 * cycles_per_ms)
        with ahead.waiting():
            time.sleep(0.01)
    assert ahead.read_when_idle().wait_seconds < 0.005
    late = Clock(device)
    for _ in range(5):
        with late.waiting():
            time.sleep(0.05)
        torch.cuda._sleep(cycles_per_ms)
    assert late.read_when_idle().wait_seconds == pytest.approx(0.25, rel=0.2)
