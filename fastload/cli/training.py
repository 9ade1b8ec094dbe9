"""How a training run is drawn: bars while it goes on, a table of its numbers at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from fastload.cli.drawing import Bars, facts
from fastload.train import BatchInfo, EpochInfo, Progress, RunInfo, TrainReport


def result_table(report: TrainReport) -> Table:
    """The numbers of a run."""
    metrics, account = report.metrics, report.train_account
    quality = {
        "top-1, top-5": f"{100 * metrics.top1:.2f}%, {100 * metrics.top5:.2f}% of {metrics.samples:,} images",
        "precision, recall, F1": f"{metrics.precision:.4f}, {metrics.recall:.4f}, {metrics.f1:.4f} (macro)",
        f"best {report.metric}": f"{report.best:.4f} after epoch {report.best_epoch}",
    }
    if report.synthetic:
        quality = {"data": "SYNTHETIC: random pixels and labels. Only the speed means anything."}
    compiled = {}
    if report.graphs[0]:
        late = f", and {report.graphs[1]} in the middle of training" if report.graphs[1] else ""
        compiled = {"compiling": f"{report.graphs[0]} graphs in {report.compile_seconds:.0f} s before training{late}"}
    return facts(
        report.directory,
        {
            **quality,
            "epochs, steps": f"{report.epochs}, {report.steps:,}"
            + (" (stopped early)" if report.stopped_early else ""),
            "speed": f"{report.images_per_second:,.0f} images/s",
            "waiting for data": f"{100 * report.wait_share:.1f}% of the time, "
            f"the host {100 * report.host_wait_share:.1f}%",
            **compiled,
            "engine": report.engine,
            "samples": f"{account.expected:,} expected = {account.read:,} read + {account.skipped:,} skipped",
        },
    )


class TrainBars(Progress):
    """Draws a run: one bar per epoch."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._info: RunInfo | None = None

    def begin(self, info: RunInfo) -> None:
        self._info = info
        kind = "synthetic samples (accuracies mean nothing)" if info.synthetic else "samples"
        self._bars.say(
            f"{info.model} ({info.parameters:,} parameters) on {info.train_samples:,} {kind}, {info.epochs} epochs, "
            f"global batch {info.global_batch}, {info.world_size} x {info.device}, amp {info.amp}"
        )

    def batch(self, info: BatchInfo) -> None:
        assert self._info is not None
        speed = info.images / info.seconds if info.seconds else 0.0
        loss = f"loss {info.loss:.3f}  " if info.loss is not None else ""
        self._bars.update(
            f"epoch {info.epoch + 1}/{self._info.epochs} at {info.resolution} px",
            info.batch,
            self._info.batches_per_epoch,
            f"{loss}{speed:,.0f} images/s",
        )

    def evaluating(self, done: int, total: int) -> None:
        self._bars.update("evaluating", done, total)

    def epoch(self, info: EpochInfo) -> None:
        if info.metrics is not None:
            assert self._info is not None
            quality = f"loss {info.loss:.4f}, top-1 {100 * info.metrics.top1:.2f}%, "
            self._bars.say(
                f"epoch {info.epoch + 1}: {'' if self._info.synthetic else quality}"
                f"{info.images_per_second:,.0f} images/s, waiting for data {100 * info.wait_share:.1f}%"
                + (" (best)" if info.is_best and not self._info.synthetic else "")
            )

    def message(self, text: str, details: Mapping[str, Any]) -> None:
        self._bars.say(text)
