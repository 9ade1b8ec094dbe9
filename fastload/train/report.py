"""What a run came to: the numbers, and the files that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastload.stats import Span
from fastload.train.figures import draw_confusion, draw_curves
from fastload.train.journal import write_json
from fastload.train.metrics import Metrics
from fastload.train.state import Account, RunState

REPORT, CONFUSION, CONFUSION_PNG, CURVES_PNG = "report.json", "confusion.json", "confusion.png", "curves.png"


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """The result of a run, the same on every process.

    Attributes:
        directory: Folder of the run: report.json, log.jsonl, the figures, checkpoints/last and checkpoints/best.
        metrics: The last evaluation: top1, top5, precision, recall, f1, loss, confusion.
        classes: Name of each class, in label order.
        metric, best, best_epoch: The watched metric, its best value, and the epochs done when it was reached.
        epochs, steps: Epochs and steps that were done, those before a resume included.
        stopped_early: Whether early stopping ended the run.
        train_images: Images trained on, over all processes.
        train_seconds: Wall seconds for them, evaluation and checkpoints not counted.
        images_per_second: Their ratio.
        wait_share: Share of train_seconds for which rank 0's CUDA device stood still for want of data, by its own
            clock; without one, for which its host waited. 0 to 1.
        host_wait_share: Share for which rank 0's host waited.
        compile_seconds: Seconds before training in which this process compiled the network; 0 where it did not.
        graphs: Graphs that were compiled meanwhile, and in training itself, where there should be none.
        synthetic: Whether the data were random pixels and labels: speeds are real then, accuracies mean nothing.
        train_account, eval_account: What was read and skipped in training, and in the last evaluation.
        stages: Seconds and items per stage of this process's training Loader, since this process began.
        counts: Its counters (decoders used, bytes read).
        engine: What it read with, and why.
    """

    directory: str
    metrics: Metrics
    classes: tuple[str, ...]
    metric: str
    best: float
    best_epoch: int
    epochs: int
    steps: int
    stopped_early: bool
    train_images: int
    train_seconds: float
    images_per_second: float
    wait_share: float
    host_wait_share: float
    compile_seconds: float
    graphs: tuple[int, int]
    synthetic: bool
    train_account: Account
    eval_account: Account
    stages: dict[str, Span]
    counts: dict[str, int]
    engine: str

    @property
    def top1(self) -> float:
        """Share of the evaluated samples whose class came first."""
        return self.metrics.top1

    def to_json(self) -> dict[str, Any]:
        """Everything but the confusion matrix, as plain data."""
        data = asdict(self)
        data["metrics"].pop("confusion")
        return data


def make_report(
    directory: Path,
    *,
    state: RunState,
    metrics: Metrics,
    classes: Sequence[str],
    metric: str,
    eval_account: Account,
    stages: dict[str, Span],
    counts: dict[str, int],
    engine: str,
    compile_seconds: float,
    graphs: tuple[int, int],
    synthetic: bool,
) -> TrainReport:
    """Puts together what a finished run knows."""
    seconds = state.train_seconds
    return TrainReport(
        directory=str(directory),
        metrics=metrics,
        classes=tuple(classes),
        metric=metric,
        best=float(getattr(metrics, metric)) if state.best is None else state.best,
        best_epoch=state.best_epoch,
        epochs=state.epoch,
        steps=state.step,
        stopped_early=state.stopped_early,
        train_images=state.train_images,
        train_seconds=seconds,
        images_per_second=state.train_images / seconds if seconds else 0.0,
        wait_share=state.wait_seconds / seconds if seconds else 0.0,
        host_wait_share=state.host_wait_seconds / seconds if seconds else 0.0,
        compile_seconds=compile_seconds,
        graphs=graphs,
        synthetic=synthetic,
        train_account=state.account,
        eval_account=eval_account,
        stages=stages,
        counts=counts,
        engine=engine,
    )


def write_report(report: TrainReport, state: RunState, *, figures: bool) -> None:
    """Writes report.json and confusion.json, and the two PNG files."""
    directory = Path(report.directory)
    write_json(directory / REPORT, report.to_json())
    write_json(directory / CONFUSION, {"classes": report.classes, "counts": report.metrics.confusion})
    if figures:
        draw_confusion(directory / CONFUSION_PNG, report.metrics.confusion, report.classes)
        draw_curves(
            directory / CURVES_PNG,
            steps=[(position, loss) for position, loss in state.loss_curve],
            evaluations=[(epoch, loss, top1) for epoch, loss, top1 in state.evaluations],
        )
