"""One step of the optimiser: forward, backward, clipping, the moving average; on one process or many."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastload.errors import ConfigError
from fastload.train.compiling import CompileMode, compile_network, graphs_compiled, uses_cuda_graphs
from fastload.train.distributed import World
from fastload.train.ema import WeightAverage
from fastload.train.model import set_training_mode

Precision = Literal["off", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# CUDA graphs are compiled by the first call, recorded by the second and replayed from the third on.
_WARM_UP_CALLS = 3


def choose_precision(amp: Literal["auto", "off", "bf16", "fp16"], device: torch.device) -> Precision:
    """What ``auto`` means on this device.

    Raises:
        ConfigError: fp16 was asked for on the CPU.
    """
    if amp == "auto":
        if device.type != "cuda":
            return "off"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if amp == "fp16" and device.type != "cuda":
        raise ConfigError("train.amp: fp16 needs a CUDA device; on the CPU set train.amp=off or train.amp=bf16")
    return amp


def autocast_for(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context in which the network runs."""
    if precision == "off":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=_DTYPES[precision])


class Stepper:
    """Moves a network one batch at a time.

    Args:
        model: The network, on the device of ``world``.
        optimizer: Over its trainable parameters.
        world: The processes; gradients are averaged over them.
        lr: Peak learning rate.
        schedule: Position in epochs -> factor of the peak rate.
        precision: What the network runs in. fp16 scales the loss.
        label_smoothing: Of the loss.
        clip_norm, clip_value: Limits of the gradient.
        average: Moving average to update after each step.
        compile: How to compile the network, or None to run it as it is.
        seed: Of dropout and its like.

    Attributes:
        lr: Learning rate of the last step.
        compile_seconds: How long :meth:`warm_up` took.
        graphs: Graphs that it made.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        world: World,
        lr: float,
        schedule: Callable[[float], float],
        precision: Precision = "off",
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        average: WeightAverage | None = None,
        compile: CompileMode | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.world = world
        self.peak_lr = lr
        self.schedule = schedule
        self.autocast = autocast_for(precision, world.device)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=precision == "fp16")
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.average = average
        self.seed = seed
        self.lr = 0.0
        self._parallel = _parallel(model, world) if world.size > 1 else None
        self._plain: Any = model if self._parallel is None else self._parallel
        self._compiled: Any = None if compile is None else compile_network(self._plain, compile)
        self.compile_seconds, self.graphs, self._graphs_after_warm_up = 0.0, 0, 0
        # A gradient that a CUDA graph put out would be overwritten by its next replay: such are added up in memory of
        # their own, as DDP's are in its buckets.
        self._keep_gradients = uses_cuda_graphs(compile, world.device) and self._parallel is None
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def begin_epoch(self) -> None:
        """Puts the network into training mode."""
        set_training_mode(self.model)

    def warm_up(self, batches: Iterable[Any]) -> None:
        """Compiles a graph for the shape of each batch, where the network is to be compiled. Changes no weight.

        Args:
            batches: Full batches of the kinds that will come.

        Raises:
            ConfigError: The network cannot be compiled here.
        """
        if self._compiled is None:
            return
        begin, graphs = time.perf_counter(), graphs_compiled()
        self.begin_epoch()
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        for batch in batches:
            for call in range(_WARM_UP_CALLS):
                self._clear_gradients()
                # On several processes also as within a step of several batches, which does not talk to the others.
                last = call != 1
                self.accumulate(batch, number=0, total=len(batch.valid) * self.world.size, last=last)
        self._clear_gradients()
        with torch.no_grad():
            for buffer, value in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(value)
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        self.compile_seconds = time.perf_counter() - begin
        self._graphs_after_warm_up = graphs_compiled()
        self.graphs = self._graphs_after_warm_up - graphs

    def graphs_since_warm_up(self) -> int:
        """Graphs that were compiled while training went on; there should be none."""
        return 0 if self._compiled is None else graphs_compiled() - self._graphs_after_warm_up

    def begin_step(self, position: float) -> None:
        """Sets the learning rate for the step that begins at ``position`` epochs."""
        self.lr = self.peak_lr * self.schedule(position)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self._clear_gradients()

    def accumulate(self, batch: Any, *, number: int, total: int, last: bool) -> torch.Tensor:
        """Adds the gradient of one batch.

        Args:
            batch: images, labels and valid.
            number: Number of the batch since the beginning of the run; decides dropout together with the rank.
            total: Samples of all batches of this step on all processes; the loss is the mean over them.
            last: Whether the step follows.

        Returns:
            Sum of the losses of this process's samples in this batch, float32, on the device.
        """
        # Random layers restart from (seed, batch, rank): a resumed run needs no state of a generator.
        torch.manual_seed(step_seed(self.seed, number, self.world.rank))
        images, labels, network, counted = self._rows(batch)
        syncing = nullcontext() if self._parallel is None or last else self._parallel.no_sync()
        with syncing:
            with self.autocast():
                loss_sum = self._loss(network, images, labels, counted)
            # DDP divides by the number of processes what it has summed; `total` counts the samples of all of them.
            self.scaler.scale(loss_sum * (self.world.size / total)).backward()  # type: ignore[no-untyped-call]
        return loss_sum.detach()

    def finish_step(self) -> None:
        """Clips, steps, and lets the average follow."""
        if self.clip_norm is not None or self.clip_value is not None:
            self.scaler.unscale_(self.optimizer)
            if self.clip_value is not None:
                nn.utils.clip_grad_value_(self._parameters, self.clip_value)
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(self._parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)

    def _clear_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=not self._keep_gradients)
        if self._keep_gradients:
            for parameter in self._parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)

    def _rows(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor, Any, float]:
        """The batch without its padding, and what to run it with; a rank's that has only padding gets weight 0.

        It is run all the same, as DDP waits for it. A batch cut short is run as it is: no graph is compiled for it.
        """
        valid = int(np.count_nonzero(batch.valid.numpy()))
        rows = len(batch.valid) if valid == 0 else valid
        network = self._plain if self._compiled is None or rows < len(batch.valid) else self._compiled
        images = batch.images[:rows].to(self.world.device)
        labels = batch.labels[:rows].to(self.world.device)
        return images, labels, network, 0.0 if valid == 0 else 1.0

    def _loss(self, network: Any, images: torch.Tensor, labels: torch.Tensor, weight: float) -> torch.Tensor:
        try:
            if self._compiled is not None:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            logits = network(images)
        except Exception as error:
            if self._compiled is not None and type(error).__module__.startswith("torch._"):
                raise ConfigError(
                    f"train.compile: torch.compile could not build the network ({error}); install a C++ compiler or "
                    "set train.compile=false"
                ) from error
            raise
        loss = loss_sum(logits, labels, self.label_smoothing)
        return loss * weight if weight != 1.0 else loss


def loss_sum(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Cross entropy, summed over the samples.

    Args:
        logits: (N, classes).
        labels: int64 (N,), of which -1 counts as class 0; or float32 (N, up to classes), weights of the classes, which
            smoothing spreads as it does those of a single class.
        label_smoothing: Share of the target that is spread over all classes.
    """
    if labels.ndim == 2:
        labels = nn.functional.pad(labels, (0, logits.shape[1] - labels.shape[1]))
    else:
        labels = labels.clamp(min=0)
    return nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)


def step_seed(seed: int, number: int, rank: int) -> int:
    """63 bits from the seed of the run, the number of a batch and the rank."""
    digest = hashlib.blake2b(f"{seed}/{number}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _parallel(model: nn.Module, world: World) -> DistributedDataParallel:
    devices = [world.device.index] if world.device.type == "cuda" else None
    # Every step runs the same network whatever the size of its images. Gradients live in the buckets that are summed.
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, static_graph=True)
