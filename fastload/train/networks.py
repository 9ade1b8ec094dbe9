"""The small residual network for two cores, for tests and the demo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from fastload.errors import ConfigError

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; halves the side where ``stride`` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride != 1 else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                norm(outputs),
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm1(self.conv1(images)))
        return torch.relu(self.norm2(self.conv2(features)) + self.shortcut(images))


class ResNetTiny(nn.Module):
    """A residual network of 4 stages for images of 32 to 160 pixels.

    Args:
        num_classes: Outputs.
        width: Channels of the first stage; each of the others has twice those of the one before it.
        blocks: Blocks in each stage.
        stem_stride: 4 looks at the image in patches of 4 x 4 pixels as a ViT does, which is what makes 128 pixels
            affordable on two cores; 2 is slower and better below 96 pixels.
        norm: ``batch``, or ``group`` (no running statistics; equal results for any split of a batch over processes).
        dropout: Before the classifier.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        width: int = 32,
        blocks: tuple[int, ...] | list[int] = (1, 1, 1, 1),
        stem_stride: Literal[2, 4] = 2,
        norm: Literal["batch", "group"] = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width < 8 or width % 8 or not blocks or min(blocks) < 1 or stem_stride not in (2, 4):
            raise ConfigError(
                "resnet_tiny takes a width that is a multiple of 8, at least one block per stage and a stem_stride of "
                f"2 or 4, got width={width}, blocks={list(blocks)}, stem_stride={stem_stride}"
            )
        if norm not in ("batch", "group"):
            raise ConfigError(f"the norm of resnet_tiny is batch or group, got {norm!r}")
        make_norm: Norm = nn.BatchNorm2d if norm == "batch" else _group_norm
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, stem_stride + 1, stride=stem_stride, padding=stem_stride // 2, bias=False),
            make_norm(width),
            nn.ReLU(),
        )
        stages: list[nn.Module] = []
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width << stage
            for number in range(count):
                stages.append(Block(inputs, outputs, 2 if stage and number == 0 else 1, make_norm))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """N x 3 x H x W normalised images to N x num_classes logits."""
        features = self.stages(self.stem(images)).mean(dim=(2, 3))
        logits: torch.Tensor = self.fc(self.dropout(features))
        return logits


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(8, channels)
