"""DALI on the CPU (device_id=None): fused random-crop decoding, or a whole decode followed by the resize."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import MEAN, STD

_DTYPES = {"float16": types.FLOAT16, "float32": types.FLOAT, "uint8": types.UINT8}


class Loader(Running):
    """The file reader, prefetching two batches; float32 leaves as CHW, which DALI writes faster than HWC."""

    def __init__(self, task: Task, *, fused: bool) -> None:
        self._task = task
        build = pipeline_def(
            batch_size=task.batch_size, num_threads=task.threads, device_id=None, seed=1, prefetch_queue_depth=2
        )
        self._pipeline = build(_graph)(task, fused)
        self._pipeline.build()

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        for _ in range(self._task.samples // self._task.batch_size):
            images, labels = self._pipeline.run()
            if self._task.pipeline.kind == "decode":
                yield [np.asarray(images[i]) for i in range(len(images))], np.asarray(labels.as_tensor())
            else:
                yield np.asarray(images.as_tensor()), np.asarray(labels.as_tensor())


def _graph(task: Task, fused: bool) -> tuple[Any, Any]:
    pipeline = task.pipeline
    files, labels = fn.readers.file(
        file_root=str(task.data), random_shuffle=True, initial_fill=1024, name="files", read_ahead=False
    )
    if pipeline.kind == "decode":
        return fn.decoders.image(files, device="cpu", output_type=types.RGB), labels
    resize: dict[str, Any] = {"interp_type": types.INTERP_LINEAR, "antialias": True}
    mirror: Any = 0
    if pipeline.kind == "train":
        area, aspect = list(pipeline.scale), list(pipeline.ratio)
        mirror = fn.random.coin_flip(probability=pipeline.flip)
        if fused:
            images = fn.decoders.image_random_crop(
                files, device="cpu", output_type=types.RGB, random_area=area, random_aspect_ratio=aspect
            )
            images = fn.resize(images, size=[pipeline.size, pipeline.size], **resize)
        else:
            images = fn.decoders.image(files, device="cpu", output_type=types.RGB)
            images = fn.random_resized_crop(
                images, size=[pipeline.size, pipeline.size], random_area=area, random_aspect_ratio=aspect, **resize
            )
    else:
        images = fn.decoders.image(files, device="cpu", output_type=types.RGB)
        # Without subpixel_scale, and with the crop's place truncated, half of the images agree with torchvision to
        # 0.2 grey levels; the others lie a pixel beside, because the longer side or the place was rounded otherwise.
        images = fn.resize(images, resize_shorter=pipeline.resize, subpixel_scale=False, **resize)
    images = fn.crop_mirror_normalize(
        images,
        crop=(pipeline.size, pipeline.size),
        rounding="truncate",
        mirror=mirror,
        dtype=_DTYPES[pipeline.dtype],
        output_layout="HWC" if pipeline.nhwc else "CHW",
        mean=[255 * value for value in MEAN],
        std=[255 * value for value in STD],
    )
    return images, labels
