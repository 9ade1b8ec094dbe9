"""DALI on the CPU (device_id=None): fused random-crop decoding, or a whole decode followed by the resize."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from benchmarks.harness.datasets import ANNOTATIONS
from benchmarks.harness.loaders import Running, Task
from benchmarks.harness.pipelines import MEAN, STD, Pipeline
from benchmarks.peers._dali_augment import augmented, erased

_DTYPES = {"float16": types.FLOAT16, "float32": types.FLOAT, "uint8": types.UINT8}
_RESIZE: dict[str, Any] = {"interp_type": types.INTERP_LINEAR, "antialias": True}


class Loader(Running):
    """The file reader, prefetching two batches; float32 leaves as CHW, which DALI writes faster than HWC."""

    def __init__(self, task: Task, *, fused: bool) -> None:
        self._task = task
        self._photographs = len(list(task.data.iterdir())) if task.pipeline.kind == "detect" else 0
        build = pipeline_def(
            batch_size=task.batch_size,
            num_threads=task.threads,
            device_id=None,
            seed=1,
            prefetch_queue_depth=2,
            enable_conditionals=bool(task.pipeline.augment),
        )
        graph = _boxes_graph if task.pipeline.kind == "detect" else _graph
        self._pipeline = build(graph)(task, fused)
        self._pipeline.build()

    def epoch(self, number: int) -> Iterator[tuple[Any, ...]]:
        kind = self._task.pipeline.kind
        for _ in range(self._task.samples // self._task.batch_size):
            *images, labels = self._pipeline.run()
            if kind == "decode":
                yield [np.asarray(images[0][i]) for i in range(len(images[0]))], np.asarray(labels.as_tensor())
            elif kind == "views":
                yield tuple(np.asarray(view.as_tensor()) for view in images), np.asarray(labels.as_tensor())
            elif kind == "detect":
                yield self._with_boxes(*images, labels)
            else:
                yield np.asarray(images[0].as_tensor()), np.asarray(labels.as_tensor())

    def _with_boxes(self, images: Any, boxes: Any, classes: Any, numbers: Any) -> tuple[Any, ...]:
        size = self._task.pipeline.size
        targets = [
            (np.asarray(boxes[i]) * np.float32(size), np.array(classes[i]).reshape(-1)) for i in range(len(boxes))
        ]
        labels = np.array(numbers.as_tensor()).reshape(-1) % self._photographs
        return np.asarray(images.as_tensor()), labels, targets


def _graph(task: Task, fused: bool) -> tuple[Any, ...]:
    pipeline = task.pipeline
    files, labels = fn.readers.file(
        file_root=str(task.data), random_shuffle=True, initial_fill=1024, name="files", read_ahead=False
    )
    if pipeline.kind == "decode":
        return fn.decoders.image(files, device="cpu", output_type=types.RGB), labels
    if pipeline.kind == "eval":
        images = fn.decoders.image(files, device="cpu", output_type=types.RGB)
        # Without subpixel_scale, and with the crop's place truncated, half of the images agree with torchvision to
        # 0.2 grey levels; the others lie a pixel beside, because the longer side or the place was rounded otherwise.
        images = fn.resize(images, resize_shorter=pipeline.resize, subpixel_scale=False, **_RESIZE)
        return _stored(images, pipeline, 0), labels
    if fused and pipeline.kind == "train":
        images = fn.decoders.image_random_crop(
            files,
            device="cpu",
            output_type=types.RGB,
            random_area=list(pipeline.scale),
            random_aspect_ratio=list(pipeline.ratio),
        )
        return _finished(fn.resize(images, size=[pipeline.size, pipeline.size], **_RESIZE), pipeline), labels
    images = fn.decoders.image(files, device="cpu", output_type=types.RGB)
    views = [_finished(_crop(images, pipeline), pipeline) for _ in range(2 if pipeline.kind == "views" else 1)]
    return (*views, labels)


def _crop(images: Any, pipeline: Pipeline) -> Any:
    return fn.random_resized_crop(
        images,
        size=[pipeline.size, pipeline.size],
        random_area=list(pipeline.scale),
        random_aspect_ratio=list(pipeline.ratio),
        **_RESIZE,
    )


def _finished(images: Any, pipeline: Pipeline) -> Any:
    """A crop as it is stored; the last operator flips it, but where what is done to it does not commute with flips."""
    mirror = fn.random.coin_flip(probability=pipeline.flip)
    return erased(_stored(augmented(images, pipeline), pipeline, mirror), pipeline)


def _stored(images: Any, pipeline: Pipeline, mirror: Any) -> Any:
    return fn.crop_mirror_normalize(
        images,
        crop=(pipeline.size, pipeline.size),
        rounding="truncate",
        mirror=mirror,
        dtype=_DTYPES[pipeline.dtype],
        output_layout="HWC" if pipeline.nhwc else "CHW",
        mean=[255 * value for value in MEAN],
        std=[255 * value for value in STD],
    )


def _boxes_graph(task: Task, fused: bool) -> tuple[Any, ...]:
    """As DALI's example for SSD: the crop that the boxes allow is decoded alone."""
    pipeline = task.pipeline
    files, boxes, classes, numbers = fn.readers.coco(
        file_root=str(task.data),
        annotations_file=str(task.data.parent / ANNOTATIONS),
        ltrb=True,
        ratio=True,
        image_ids=True,
        random_shuffle=True,
        initial_fill=1024,
        name="files",
    )
    # torchvision's options: the image as it is, or one of these overlaps.
    thresholds, scaling, ratio = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9], [0.3, 1.0], [0.5, 2.0]
    if not pipeline.chance:
        thresholds, scaling, ratio = [0.0], [1.0, 1.0], [1.0, 1.0]
    anchor, shape, boxes, classes = fn.random_bbox_crop(
        boxes,
        classes,
        bbox_layout="xyXY",
        allow_no_crop=True,
        threshold_type="iou",
        thresholds=thresholds,
        scaling=scaling,
        aspect_ratio=ratio,
        num_attempts=40,
    )
    images = fn.decoders.image_slice(files, anchor, shape, device="cpu", output_type=types.RGB)
    images = fn.resize(images, size=[pipeline.size, pipeline.size], **_RESIZE)
    mirror = fn.random.coin_flip(probability=pipeline.flip)
    boxes = fn.bb_flip(boxes, ltrb=True, horizontal=mirror)
    return _stored(augmented(images, pipeline), pipeline, mirror), boxes, classes, numbers
