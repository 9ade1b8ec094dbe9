"""A recipe's network as a contestant: trained on pixels that are there already, and on what the Loader delivers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

import torch

from fastload.batch import Batch
from fastload.dataset import open_dataset
from fastload.loader import Loader
from fastload.recipe import parse_recipe
from fastload.train.build import backends, build_stepper
from fastload.train.data import epoch_resolution, epoch_transforms, resident_batch
from fastload.train.distributed import World, choose_device
from fastload.train.labels import check_classes
from fastload.train.stepper import choose_precision
from fastload.train.threads import training_threads
from fastload.transforms.config import to_config

# Images of the step by which it is estimated what a whole one takes.
_PROBE: Final = 8
# Steps before the clock starts: cudnn chooses its algorithms, torch.compile compiles, the Loader fills.
_WARM_UP: Final = 2


class ModelContestant:
    """The network of a recipe in one process, whatever the number of processes of the recipe."""

    def __init__(self, recipe: Mapping[str, Any]) -> None:
        self._recipe = parse_recipe(recipe)
        self._place = World(rank=0, size=1, device=choose_device(self._recipe.train.device))
        self._precision = choose_precision(self._recipe.train.amp, self._place.device)
        self._resolution = epoch_resolution(self._recipe, 0)
        self._transforms = epoch_transforms(self._recipe, self._precision, 0)
        data = self._recipe.data
        self._loader_options: dict[str, Any] = {
            "engine": data.engine,
            "device": str(self._place.device) if self._place.device.type == "cuda" else None,
            "shuffle": data.shuffle,
            "prefetch": data.prefetch,
            "seed": self._recipe.train.seed,
        }
        self._stack = ExitStack()
        self._stack.enter_context(backends(self._recipe, self._place))
        self._stack.enter_context(training_threads(self._place.device, self._recipe.train.num_threads))
        self._dataset = self._stack.enter_context(
            open_dataset(data.train, verify=data.verify, cache_dir=data.cache_dir, cache_bytes=data.cache_bytes)
        )
        self._steps = 0
        self._rows = self._recipe.train.batch_size

    def plan(self) -> dict[str, Any]:
        """What the recipe asks of a loader, and the facts of its network."""
        return {
            "transforms": to_config(self._transforms),
            "batch_size": self._recipe.train.batch_size,
            "channels_last": self._recipe.model.channels_last,
            "loader": self._loader_options,
            "device": str(self._place.device),
            "model": self._recipe.model.name,
            "resolution": self._resolution,
        }

    def prepare(self, seconds: float) -> dict[str, Any]:
        """Builds the network and takes its first steps; chooses a batch whose step takes half of ``seconds`` at most.

        On a GPU the batch is the recipe's in any case.
        """
        _, num_classes = check_classes(self._dataset, self._dataset, num_classes=self._recipe.model.num_classes)
        self._num_classes = num_classes
        self._stepper = build_stepper(self._recipe, self._place, self._precision, num_classes)
        self._stepper.begin_epoch()
        if self._place.device.type == "cpu":
            probe = self._random_batch(min(_PROBE, self._rows))
            self._step(probe)
            begin = time.perf_counter()
            self._step(probe)
            per_image = (time.perf_counter() - begin) / len(probe)
            self._rows = min(self._rows, max(_PROBE, int(seconds / 2 / per_image) // _PROBE * _PROBE))
        self._random = self._random_batch(self._rows)
        for _ in range(_WARM_UP):
            self._step(self._random)
        return {"batch_size": self._rows, "copy_images_per_second": self._copy_speed()}

    def measure_model(self, seconds: float) -> dict[str, Any]:
        """Trains on random pixels."""
        images, begin = 0, self._now()
        while time.perf_counter() - begin < seconds:
            self._step(self._random)
            images += self._rows
        return {"images": images, "seconds": self._now() - begin}

    def measure_together(self, workers: int, seconds: float) -> dict[str, Any]:
        """Trains on what the Loader delivers."""
        with Loader(
            self._dataset,
            batch_size=self._rows,
            transforms=self._transforms,
            num_workers=workers,
            on_error="skip",
            rank=0,
            world_size=1,
            memory_format="channels_last" if self._recipe.model.channels_last else "contiguous",
            **self._loader_options,
        ) as loader:
            batches = _endless(loader)
            for _ in range(_WARM_UP):
                self._step(next(batches))
            images, waited, begin = 0, 0.0, self._now()
            while (asked := time.perf_counter()) - begin < seconds:
                batch = next(batches)
                waited += time.perf_counter() - asked
                self._step(batch)
                images += len(batch)
            return {"images": images, "seconds": self._now() - begin, "wait_seconds": waited}

    def close(self) -> None:
        """Closes the data set and puts torch's switches back."""
        self._stack.close()

    def _now(self) -> float:
        """The time, once the device has done what it was given."""
        if self._place.device.type == "cuda":
            torch.cuda.synchronize(self._place.device)
        return time.perf_counter()

    def _random_batch(self, rows: int) -> Batch:
        return resident_batch(self._recipe, self._place, self._precision, self._num_classes, rows, self._resolution)

    def _step(self, batch: Batch) -> None:
        accumulate = self._recipe.train.accumulate
        if self._steps % accumulate == 0:
            self._stepper.begin_step(0.0)
        last = (self._steps + 1) % accumulate == 0
        self._stepper.accumulate(batch, number=self._steps, total=len(batch) * accumulate, last=last)
        if last:
            self._stepper.finish_step()
        self._steps += 1

    def _copy_speed(self) -> float | None:
        """Images that can be copied from pinned memory to the device each second; None on the CPU."""
        if self._place.device.type == "cpu":
            return None
        images, copies = self._random.images.cpu().pin_memory(), 5
        images.to(self._place.device, non_blocking=True)
        begin = self._now()
        for _ in range(copies):
            images.to(self._place.device, non_blocking=True)
        return copies * self._rows / (self._now() - begin)


def _endless(loader: Loader) -> Iterator[Batch]:
    while True:
        yield from loader
