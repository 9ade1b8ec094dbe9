"""One training epoch: batches in, steps out, with the log, the clock and the account kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastload.errors import FastloadError
from fastload.train.clock import Clock
from fastload.train.distributed import World, all_reduce_sum, gather_json
from fastload.train.feed import Feed
from fastload.train.journal import Journal
from fastload.train.progress import BatchInfo, Progress
from fastload.train.state import Account, RunState, read_ledger
from fastload.train.stepper import Stepper
from fastload.transforms import Transform


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """What an epoch does, in numbers.

    Attributes:
        accumulate: Batches in one step.
        train_samples: Size of the training data.
        global_batch: Images of one full batch over all processes.
        transforms: Epoch -> training transforms.
        resolution: Epoch -> side of the training images in pixels.
        log_every: Steps between two lines of the log.
        save_every_steps: Steps between two checkpoints within an epoch, or None.
    """

    accumulate: int
    train_samples: int
    global_batch: int
    transforms: Callable[[int], Sequence[Transform]]
    resolution: Callable[[int], int]
    log_every: int
    save_every_steps: int | None


class EpochTrainer:
    """Trains one epoch after the other.

    Args:
        plan: What an epoch does.
        stepper: The network and its optimiser.
        loader: This process's share of the training data.
        world: The processes.
        state: Where the run stands; kept up to date.
        journal: Its log.
        progress: Who draws it.
        save: Writes the checkpoint ``last``, given the Loader's position.
    """

    def __init__(
        self,
        plan: EpochPlan,
        *,
        stepper: Stepper,
        loader: Feed,
        world: World,
        state: RunState,
        journal: Journal,
        progress: Progress,
        save: Callable[[dict[str, Any]], None],
    ) -> None:
        self.plan = plan
        self.stepper = stepper
        self.loader = loader
        self.world = world
        self.state = state
        self.journal = journal
        self.progress = progress
        self._save = save
        # Sums of this process since the last line of the log, and since the epoch began.
        self._logged_loss = torch.zeros((), dtype=torch.float64, device=world.device)
        self._epoch_loss = torch.zeros((), dtype=torch.float64, device=world.device)
        self._logged_images = 0
        self._last_loss: float | None = None
        self._live_images = 0

    def run(self, loader_state: dict[str, Any] | None = None) -> bool:
        """Trains to the end of the epoch at which the state stands.

        Args:
            loader_state: The Loader's position, where a run is resumed within the epoch.

        Returns:
            Whether the last step falls on ``save_every_steps``: that checkpoint is left to the caller, who evaluates
            first.
        """
        plan, state, loader, stepper = self.plan, self.state, self.loader, self.stepper
        self._begin(loader_state)
        clock, due, count = Clock(self.world.device), False, len(loader)
        base = replace(state), replace(state.account, named=list(state.account.named))
        batches = iter(loader)
        while True:
            with clock.waiting():
                batch = next(batches, None)
            if batch is None:
                break
            first = state.batch - state.batch % plan.accumulate
            last = min(first + plan.accumulate, count)
            if state.batch == first:
                stepper.begin_step(state.epoch + first / count)
            self._one_batch(batch, first, last, count)
            if state.batch == last:
                stepper.finish_step()
                state.step += 1
                if state.step % plan.log_every == 0:
                    self._log(clock, count)
                due = plan.save_every_steps is not None and state.step % plan.save_every_steps == 0
                if due and state.batch < count:
                    self._bring_up_to_date(clock, *base)
                    self._save(loader.state_dict())
            self._show(clock)
        self._bring_up_to_date(clock, *base)
        return due

    def _begin(self, loader_state: dict[str, Any] | None) -> None:
        loader, state = self.loader, self.state
        loader.set_transforms(self.plan.transforms(state.epoch))
        if loader_state is None:
            loader.set_epoch(state.epoch)
        else:
            loader.load_state_dict(loader_state)
        self.stepper.begin_epoch()
        self._logged_loss.zero_()
        self._logged_images = self._live_images = 0
        # What a checkpoint brought is the sum over all processes: rank 0 alone carries it on.
        self._epoch_loss.fill_(state.loss_sum if self.world.is_main else 0.0)

    def _one_batch(self, batch: Any, first: int, last: int, count: int) -> None:
        state = self.state
        loss = self.stepper.accumulate(
            batch,
            number=state.epoch * count + state.batch,
            total=self._samples_in(first, last),
            last=state.batch + 1 == last,
        )
        self._logged_loss += loss
        self._epoch_loss += loss
        images = self._samples_in(state.batch, state.batch + 1)
        self._logged_images += images
        self._live_images += images
        state.images += images
        state.batch += 1

    def _samples_in(self, first: int, last: int) -> int:
        """Samples of all processes in batches first <= b < last of an epoch; the very last may not be full."""
        size = self.plan.global_batch
        return min(last * size, self.plan.train_samples) - first * size

    def _log(self, clock: Clock, count: int) -> None:
        """Reads the loss, the one time that the host waits for the device, and writes it down."""
        loss_sum = self._logged_loss.clone()
        all_reduce_sum(self.world, loss_sum)
        loss = float(loss_sum.item()) / max(self._logged_images, 1)
        self._logged_loss.zero_()
        self._logged_images = 0
        self._last_loss = loss
        state = self.state
        if not math.isfinite(loss):
            raise FastloadError(
                f"the training loss is {loss} at step {state.step} (epoch {state.epoch}): lower optimizer.lr, lengthen "
                "the warmup, or set train.clip_norm"
            )
        position = state.epoch + state.batch / count
        state.loss_curve.append([position, loss])
        times = clock.read()
        self.journal.write(
            "train",
            step=state.step,
            epoch=position,
            loss=loss,
            lr=self.stepper.lr,
            resolution=self.plan.resolution(state.epoch),
            images_per_second=self._live_images / max(times.seconds, 1e-9),
            wait_share=times.wait_seconds / max(times.seconds, 1e-9),
            host_wait_share=times.host_wait_seconds / max(times.seconds, 1e-9),
        )

    def _show(self, clock: Clock) -> None:
        if not self.world.is_main:
            return
        times = clock.read()
        self.progress.batch(
            BatchInfo(
                epoch=self.state.epoch,
                batch=self.state.batch,
                step=self.state.step,
                resolution=self.plan.resolution(self.state.epoch),
                lr=self.stepper.lr,
                loss=self._last_loss,
                images=self._live_images,
                seconds=times.seconds,
                wait_seconds=times.wait_seconds,
                host_wait_seconds=times.host_wait_seconds,
            )
        )

    def _bring_up_to_date(self, clock: Clock, base: RunState, base_account: Account) -> None:
        """Puts the sums of all processes, since the run or this epoch began, into the state."""
        state = self.state
        loss_sum = self._epoch_loss.clone()
        all_reduce_sum(self.world, loss_sum)
        times = clock.read_when_idle()
        state.loss_sum = float(loss_sum.item())
        state.train_images = base.train_images + self._live_images
        state.train_seconds = base.train_seconds + times.seconds
        state.wait_seconds = base.wait_seconds + times.wait_seconds
        state.host_wait_seconds = base.host_wait_seconds + times.host_wait_seconds
        state.account = replace(base_account, named=list(base_account.named))
        for part in gather_json(self.world, read_ledger(self.loader.stats().epoch)):
            state.account.add(part)
