"""Rates against torch's schedulers and FFCV's own functions."""

import numpy as np
import pytest
import torch

from fastload.errors import ConfigError
from fastload.train.schedule import create_schedule, resolution_at


def ffcv_rate(step, iters, *, lr, epochs, peak):
    """train_imagenet.py: get_cyclic_lr and the interpolation in train_loop."""
    epoch, ix = divmod(step, iters)
    xs, ys = [0, peak, epochs], [1e-4 * lr, lr, 0]
    start, end = (np.interp([e], xs, ys)[0] for e in (epoch, epoch + 1))
    return np.interp(np.arange(iters), [0, iters], [start, end])[ix]


def ffcv_resolution(epoch, *, min_res, max_res, start_ramp, end_ramp):
    if epoch <= start_ramp:
        return min_res
    if epoch >= end_ramp:
        return max_res
    interp = np.interp([epoch], [start_ramp, end_ramp], [min_res, max_res])
    return int(np.round(interp[0] / 32)) * 32


def test_piecewise_is_ffcvs_rate_at_every_step():
    shape = create_schedule("piecewise", epochs=16, points=((0, 1e-4), (2, 1.0), ("end", 0.0)))
    for step in range(16 * 7):
        assert 1.7 * shape(step / 7) == pytest.approx(ffcv_rate(step, 7, lr=1.7, epochs=16, peak=2), abs=1e-12)


@pytest.mark.parametrize(("epochs", "start", "end"), [(16, 11, 13), (40, 29, 34), (88, 65, 76)])
def test_resolution_is_ffcvs_in_every_epoch(epochs, start, end):
    for epoch in range(epochs):
        ours = resolution_at(epoch, smallest=160, largest=192, ramp_start=start, ramp_end=end, multiple=32)
        assert ours == ffcv_resolution(epoch, min_res=160, max_res=192, start_ramp=start, end_ramp=end)


def test_resolution_climbs_in_multiples_and_stays_in_its_bounds():
    sides = [
        resolution_at(epoch, smallest=100, largest=230, ramp_start=2, ramp_end=12, multiple=32) for epoch in range(15)
    ]
    assert sides == sorted(sides)
    assert (sides[0], sides[-1]) == (100, 230)
    assert all(side % 32 == 0 for side in sides if side not in (100, 230))
    assert {resolution_at(e, smallest=96, largest=None, ramp_start=0, ramp_end=0, multiple=32) for e in range(9)} == {
        96
    }


def torch_rates(make, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_is_torchs():
    shape = create_schedule("cosine", epochs=4, final=0.1)
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.1), 40)
    assert [shape(step / 10) for step in range(40)] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("shape_name", "anneal"), [("cosine", "cos"), ("linear", "linear")])
def test_one_cycle_is_torchs(shape_name, anneal):
    # torch counts total_steps - 1 intervals, and begins the fall at step pct_start * total - 1.
    steps = 41
    shape = create_schedule("one_cycle", epochs=steps - 1, rise=(0.25 * steps - 1) / (steps - 1), shape=shape_name)
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 1.0, total_steps=steps, pct_start=0.25, anneal_strategy=anneal, cycle_momentum=False
        ),
        steps - 1,
    )
    assert [shape(float(step)) for step in range(steps - 1)] == pytest.approx(expected, abs=1e-6)


def test_steps_are_torchs():
    every = create_schedule("step", epochs=9, step_epochs=3, gamma=0.1)
    assert [every(float(e)) for e in range(9)] == pytest.approx(
        torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 3), 9)
    )
    milestones = create_schedule("step", epochs=9, milestones=(2, 5), gamma=0.5)
    assert [milestones(float(e)) for e in range(9)] == pytest.approx(
        torch_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], gamma=0.5), 9)
    )


@pytest.mark.parametrize("name", ["cosine", "step", "constant"])
def test_warmup_rises_in_a_line_and_meets_the_shape(name):
    shape = create_schedule(name, epochs=10, warmup_epochs=2, warmup_start=0.2)
    assert [shape(x) for x in (0.0, 0.5, 1.0, 1.5, 2.0)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_what_does_not_fit_the_epochs_is_refused():
    with pytest.raises(ConfigError, match="warmup_epochs"):
        create_schedule("cosine", epochs=2, warmup_epochs=2)
    with pytest.raises(ConfigError, match=r"schedule\.points .* the epochs 0, 2, 1"):
        create_schedule("piecewise", epochs=1, points=((0, 0.0), (2, 1.0), ("end", 0.0)))
