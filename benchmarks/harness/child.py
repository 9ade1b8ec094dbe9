"""Runs one loader in a process of its own and answers the benchmark's requests, one line of JSON each way.

Imports, thread pools and memory of the loaders do not mix, only one works at a time, and rounds interleave. The
consumer is the same for all: it has imported torch, and takes every batch as PyTorch's tensors.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.harness import augmented
from benchmarks.harness import images as views  # imports torch, before any loader
from benchmarks.harness.boxes import fault_of_boxes, fault_of_targets
from benchmarks.harness.chance import DELIVERIES, statistics
from benchmarks.harness.datasets import ANNOTATIONS, read_boxes
from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import PIPELINES
from benchmarks.peers import find

_CHECKED_IMAGES = 200


class Child:
    """Opens the loader that the specification names and serves requests on it."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self._entry = find(specification["peer"])
        self._running: Running | None = None
        self.open(specification)

    def open(self, specification: dict[str, Any]) -> None:
        """Opens the loader for a task; ends the one that was open."""
        self._close()
        self._task = Task(
            pipeline=PIPELINES[specification["pipeline"]],
            batch_size=specification["batch_size"],
            threads=specification["threads"],
            data=Path(specification["data"]),
            samples=specification["samples"],
            device=specification.get("device", "cpu"),
        )
        self._photographs = Path(specification["photographs"])
        self._num_photographs = specification["num_photographs"]
        annotations = self._photographs.parent / ANNOTATIONS
        self._boxes = read_boxes(annotations) if annotations.exists() else []
        self._gpu_free = views.gpu_free_bytes(self._task.device)
        self._running = self._entry.open(self._task)
        self._epoch = 0

    def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def _delivered(self, number: int) -> Iterator[tuple[Any, ...]]:
        assert self._running is not None
        return self._running.epoch(number)

    def epoch(self) -> dict[str, Any]:
        """One epoch, consumed as fast as it comes: counts and wall seconds, with the form of each batch checked."""
        images = 0
        labels_seen = np.zeros(self._task.samples, np.int64)
        batch = None
        first_batch_seconds = 0.0
        begin = time.perf_counter()
        for delivered in self._delivered(self._epoch):
            batch = views.as_tensors(*delivered[:2])
            views.wait_for(batch[1])
            first_batch_seconds = first_batch_seconds or time.perf_counter() - begin
            numbers = views.to_numpy(batch[1]).reshape(-1)
            images += len(numbers)
            np.add.at(labels_seen, numbers, 1)
        seconds = time.perf_counter() - begin
        self._epoch += 1
        if batch is None:
            raise AssertionError("the epoch was empty")
        targets = delivered[2:]
        del delivered
        fault = views.fault_of_form(batch[0], batch[1], self._task.batch_size, self._task.pipeline)
        if fault is None and self._task.pipeline.kind == "detect":
            fault = fault_of_targets(targets[0], self._task.batch_size, self._task.pipeline.size)
        whole_batches = self._task.samples // self._task.batch_size * self._task.batch_size
        # A loader whose workers each drop their own last batch delivers a little less; twice the same is never right.
        if fault is None and not whole_batches * 0.7 <= images <= whole_batches:
            fault = f"{images} images in an epoch, expected {whole_batches}"
        repeats = self._task.samples // self._num_photographs
        if fault is None and not self._entry.endless and labels_seen.max() > repeats:
            fault = f"a photograph came {labels_seen.max()} times in an epoch, it is stored {repeats} times"
        return {
            "images": images,
            "seconds": seconds,
            "first_batch_seconds": first_batch_seconds,
            # Others wait meanwhile, and in the first epoch none has been opened after this one.
            "gpu_bytes": None if self._gpu_free is None else self._gpu_free - views.gpu_free_bytes(self._task.device),
            "fault": fault,
        }

    def gpu_time(self) -> dict[str, Any]:
        """Seconds for which the device worked for an image, over an epoch of its own: tracing takes time itself."""
        with views.traced(self._task.device) as trace:
            answer = self.epoch()
        seconds = views.device_seconds(trace)
        return answer | {"gpu_seconds": None if seconds is None else seconds / answer["images"]}

    def check(self) -> dict[str, Any]:
        """Compares pixels with Pillow's, under the same pipeline without chance, sample by sample."""
        self._close()
        pipeline = self._task.pipeline.for_check(central=self._entry.central_fallback)
        running = self._entry.open(replace(self._task, pipeline=pipeline))
        differences: list[float] = []
        try:
            for images, labels, *targets in running.epoch(0):
                numbers = views.to_numpy(labels).reshape(-1).tolist()
                if pipeline.kind == "detect":
                    fault = fault_of_boxes(targets[0], [self._boxes[label] for label in numbers], pipeline.size)
                    if fault is not None:
                        return {"fault": fault}
                for view in views.views_of(images):
                    if pipeline.kind == "decode":
                        levels = [views.to_numpy(image).astype(np.float32) for image in view]
                    else:
                        levels = views.grey_levels(views.as_nhwc(view))
                    for level, label in zip(levels, numbers, strict=True):
                        expected = views.reference(self._photographs / f"{label:05d}" / "0.jpg", pipeline)
                        if level.shape != expected.shape:
                            return {"fault": f"photograph {label} has shape {level.shape}, expected {expected.shape}"}
                        differences.append(float(np.abs(level - expected).mean()))
                if len(differences) >= _CHECKED_IMAGES:
                    break
        finally:
            running.close()
        mean, worst = float(np.mean(differences)), float(np.max(differences))
        limit = self._entry.limits["train" if pipeline.kind in ("views", "detect") else pipeline.kind]
        fault = None if mean <= limit else f"mean absolute difference {mean:.2f} grey levels, at most {limit} allowed"
        return {"fault": fault, "compared": len(differences), "mean_difference": mean, "worst_image": worst}

    def statistics(self) -> dict[str, Any]:
        """Statistics of at least two deliveries of each photograph, and DELIVERIES altogether, by ordinary epochs."""
        if self._task.pipeline.augment:
            shown = self._task.samples * (2 if self._task.pipeline.kind == "views" else 1)
            epochs = max(1 if shown >= 3 * self._num_photographs else 2, -(-augmented.DELIVERIES // shown))
            first, self._epoch = self._epoch, self._epoch + epochs
            batches = (batch for number in range(epochs) for batch in self._delivered(first + number))
            return {"augmented": augmented.statistics(batches, self._task.pipeline)}
        epochs = max(1 if self._task.samples >= 3 * self._num_photographs else 2, -(-DELIVERIES // self._task.samples))
        first, self._epoch = self._epoch, self._epoch + epochs
        return statistics(batch for number in range(epochs) for batch in self._delivered(first + number))

    def serve(self, requests: TextIO, answer: Callable[[dict[str, Any]], None]) -> None:
        """Answers requests until there are no more."""
        for line in requests:
            match json.loads(line):
                case {"open": specification}:
                    self.open(specification)
                    answer({})
                case "epoch":
                    answer(self.epoch())
                case "collect":
                    gc.collect()
                    answer({})
                case "gpu_time":
                    answer(self.gpu_time())
                case "statistics":
                    answer(self.statistics())
                case "check":
                    answer(self.check())
                case unknown:
                    raise AssertionError(f"unknown request {unknown!r}")


def main() -> None:
    """Reads the specification from the first line of stdin; answers go to the original stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.set_inheritable(answers.fileno(), False)
    os.dup2(2, 1)  # what a loader prints must not end up between the answers

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    try:
        child = Child(json.loads(sys.stdin.readline()))
        answer({"ready": True})
        child.serve(sys.stdin, answer)
    except BaseException:
        answer({"error": traceback.format_exc()})
    answers.flush()
    # Some loaders' threads outlive close(); nothing that follows is measured.
    os._exit(0)


if __name__ == "__main__":
    main()
