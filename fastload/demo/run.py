"""The course of the demo: render, convert, feed, train, report."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fastload.convert import ConvertSummary, convert
from fastload.demo.folder import DemoFolder, demo_folder
from fastload.demo.render import RenderedData, planned_data, render_data
from fastload.demo.report import DemoReport, Feed
from fastload.loader import Loader
from fastload.recipe import Recipe, load_recipe
from fastload.train import BatchInfo, EpochInfo, Progress, RunInfo, TrainReport, train
from fastload.train.images import train_transforms

# Called with what is being done, how much of it is done, how much there is in all, and a note such as the loss.
OnProgress = Callable[[str, int, int, str], None]

RECIPE: Final = Path(__file__).with_name("recipe.yaml")


def run_demo(
    folder: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    num_train: int = 2000,
    num_val: int = 400,
    epochs: int | None = None,
    num_workers: int | None = None,
    device: str = "auto",
    progress: OnProgress | None = None,
) -> DemoReport:
    """Draws a labelled set of pictures, converts it, trains a small network through the Loader, and reports.

    The same seed gives the same pictures, shards, order and augmentations; on one kind of processor with one number
    of cores also the same weights.

    Args:
        folder: Where to keep images/, shards/ and run/: new, empty, or that of an earlier demo with the
            same arguments, whose pictures and shards are used again. None takes a temporary folder and removes it.
        seed: Not negative.
        num_train: Pictures to train with, one of which is broken on purpose; rounded down to ten equal classes.
        num_val: Pictures held out.
        epochs: Passes over the training pictures; None takes those of the recipe.
        num_workers: Threads that render, convert and decode; None takes one for each core that the process may use.
        device: Where to train: auto, cpu, cuda or cuda:N.
        progress: Called in this thread as the demo goes on.

    Raises:
        ConfigError: An argument is out of range, or ``folder`` holds something else.
        DataError: The folder cannot be written.
    """
    report = progress or (lambda name, done, total, note: None)
    phases: dict[str, float] = {}
    with demo_folder(folder, {"seed": seed, "num_train": num_train, "num_val": num_val}) as place:
        with _timed(phases, "render"):
            data = _draw(place, num_workers, report)
        with _timed(phases, "convert"):
            summaries = _convert(data, place.root, num_workers, report)
        recipe = _recipe(place, epochs=epochs, num_workers=num_workers, device=device)
        with _timed(phases, "feed"):
            feed = _feed(recipe, report)
        watcher = _Watcher(report)
        with _timed(phases, "train"):
            trained = train(recipe, progress=watcher)
        return _report(place, summaries=summaries, feed=feed, trained=trained, device=watcher.device, phases=phases)


@contextlib.contextmanager
def _timed(phases: dict[str, float], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    phases[name] = time.perf_counter() - begin


def _draw(place: DemoFolder, num_workers: int | None, report: OnProgress) -> RenderedData:
    """The pictures, drawn now or by an earlier demo."""
    settings, images = place.settings, place.root / "images"
    if place.drawn:
        return planned_data(images, num_train=settings["num_train"], num_val=settings["num_val"])
    data = render_data(
        images, **settings, num_threads=num_workers, progress=lambda done, all_: report("drawing", done, all_, "")
    )
    place.mark_drawn()
    return data


def _convert(data: RenderedData, root: Path, num_workers: int | None, report: OnProgress) -> dict[str, ConvertSummary]:
    """Both splits; the summary of each."""
    total, before = data.num_train + data.num_val, 0
    summaries: dict[str, ConvertSummary] = {}

    def show(done: int, _: int, skipped: int) -> None:
        skipped += sum(summary.skipped for summary in summaries.values())
        report("converting", before + done, total, f"{skipped} skipped" if skipped else "")

    for name, source in (("train", data.train), ("val", data.val)):
        summaries[name] = convert(source, root / "shards" / name, workers=num_workers, progress=show)
        before += summaries[name].found
    return summaries


def _recipe(place: DemoFolder, *, epochs: int | None, num_workers: int | None, device: str) -> Recipe:
    """The demo's recipe for this folder; the run writes it down beside its checkpoints."""
    values: dict[str, Any] = {
        "data.train": str(place.root / "shards" / "train"),
        "data.val": str(place.root / "shards" / "val"),
        "data.num_workers": num_workers,
        "train.seed": place.settings["seed"],
        "train.device": device,
        "report.directory": str(place.root / "run"),
        "report.overwrite": True,
        "report.figures": place.kept,
    }
    if epochs is not None:
        values["train.epochs"] = epochs
    return load_recipe(RECIPE, [f"{key}={json.dumps(value)}" for key, value in values.items()])


def _feed(recipe: Recipe, report: OnProgress) -> Feed:
    """Reads one epoch as the training will, without training.

    The first batch of a throw-away epoch comes first: on a new machine the kernels are compiled for it.
    """
    look = recipe.transforms
    transforms = train_transforms(look.train, size=recipe.resolution.min, dtype="float32", mean=look.mean, std=look.std)
    with Loader(
        recipe.data.train,
        batch_size=recipe.train.batch_size,
        transforms=transforms,
        seed=recipe.train.seed,
        num_workers=recipe.data.num_workers,
    ) as loader:
        report("reading", 0, len(loader), "compiling first, on a new machine")
        next(iter(loader))
        images, begin, cpu_begin = 0, time.perf_counter(), time.process_time()
        for number, batch in enumerate(loader, start=1):
            images += len(batch.labels)
            report("reading", number, len(loader), "")
        return Feed(
            images=images,
            seconds=time.perf_counter() - begin,
            cpu_seconds=time.process_time() - cpu_begin,
            num_workers=loader.num_workers,
        )


class _Watcher(Progress):
    """Passes the training's progress on: one bar for all epochs."""

    def __init__(self, report: OnProgress) -> None:
        self.device = ""
        self._report = report
        self._batches = 0
        self._total = 0
        self._top1 = ""

    def begin(self, info: RunInfo) -> None:
        self.device = info.device
        self._batches, self._total = info.batches_per_epoch, info.batches_per_epoch * info.epochs

    def batch(self, info: BatchInfo) -> None:
        speed = f"{info.images / info.seconds:,.0f} images/s" if info.seconds else ""
        note = "  ".join(part for part in (speed, self._top1) if part)
        self._report("training", info.epoch * self._batches + info.batch, self._total, note)

    def epoch(self, info: EpochInfo) -> None:
        if info.metrics is not None:
            self._top1 = f"top-1 {100 * info.metrics.top1:.1f}% after epoch {info.epoch + 1}"


def _report(
    place: DemoFolder,
    *,
    summaries: Mapping[str, ConvertSummary],
    feed: Feed,
    trained: TrainReport,
    device: str,
    phases: Mapping[str, float],
) -> DemoReport:
    account = trained.train_account
    return DemoReport(
        folder=str(place.root) if place.kept else None,
        seed=place.settings["seed"],
        classes=trained.classes,
        found=sum(summary.found for summary in summaries.values()),
        written=sum(summary.written for summary in summaries.values()),
        skipped=sum(summary.skipped for summary in summaries.values()),
        skips=tuple((f"{name}/{file}", why) for name, summary in summaries.items() for file, why in summary.skips),
        top1=trained.metrics.top1,
        evaluated=trained.metrics.samples,
        confusion=trained.metrics.confusion,
        epochs=trained.epochs,
        expected=account.expected,
        read=account.read,
        replaced=account.skipped,
        images_per_second=trained.images_per_second,
        wait_share=trained.wait_share,
        device=device,
        feed=feed,
        phases=phases,
        stages=trained.stages,
        commands=next_commands(),
    )


def next_commands() -> tuple[str, str]:
    """What to type to do the same with photographs of one's own, in the way in which fastload was started."""
    # uv tells the programs that it runs where it is itself.
    program = "uv run fastload" if os.environ.get("UV") else "fastload"
    recipe = RECIPE
    with contextlib.suppress(ValueError):  # shorter where it lies below the working directory, as in a checkout
        recipe = RECIPE.relative_to(Path.cwd())
    return (
        f"{program} convert PHOTOS/train shards/train && {program} convert PHOTOS/val shards/val",
        f"{program} train {shlex.quote(str(recipe))} data.train=shards/train data.val=shards/val "
        "report.directory=runs/photos",
    )
