"""Which engine a Loader reads with, found by a short measurement on the user's own batches."""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from fastload.errors import ConfigError
from fastload.loader.flight import Flight
from fastload.loader.machinery import Machinery
from fastload.loader.plan import EpochPlan
from fastload.stats import Stats

logger = logging.getLogger("fastload")

# Batches that each engine is measured on, after one that is not counted (it opens files, compiles, and warms up), and
# the time after which a measurement ends, once it has two.
_BATCHES: Final = 8
_SECONDS: Final = 2.0
# Two engines side by side give pixels that depend on which of them had an image, and take memory twice: it must pay.
_WORTH_IT: Final = 1.1

Build = Callable[[dict[str, float]], Machinery]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a Loader reads with.

    Attributes:
        shares: Share of the batches by name of the engine.
        reason: Why, in one line for the user.
    """

    shares: dict[str, float]
    reason: str

    @property
    def name(self) -> str:
        """ "cpu", "dali", or "cpu 70% + dali 30%"."""
        if len(self.shares) == 1:
            return next(iter(self.shares))
        return " + ".join(f"{name} {share:.0%}" for name, share in self.shares.items())


def choose(wanted: str, device: torch.device | None, build: Build, plan: EpochPlan) -> Choice:
    """The engine for ``wanted``: as named, or, for "auto" and "hybrid", as measured.

    The measurement decodes the first batches of ``plan`` with each engine, and then with both at once, and throws them
    away: some seconds, once in a Loader's life. Order, draws and account of the epoch do not know of it.

    Args:
        wanted: "auto", "cpu", "dali" or "hybrid".
        device: Where batches go; None for ordinary memory.
        build: Makes an engine with its slots.
        plan: The epoch that is about to begin.
    """
    if wanted in ("cpu", "dali"):
        return Choice(shares={wanted: 1.0}, reason="as asked for")
    if wanted == "auto" and device is None:
        return Choice(shares={"cpu": 1.0}, reason="batches stay in ordinary memory")
    if wanted == "auto" and not _has_dali():
        return Choice(shares={"cpu": 1.0}, reason="DALI is not installed (pip install 'fastload[dali]' to compare)")
    alone: dict[str, float] = {}
    for name in ("cpu", "dali"):
        try:
            machinery = build({name: 1.0})
        except ConfigError as error:  # DALI has no such interpolation
            if wanted == "hybrid" or name == "cpu":
                raise
            return Choice(shares={"cpu": 1.0}, reason=str(error))
        (alone[name],) = _images_per_second([machinery], plan)
    together = _images_per_second([build({name: 1.0}) for name in alone], plan)
    choice = decide(alone, dict(zip(alone, together, strict=True)), must_share=wanted == "hybrid")
    logger.info("engine %s: %s", choice.name, choice.reason)
    return choice


def _has_dali() -> bool:
    try:
        return importlib.util.find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:  # nothing of nvidia at all
        return False


def decide(alone: dict[str, float], together: dict[str, float], *, must_share: bool = False) -> Choice:
    """The choice that measured rates (images per second by engine) lead to."""
    best = max(alone, key=lambda name: alone[name])
    both = sum(together.values())
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in alone.items())
    reason = f"{rates} images/s, both at once {both:,.0f}"
    if both > 0 and (must_share or both > _WORTH_IT * alone[best]):
        shares = {name: rate / both for name, rate in together.items()}
        if all(share >= 0.05 for share in shares.values()):
            return Choice(shares=shares, reason=reason)
    return Choice(shares={best: 1.0}, reason=reason)


def _images_per_second(machineries: list[Machinery], plan: EpochPlan) -> list[float]:
    """Of each machinery, all of them at work at the same time; closes them."""
    rates = [0.0] * len(machineries)
    errors: list[BaseException] = []
    ready = threading.Barrier(len(machineries))

    def work(number: int) -> None:
        try:
            rates[number] = _rate(machineries[number], plan, ready)
        except BaseException as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(machineries))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for machinery in machineries:
            machinery.close()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return rates


def _rate(machinery: Machinery, plan: EpochPlan, ready: threading.Barrier) -> float:
    lane, stats = machinery.lanes[0], Stats()
    count = plan.batches.num_batches
    _settle(Flight(0, plan, lane, stats=stats))
    ready.wait()
    begin = time.perf_counter()
    images = 0
    flights: deque[Flight] = deque()
    for number in range(_BATCHES):
        flights.append(Flight(number % count, plan, lane, stats=stats))
        if len(flights) == 2:
            images += _settle(flights.popleft())
        if number >= 2 and time.perf_counter() - begin > _SECONDS:
            break
    while flights:
        images += _settle(flights.popleft())
    return images / (time.perf_counter() - begin)


def _settle(flight: Flight) -> int:
    """Waits for a flight and gives its slot back; the images that arrived."""
    try:
        return flight.arrived()
    finally:
        flight.lane.slots.give_back(flight.slot)
