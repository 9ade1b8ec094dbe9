"""Calls every kernel of the CPU engine once, so that each is compiled (or loaded) before the first batch."""

from __future__ import annotations

import numpy as np

from fastload.dataset.reads import Reads, pack_paths
from fastload.engine.cpu.kernels import system
from fastload.engine.cpu.kernels.deliver import (
    FRAME,
    TASK,
    Items,
    Share,
    deliver_items,
    find_entries,
    freeze_share,
    read_ahead,
)
from fastload.engine.cpu.kernels.layout import (
    PARAMETERS,
    SLACK,
    flat_slot,
    make_constants,
    make_scratch,
    stack_constants,
)
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.cpu.programs import NO_EXTRAS, TINY
from fastload.engine.cpu.workspace import Workspace


def warm_up() -> None:
    """One small image through the kernel that resamples."""
    parameters = np.zeros(PARAMETERS, np.float64)
    parameters[2:6] = 2.0
    pixels = np.zeros(12 + SLACK, np.uint8)
    constants, scratch = make_constants(TINY), make_scratch(TINY)
    slot = flat_slot(np.zeros((1, 2, 2, 3), np.uint8))
    resample_image(pixels, 2, 2, 0, 0, 2, 2, parameters, constants, slot, 0, scratch)


def warm_up_items() -> None:
    """One item, which cannot be read. Compiled or loaded first: the decoder and ``warm_up``."""
    zero, none = np.zeros(1, np.int64), np.full(1, -1, np.int64)
    path, paths = pack_paths([None])
    raw = np.zeros((1, 2), np.int64)
    reads = Reads(none, path, paths, zero, zero, zero, np.zeros(1, np.uint8), np.zeros((1, 4), np.int64), raw)
    rows, regions = np.zeros((1, PARAMETERS)), np.zeros((1, 4), np.int64)
    items = Items(zero, rows, regions, reads, np.zeros(1, np.uint8), NO_EXTRAS)
    memory, constants = Workspace(TINY).memory(), stack_constants(TINY)
    slot = np.zeros((1, 2, 2, 3), np.uint8)
    task = np.array([0, 1, 0, slot.ctypes.data, slot.size, 1])
    assert len(task) == TASK
    if system.ADVISES:
        read_ahead(none, zero, zero)
    share, frame = Share(items, constants, memory, find_entries()), np.zeros(FRAME, np.int64)
    assert freeze_share(share, frame) <= frame.nbytes
    deliver_items(frame, task)
