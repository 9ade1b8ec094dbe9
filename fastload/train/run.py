"""The course of a run: epoch after epoch, with evaluations, checkpoints and an early end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from fastload.train.distributed import World, broadcast_buffers, gather_json
from fastload.train.epoch import EpochPlan, EpochTrainer
from fastload.train.evaluation import evaluate
from fastload.train.feed import Feed
from fastload.train.journal import Journal
from fastload.train.metrics import Metrics
from fastload.train.progress import EpochInfo, Progress
from fastload.train.saving import Identity, checkpoint_folder, save_run
from fastload.train.state import Account, RunState, read_ledger
from fastload.train.stepper import Stepper


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run does, in numbers.

    Attributes:
        epochs: Passes over the training data.
        num_classes: Outputs of the network.
        flip: Whether an evaluation averages over mirror images.
        eval_every: Epochs between two evaluations.
        save_every_epochs: Epochs between two checkpoints.
        metric: What is best at the best epoch: top1, top5, f1 or loss.
        patience: Evaluations without a better one before the run stops, or None.
        min_delta: What counts as better.
    """

    epochs: int
    num_classes: int
    flip: bool
    eval_every: int
    save_every_epochs: int
    metric: str
    patience: int | None
    min_delta: float


class Run:
    """A run under way.

    Args:
        plan: What it does.
        epoch_plan: What one epoch does.
        stepper: The network and its optimiser.
        train_loader, val_loader: The data, this process's share.
        world: The processes.
        state: Where it stands; kept up to date.
        directory: Where its files are.
        journal: Its log.
        progress: Who draws it.
        identity: What its checkpoints are marked with.

    Attributes:
        eval_account: What the last evaluation read and skipped.
    """

    def __init__(
        self,
        plan: RunPlan,
        epoch_plan: EpochPlan,
        *,
        stepper: Stepper,
        train_loader: Feed,
        val_loader: Feed,
        world: World,
        state: RunState,
        directory: Path,
        journal: Journal,
        progress: Progress,
        identity: Identity,
    ) -> None:
        self.plan = plan
        self.stepper = stepper
        self.val_loader = val_loader
        self.world = world
        self.state = state
        self.directory = directory
        self.journal = journal
        self.progress = progress
        self.identity = identity
        self.eval_account = Account()
        self.trainer = EpochTrainer(
            epoch_plan,
            stepper=stepper,
            loader=train_loader,
            world=world,
            state=state,
            journal=journal,
            progress=progress,
            save=lambda loader_state: self._save("last", loader_state=loader_state),
        )

    def go(self, loader_state: dict[str, Any] | None = None) -> Metrics:
        """Runs to the end and returns the last evaluation.

        Args:
            loader_state: Position in the epoch that is under way, where a run is resumed within it.
        """
        metrics = None
        while self.state.epoch < self.plan.epochs and not self.state.stopped_early:
            metrics = self._epoch(loader_state)
            loader_state = None
        # A finished run that is resumed has nothing to do but to say again how it ended.
        return self.evaluate() if metrics is None else metrics

    def _epoch(self, loader_state: dict[str, Any] | None) -> Metrics | None:
        plan, state = self.plan, self.state
        before = replace(state)
        due = self.trainer.run(loader_state)
        loss = state.loss_sum / max(state.images, 1)
        state.epoch, state.batch, state.loss_sum, state.images = state.epoch + 1, 0, 0.0, 0
        over = state.epoch == plan.epochs
        metrics = self.evaluate() if over or state.epoch % plan.eval_every == 0 else None
        is_best = metrics is not None and self._judge(metrics)
        seconds = max(state.train_seconds - before.train_seconds, 1e-9)
        speed = {
            "images_per_second": (state.train_images - before.train_images) / seconds,
            "wait_share": (state.wait_seconds - before.wait_seconds) / seconds,
            "host_wait_share": (state.host_wait_seconds - before.host_wait_seconds) / seconds,
        }
        self.journal.write("epoch", step=state.step, epoch=state.epoch, loss=loss, **speed)
        if metrics is not None:
            self.journal.write("eval", step=state.step, epoch=state.epoch, best=is_best, **metrics.summary())
        if is_best:
            self._save("best", metrics=metrics)
        if over or state.stopped_early or due or state.epoch % plan.save_every_epochs == 0:
            self._save("last", metrics=metrics)
        if self.world.is_main:
            self.progress.epoch(
                EpochInfo(
                    epoch=state.epoch - 1,
                    loss=loss,
                    metrics=metrics,
                    is_best=is_best,
                    **speed,
                )
            )
            if state.stopped_early:
                text = f"stopped early: no better {plan.metric} in {plan.patience} evaluations"
                self.progress.message(text, {"epoch": state.epoch, "best": state.best})
        # An early end before the evaluation of a last epoch cannot be: only an evaluation ends a run early.
        return metrics if over or state.stopped_early else None

    @property
    def evaluated_model(self) -> nn.Module:
        """The moving average where there is one, else the network."""
        return self.stepper.model if self.stepper.average is None else self.stepper.average.model

    def evaluate(self) -> Metrics:
        """Evaluates the network as it is, on all processes together."""
        models = [self.stepper.model] if self.stepper.average is None else [self.stepper.model, self.evaluated_model]
        broadcast_buffers(self.world, *models)
        loader, world = self.val_loader, self.world
        loader.set_epoch(0)
        metrics = evaluate(
            self.evaluated_model,
            loader,
            num_classes=self.plan.num_classes,
            world=world,
            flip=self.plan.flip,
            autocast=self.stepper.autocast,
            on_batch=self.progress.evaluating if world.is_main else None,
            first_id=first_id_of(loader.batch_size, world),
        )
        self.eval_account = Account()
        for part in gather_json(world, read_ledger(loader.stats().epoch)):
            self.eval_account.add(part)
        return metrics

    def _judge(self, metrics: Metrics) -> bool:
        """Whether this evaluation is the best so far; decides, on every process alike, whether the run goes on."""
        plan, state = self.plan, self.state
        state.evaluations.append([float(state.epoch), metrics.loss, metrics.top1])
        value = float(getattr(metrics, plan.metric))
        score = -value if plan.metric == "loss" else value
        best = -math.inf if state.best is None else -state.best if plan.metric == "loss" else state.best
        # The first evaluation is the best even where its loss is no number.
        is_best = state.best is None or score > best
        state.evaluations_since_best = (
            0 if state.best is None or score > best + plan.min_delta else (state.evaluations_since_best + 1)
        )
        if is_best:
            state.best, state.best_epoch = value, state.epoch
        state.stopped_early = plan.patience is not None and state.evaluations_since_best >= plan.patience
        return is_best

    def _save(self, name: str, *, metrics: Metrics | None = None, loader_state: dict[str, Any] | None = None) -> None:
        if self.world.is_main:
            save_run(
                checkpoint_folder(self.directory, name),
                stepper=self.stepper,
                state=self.state,
                identity=self.identity,
                log_bytes=self.journal.size(),
                loader_state=loader_state,
                metrics=None if metrics is None else metrics.summary(),
            )


def first_id_of(batch_size: int, world: World) -> Callable[[int], int]:
    """Batch of an evaluation -> number of the sample that this process's row 0 stands for."""
    return lambda number: (number * world.size + world.rank) * batch_size
