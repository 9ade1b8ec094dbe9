"""Operations by way of the host's memory, for which it waits for the device: JPEG, and functions of the user."""

from __future__ import annotations

import numpy as np
import torch

from fastload.augment.parameters import Function
from fastload.engine.batched.arithmetic import send
from fastload.engine.batched.schedule import Group
from fastload.jpeg.roundtrip import find_scratch_bytes, recompress


def compress(planes: torch.Tensor, group: Group) -> torch.Tensor:
    """Images through JPEG and back, one after the other in this thread."""
    count, _, height, width = planes.shape
    source = planes.contiguous().cpu().numpy().reshape(count, -1)
    made = np.empty((count, height, width, 3), np.uint8)
    scratch = np.empty(find_scratch_bytes(width), np.uint8)
    for canvas, quality, image in zip(source, group.values[:, 0].astype(int).tolist(), made, strict=True):
        done = recompress(canvas, height * width, height, width, quality, scratch, image.reshape(-1))
        assert done, "the scratch was made for this width"
    return send(made, planes.device).permute(0, 3, 1, 2)


def call(planes: torch.Tensor, group: Group, functions: tuple[Function, ...]) -> torch.Tensor:
    """Images after functions of the user, one after the other in this thread."""
    images = planes.permute(0, 2, 3, 1).cpu().numpy().copy()
    for image, values in zip(images, group.values, strict=True):
        functions[int(values[0])](image, values[1:].copy())
    return send(images, planes.device).permute(0, 3, 1, 2)
