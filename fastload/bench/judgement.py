"""What the figures mean: what each stage costs, what limits the Loader, how many threads a speed takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

from fastload.bench.report import DataFacts, Limit, Speed, StageCost, Training
from fastload.bench.task import Round

# Stages in which the engine's threads compute; what they measure is wall time, which grows where processors are few.
_COMPUTING: Final = ("plan", "decode", "before", "resize", "warp", "augment", "lambda")
# Below this share of its threads' time on a processor, other programs are what limits the Loader.
CONTENDED: Final = 0.8
# Training that waits for less than this share of its time is not waiting for data.
WAITING: Final = 0.05


def speed(rounds: Sequence[Round]) -> Speed:
    """The rounds of one loader as one."""
    rates = [one.images / one.seconds for one in rounds]
    memory = [one.memory_bytes for one in rounds if one.memory_bytes is not None]
    return Speed(
        workers=rounds[0].workers,
        images=sum(one.images for one in rounds),
        images_per_second=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        cpu_ms_per_image=1000 * median(one.cpu_seconds / one.images for one in rounds),
        memory_bytes=max(memory) if memory else None,
        skipped=sum(one.skipped for one in rounds),
    )


def total_spans(rounds: Sequence[Round]) -> dict[str, float]:
    """Seconds of each stage in all rounds together."""
    stages = dict.fromkeys(stage for one in rounds for stage in one.spans)
    return {stage: sum(one.spans.get(stage, 0.0) for one in rounds) for stage in stages}


def on_processor(rounds: Sequence[Round], read_cpu_seconds: float) -> float:
    """Share of the time of its computing stages for which fastload had a processor, 0 to 1.

    Args:
        read_cpu_seconds: Processor time that reading one image takes.
    """
    spans = total_spans(rounds)
    computing = sum(spans.get(stage, 0.0) for stage in _COMPUTING)
    images = sum(one.images for one in rounds)
    reading = min(read_cpu_seconds * images, spans.get("read", 0.0))
    cpu = sum(one.cpu_seconds for one in rounds)
    return min(1.0, max(0.0, cpu - reading) / computing) if computing else 1.0


def stage_costs(rounds: Sequence[Round], read_cpu_seconds: float) -> tuple[StageCost, ...]:
    """Processor time of each stage for one image; they add up to the processor time of the process."""
    spans = total_spans(rounds)
    images = sum(one.images for one in rounds)
    cpu = sum(one.cpu_seconds for one in rounds)
    share = on_processor(rounds, read_cpu_seconds)
    costs: dict[str, float] = {}
    for stage, seconds in spans.items():
        if stage == "read":
            costs[stage] = min(seconds, read_cpu_seconds * images, cpu)
        elif stage in _COMPUTING:
            costs[stage] = share * seconds
    costs["rest"] = max(0.0, cpu - sum(costs.values()))
    # A thread that wants a processor waits in "read" as it does elsewhere: that is no waiting for storage.
    waits = {"read": max(0.0, share * spans.get("read", 0.0) - costs.get("read", 0.0))}
    total = sum(costs.values()) or 1.0
    return tuple(
        StageCost(
            stage=stage,
            cpu_ms_per_image=1000 * seconds / images,
            wait_ms_per_image=1000 * waits.get(stage, 0.0) / images,
            share=seconds / total,
        )
        for stage, seconds in costs.items()
    )


def limit_of_loader(rounds: Sequence[Round], data: DataFacts, read_cpu_seconds: float) -> Limit:
    """What the Loader's threads, with all of them at work, spend most of their time on."""
    spans = total_spans(rounds)
    wall = sum(one.seconds for one in rounds)
    time_of_threads = wall * rounds[0].workers
    shares = {
        "decode": spans.get("decode", 0.0),
        "augment": sum(spans.get(stage, 0.0) for stage in _COMPUTING if stage != "decode"),
        "storage": spans.get("read", 0.0),
    }
    shares["gil"] = max(0.0, time_of_threads - sum(shares.values()))
    shares = {name: seconds / time_of_threads for name, seconds in shares.items()}
    name = max(shares, key=lambda key: shares[key])
    contended = on_processor(rounds, read_cpu_seconds)
    if name != "storage" and contended < CONTENDED:
        return _limit(
            "processors",
            1 - contended,
            f"its threads had a processor for {100 * contended:.0f}% of the time that they wanted one",
            _ADVICE["processors"],
        )
    what = {
        "decode": "decoding JPEGs takes",
        "augment": "drawing, cropping, resizing and storing take",
        "storage": "reading from storage takes",
        "gil": "waiting for work and for Python's lock takes",
    }[name]
    advice = _ADVICE[name]
    if name == "decode" and not data.seek_index and data.form in ("folder", "shards"):
        verb = "fastload convert" if data.form == "folder" else "fastload index"
        advice = f"{verb} writes seek indexes, with which random crops decode faster; then more processors"
    return _limit(name, shares[name], f"{what} {100 * shares[name]:.0f}% of its threads' time", advice)


_ADVICE: Final = {
    "decode": "more processors, or smaller images (fastload convert --max-side)",
    "augment": "more processors, or a smaller output",
    "storage": "faster or local storage, enough memory to hold the files, or more threads (reads then overlap)",
    "gil": "fewer threads may be as fast; larger batches",
    "processors": "stop other programs, or give the process more processors; figures here are lower than they could be",
    "model": "a faster GPU or network: a faster loader would change nothing",
}


def _limit(name: str, share: float, reason: str, advice: str) -> Limit:
    return Limit(name=name, share=share, reason=reason, advice=advice)  # type: ignore[arg-type]


def who_waits(*, together: float, model: float, wait_share: float) -> bool:
    """Whether training waits for the Loader; a network that is as fast as without a Loader does not."""
    return wait_share > WAITING and together < (1 - WAITING) * model


def limit_of_training(training: Training, loader: Limit) -> Limit:
    """What the slowest of network, copy and Loader is."""
    copy = training.copy_images_per_second
    if copy is not None and copy < min(training.model_images_per_second, training.loader_images_per_second) * 1.05:
        return _limit("copy", training.wait_share, f"{copy:,.0f} images/s can be copied", "a wider link, smaller types")
    if training.waits == "training":
        return loader
    return _limit(
        "model",
        1 - training.wait_share,
        f"training waits for data {100 * training.wait_share:.1f}% of the time",
        _ADVICE["model"],
    )


def threads_for(target: float, scaling: Sequence[Speed], *, busy: bool = False) -> tuple[int, bool]:
    """(threads that load ``target`` images each second, whether that is beyond what was measured).

    Between two measured numbers of threads the speed is taken to be linear. Beyond the fastest, each further thread is
    taken to add what one of those measured there adds on average, which is more than it will. On a ``busy`` machine
    the speeds say little: there a thread is taken to compute all the time.
    """
    if busy:
        return max(1, math.ceil(target * scaling[-1].cpu_ms_per_image / 1000)), True
    before = (0, 0.0)
    for point in sorted(scaling, key=lambda one: one.workers):
        if point.images_per_second >= target:
            gained = (target - before[1]) / (point.images_per_second - before[1])
            return max(1, math.ceil(before[0] + gained * (point.workers - before[0]))), False
        if point.images_per_second > before[1]:
            before = (point.workers, point.images_per_second)
    return math.ceil(target * before[0] / before[1]), True


def notes(*, rounds: Sequence[Round], data: DataFacts, batch_size: int, fastload: Speed, processors: int) -> list[str]:
    """What a reader of the figures must know."""
    found = []
    epoch = data.samples / fastload.images_per_second
    if epoch < 1.0:
        found.append(
            f"an epoch of this data set takes {epoch:.2f} s: the beginning and end of each count, as they do not in a "
            "larger one"
        )
    if fastload.skipped:
        found.append(f"{fastload.skipped:,} images could not be read; others were delivered in their place")
    if fastload.workers > processors:
        found.append(f"{fastload.workers} threads on {processors} processors")
    if fastload.slowest < 0.7 * fastload.fastest:
        found.append(
            f"rounds differ ({fastload.slowest:,.0f} to {fastload.fastest:,.0f} images/s): the machine is busy with "
            "something else, or memory fills with the files"
        )
    others = {
        name.removeprefix("decoder."): sum(one.counts.get(name, 0) for one in rounds)
        for name in sorted({name for one in rounds for name in one.counts})
        if name in ("decoder.turbo", "decoder.pillow")
    }
    decoded = sum(number for one in rounds for name, number in one.counts.items() if name.startswith("decoder."))
    slow = sum(others.values())
    if decoded and slow > 0.05 * decoded:
        found.append(
            f"{100 * slow / decoded:.0f}% of the images went to libjpeg-turbo or Pillow (progressive, CMYK, other "
            "formats): they decode more slowly"
        )
    if batch_size > data.samples:
        found.append(f"the data set has fewer images than a batch of {batch_size}")
    return found
