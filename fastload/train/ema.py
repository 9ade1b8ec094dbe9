"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """A copy of the network whose weights follow slowly.

    Floating-point buffers (running statistics) are averaged as the weights are; counters are copied.

    Args:
        model: The network, on its device.
        decay: Share of the old average that stays at each step.
        warmup: Begin with a shorter memory, so that the random initial weights are forgotten.

    Attributes:
        model: The averaged network, in evaluation mode.
        steps: Updates so far.
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: bool = True) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the weights of ``model``; called once after each step of the optimiser."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.warmup else self.decay
        ours, theirs = self.model.state_dict(), model.state_dict()
        floating = [key for key, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[key] for key in floating], [theirs[key] for key in floating], 1.0 - decay)
        for key, value in ours.items():
            if not value.is_floating_point():
                value.copy_(theirs[key])
