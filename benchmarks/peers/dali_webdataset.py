"""DALI as its documentation writes it: webdataset reader, mixed decoder, random_resized_crop, PyTorch iterator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import MEAN, STD
from benchmarks.peers._dali_augment import augmented, erased

_DTYPES = {"float16": types.FLOAT16, "float32": types.FLOAT}


class Loader(Running):
    """Plain tar shards, a shuffle buffer, everything after the entropy decoding's start on the device."""

    def __init__(self, task: Task) -> None:
        gpu = task.device != "cpu"
        build = pipeline_def(
            batch_size=task.batch_size,
            num_threads=task.threads,
            device_id=0 if gpu else None,
            seed=1,
            prefetch_queue_depth=2,
            enable_conditionals=bool(task.pipeline.augment),
        )
        self._iterator = DALIGenericIterator(
            [build(_graph)(task, sorted(task.data.glob("*.tar")), gpu)],
            ["images", "labels"],
            reader_name="shards",
            last_batch_policy=LastBatchPolicy.DROP,
            auto_reset=True,
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        for outputs in self._iterator:
            batch = outputs[0]
            # A .cls member is text; DALI has no operator that makes a number of it.
            labels = [int(bytes(row).rstrip(b"\0")) for row in batch["labels"].cpu().numpy()]
            yield batch["images"].permute(0, 3, 1, 2), torch.tensor(labels).to(batch["images"].device)


def _graph(task: Task, shards: list[Path], gpu: bool) -> tuple[Any, Any]:
    pipeline = task.pipeline
    jpegs, labels = fn.readers.webdataset(
        paths=[str(shard) for shard in shards],
        ext=["jpg", "cls"],
        random_shuffle=True,
        initial_fill=1024,
        name="shards",
    )
    images = fn.decoders.image(jpegs, device="mixed" if gpu else "cpu", output_type=types.RGB)
    images = fn.random_resized_crop(
        images,
        size=[pipeline.size, pipeline.size],
        random_area=list(pipeline.scale),
        random_aspect_ratio=list(pipeline.ratio),
        interp_type=types.INTERP_LINEAR,
        antialias=True,
    )
    images = fn.crop_mirror_normalize(
        augmented(images, pipeline),
        mirror=fn.random.coin_flip(probability=pipeline.flip),
        dtype=_DTYPES[pipeline.dtype],
        output_layout="HWC" if pipeline.nhwc else "CHW",
        mean=[255 * value for value in MEAN],
        std=[255 * value for value in STD],
    )
    return erased(images, pipeline), fn.pad(labels, fill_value=0)
