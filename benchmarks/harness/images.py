"""One view of the batches of every loader, and the references that their pixels are compared with."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.pipelines import MEAN, STD, Pipeline


def to_numpy(value: Any) -> NDArray[Any]:
    """A NumPy view of a tensor or array, without a copy where that is possible."""
    if isinstance(value, torch.Tensor):
        return value.cpu().numpy()
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


def wait_for(tensor: torch.Tensor) -> None:
    """Returns when a CUDA device has done what was asked of it for this tensor; the thread sleeps until then."""
    if tensor.is_cuda:
        done = torch.cuda.Event(blocking=True)  # any other way of waiting would count as CPU time
        done.record()
        done.synchronize()


def gpu_free_bytes(device: str) -> int | None:
    """Free memory of the CUDA device; None for the CPU. Starts CUDA, whose own memory is taken after that."""
    return torch.cuda.mem_get_info(device)[0] if device != "cpu" else None


def traced(device: str) -> contextlib.AbstractContextManager[Any]:
    """Records what a CUDA device does, whoever asks it to; yields None for the CPU."""
    if device == "cpu":
        return contextlib.nullcontext()
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])


def device_seconds(trace: Any) -> float | None:
    """Seconds that the kernels and copies of a trace took, those of all streams added up; None without a trace."""
    if trace is None:
        return None
    work = [event for event in trace.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(event.time_range.elapsed_us() for event in work if not event.is_user_annotation) / 1e6


def as_tensors(images: Any, labels: Any) -> tuple[Any, torch.Tensor]:
    """A batch as a training loop takes it: PyTorch's tensors, without a copy where a loader delivers arrays."""
    if isinstance(images, list):
        return [_tensor(image) for image in images], _tensor(labels)
    if isinstance(images, tuple):
        return tuple(as_tensors(view, labels)[0] for view in images), _tensor(labels)
    if isinstance(images, np.ndarray):
        tensor = torch.from_numpy(images)
        return tensor.permute(0, 3, 1, 2) if images.shape[3] == 3 else tensor, _tensor(labels)
    return images, _tensor(labels)


def views_of(images: Any) -> tuple[Any, ...]:
    """The batches of a delivery: one, or one for each view."""
    return images if isinstance(images, tuple) else (images,)


def _tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def as_nhwc(images: Any) -> NDArray[Any]:
    """A batch (PyTorch tensor N x 3 x H x W in any memory format, or array N x H x W x 3) as a N x H x W x 3 view."""
    array = to_numpy(images)
    if array.ndim != 4:
        raise ValueError(f"expected a batch of 4 dimensions, got shape {array.shape}")
    if array.shape[3] == 3:
        return array
    if array.shape[1] == 3:
        return array.transpose(0, 2, 3, 1)
    raise ValueError(f"expected 3 channels at dimension 1 or 3, got shape {array.shape}")


def fault_of_form(images: Any, labels: Any, batch_size: int, pipeline: Pipeline) -> str | None:
    """What is wrong with the shape, type or memory order of a batch; None if nothing is."""
    label_shape = to_numpy(labels).reshape(-1).shape
    if label_shape != (batch_size,):
        return f"labels have shape {label_shape}, expected {batch_size} of them"
    if pipeline.kind == "decode":
        if len(images) != batch_size:
            return f"{len(images)} images, expected {batch_size}"
        shapes = {(to_numpy(image).ndim, to_numpy(image).shape[2], str(to_numpy(image).dtype)) for image in images}
        return (
            None if shapes == {(3, 3, "uint8")} else f"expected uint8 H x W x 3 images, got (ndim, C, dtype) {shapes}"
        )
    if len(views_of(images)) != (2 if pipeline.kind == "views" else 1):
        return f"{len(views_of(images))} views"
    return next(filter(None, (_fault_of_view(view, batch_size, pipeline) for view in views_of(images))), None)


def _fault_of_view(images: Any, batch_size: int, pipeline: Pipeline) -> str | None:
    array = as_nhwc(images)
    expected = (batch_size, pipeline.size, pipeline.size, 3)
    if array.shape != expected or str(array.dtype) != pipeline.dtype:
        return f"got {array.dtype} {array.shape}, expected {pipeline.dtype} {expected}"
    if pipeline.nhwc and not array.flags.c_contiguous:
        return f"values do not lie in NHWC order in memory (strides {array.strides})"
    return None


def grey_levels(images: NDArray[Any]) -> NDArray[np.float32]:
    """Normalised N x H x W x 3 values back on the scale of 0 to 255."""
    levels: NDArray[np.float32] = (images.astype(np.float32) * np.float32(STD) + np.float32(MEAN)) * 255
    return levels


def reference(path: Path, pipeline: Pipeline) -> NDArray[np.float32]:
    """What Pillow makes of one file under a pipeline without chance: H x W x 3 grey levels, 0 to 255."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if pipeline.kind == "decode":
        return np.asarray(image, np.float32)
    width, height = image.size
    if pipeline.kind == "detect":
        image = image.resize((pipeline.size, pipeline.size), Image.Resampling.BILINEAR)
        return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), np.float32)
    if pipeline.kind in ("train", "views"):
        side = min(width, height)
        crop_width, crop_height = (side, side) if pipeline.ratio == (1.0, 1.0) else (width, height)
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        box = (left, top, left + crop_width, top + crop_height)
        image = image.resize((pipeline.size, pipeline.size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), np.float32)
    short, long = sorted(image.size)
    longer = int(pipeline.resize * long / short)
    grid = (longer, pipeline.resize) if width >= height else (pipeline.resize, longer)
    left, top = (round((side - pipeline.size) / 2.0) for side in grid)
    image = image.resize(grid, Image.Resampling.BILINEAR)
    return np.asarray(image.crop((left, top, left + pipeline.size, top + pipeline.size)), np.float32)
