"""What one thread has done and how long it took: its own words, which the statistics read when somebody asks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastload.engine.cpu.kernels.deliver import (
    AUGMENT_NS,
    BEFORE_NS,
    DECODE_NS,
    NUM_BYTES,
    NUM_DELIVERED,
    NUM_RAW,
    NUM_REFUSED,
    READ_NS,
    RESIZE_NS,
    WARP_NS,
    read_totals,
)
from fastload.stats import Amounts


@dataclass(eq=False)
class Spent:
    """Seconds of each stage, items, bytes, refused indexes and decoders; what kernels did stands in ``tally`` alone.

    Written by one thread. Who reads beside it sees a batch that is under way in part, and all of what is finished.
    """

    tally: NDArray[np.int64]
    plan: float = 0.0
    planned: int = 0
    read: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    before: float = 0.0
    warp: float = 0.0
    augment: float = 0.0
    functions: float = 0.0
    items: int = 0
    bytes: int = 0
    refused: int = 0
    decoders: Counter[str] = field(default_factory=Counter)

    def add_times(self, times: list[int]) -> None:
        """Nanoseconds of operations before the resampling, of maps, and of all behind."""
        self.before += times[0] * 1e-9
        self.warp += times[1] * 1e-9
        self.augment += times[2] * 1e-9

    def amounts(self) -> Amounts:
        """All of it, as Stats takes it."""
        kernel = read_totals(self.tally)
        items = self.items + kernel[NUM_DELIVERED]
        spans = [
            ("plan", self.plan, self.planned),
            ("read", self.read + kernel[READ_NS] * 1e-9, items),
            ("decode", self.decode + kernel[DECODE_NS] * 1e-9, items),
            ("resize", self.resize + kernel[RESIZE_NS] * 1e-9, items),
        ]
        rare = (
            ("before", self.before + kernel[BEFORE_NS] * 1e-9),
            ("warp", self.warp + kernel[WARP_NS] * 1e-9),
            ("augment", self.augment + kernel[AUGMENT_NS] * 1e-9),
            ("lambda", self.functions),
        )
        spans += [(stage, seconds, items) for stage, seconds in rare if seconds]
        decoders = self.decoders.copy()
        decoders["raw"] += kernel[NUM_RAW]
        decoders["fastload"] += kernel[NUM_DELIVERED] - kernel[NUM_RAW]
        counts = [(f"decoder.{decoder}", images) for decoder, images in decoders.items()]
        counts += [("bytes.read", self.bytes + kernel[NUM_BYTES])]
        counts += [("index.refused", self.refused + kernel[NUM_REFUSED])]
        return spans, [(name, number) for name, number in counts if number]
