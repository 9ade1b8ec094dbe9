"""Calls every kernel of the CPU engine once, so that each is compiled (or loaded) before the first batch."""

from __future__ import annotations

import numpy as np

from fastload.augment.parameters import Output
from fastload.engine.cpu.kernels.layout import PARAMETERS, SLACK, flat_slot, make_constants, make_scratch
from fastload.engine.cpu.kernels.resample import resample_image


def warm_up() -> None:
    """One small image through each kernel."""
    output = Output(
        height=2,
        width=2,
        dtype="uint8",
        scale=(1.0, 1.0, 1.0),
        bias=(0.0, 0.0, 0.0),
        interpolation="bilinear",
        antialias=True,
    )
    parameters = np.zeros(PARAMETERS, np.float64)
    parameters[2:6] = 2.0
    slot = flat_slot(np.zeros((1, 2, 2, 3), np.uint8))
    pixels = np.zeros(12 + SLACK, np.uint8)
    resample_image(pixels, 2, 2, 0, 0, 2, 2, parameters, make_constants(output), slot, 0, make_scratch(output))
