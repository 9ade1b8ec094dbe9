"""A request on its way through DALI: what was asked for, and its samples as they are fed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Draws, Output
from fastload.engine.base import Failure, OpenSlot, Request
from fastload.engine.dali.arguments import Arguments, make_arguments
from fastload.engine.dali.samples import Encoded


@dataclass(eq=False)
class Job:
    """One request on its way.

    Attributes:
        plan: The caller's planning function.
        slot: Where the images go.
        begun: Whether the thread has taken it up.
        stopped: No more work is to begin: cancelled, closed, or failed. Looked at between two samples.
        error: What ``result()`` raises.
        failures: Samples that cannot be delivered.
        finished: Nothing more will happen to it.
        starved: It has its slot from the beginning.
    """

    plan: Callable[[], Request]
    slot: NDArray[Any] | OpenSlot
    begun: bool = False
    stopped: bool = False
    error: BaseException | None = None
    failures: list[Failure] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event)
    starved: float = 0.0


@dataclass(frozen=True, eq=False)
class View:
    """What becomes of n samples in one view.

    Attributes:
        draws: What was drawn for them.
        arguments: The same for DALI.
    """

    draws: Draws
    arguments: Arguments

    def __getitem__(self, items: NDArray[np.int64]) -> View:
        """The same for some of the samples."""
        return View(self.draws.rows(items), self.arguments[items])


@dataclass(frozen=True, eq=False)
class Source:
    """What DALI decodes of n samples: for each view, or once for all.

    Attributes:
        encoded: A file for each sample.
        regions: int32 (n, 4), top, left, height and width, in the image that the file holds, of what is decoded.
    """

    encoded: list[NDArray[np.uint8]]
    regions: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Flight:
    """A job whose samples are in the pipeline: ``ids[i]`` goes to row ``rows[i]``, of ``num_rows``."""

    job: Job
    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    num_rows: int
    sources: list[Source]
    views: list[View]

    @property
    def arguments(self) -> list[Arguments]:
        """What DALI does for each view."""
        return [view.arguments for view in self.views]

    def with_files(self, items: NDArray[np.int64], encoded: list[list[NDArray[np.uint8]]]) -> Flight:
        """Some of its samples, from other files with the same pixels."""
        pairs = zip(encoded, self.sources, strict=True)
        return replace(
            self,
            ids=self.ids[items],
            rows=self.rows[items],
            sources=[Source(files, source.regions[items]) for files, source in pairs],
            views=[view[items] for view in self.views],
        )


def views_of(draws: Draws, output: Output) -> list[View]:
    """The views of the samples of a request, which stand one after the other in its draws."""
    count = len(output.views)
    parts = [draws] if count == 1 else [draws.rows(np.arange(view, len(draws.ids), count)) for view in range(count)]
    return [View(part, make_arguments(part)) for part in parts]


def regions_of(views: list[View], *, separate: bool) -> list[NDArray[np.int32]]:
    """What is decoded of each sample: for each view its cut, or once for all what holds every cut."""
    cuts = [view.arguments.cut for view in views]
    if separate or len(cuts) == 1:
        return cuts
    every = np.stack(cuts)
    corner = every[..., :2].min(axis=0)
    extent = (every[..., :2] + every[..., 2:]).max(axis=0) - corner
    return [np.concatenate((corner, extent), axis=1)]


def make_flight(
    job: Job,
    request: Request,
    views: list[View],
    regions: list[NDArray[np.int32]],
    good: NDArray[np.int64],
    files: list[list[Encoded]],
) -> Flight:
    """A request as DALI is fed with it.

    Args:
        job, request: What it is about.
        views, regions: Of all its samples.
        good: int64 (k,), those that have been read.
        files: For each of them one for each region.
    """
    if len(good) < len(request.rows):
        views = [view[good] for view in views]
    if len(views) > len(regions):  # the views cut what they need out of what is decoded for all
        begin = regions[0][good] * np.array([1, 1, 0, 0], np.int32)
        views = [View(view.draws, replace(view.arguments, cut=view.arguments.cut - begin)) for view in views]
    sources = []
    for number, region in enumerate(regions):
        mine = [one[number] for one in files]
        shift = np.array([(one.top, one.left, 0, 0) for one in mine], np.int32).reshape(-1, 4)
        sources.append(Source([one.data for one in mine], region[good] - shift))
    return Flight(job, request.ids[good], request.rows[good], len(request.rows), sources, views)
