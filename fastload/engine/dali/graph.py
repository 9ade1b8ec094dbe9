"""The one DALI pipeline, and the only place that imports nvidia.dali: encoded images and arguments in, pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment.parameters import Output
from fastload.engine.dali.arguments import Arguments
from fastload.errors import ConfigError, FastloadError, MissingExtraError

# Batches in the pipeline at once: one that is computed while the next one is read and fed.
DEPTH: Final = 2
# Share of the images that the JPEG hardware decodes, of those that it can. DALI's own default for cards that have such
# hardware; not yet measured here.
_HARDWARE_SHARE: Final = 0.65
# What decoders reserve at the beginning, so that they do not allocate in the first epochs: a large photograph.
_RESERVED_WIDTH, _RESERVED_HEIGHT = 1920, 1920
_RESERVED_BYTES: Final = 16 << 20

_FILTERS: Final = {
    ("nearest", False): "INTERP_NN",
    ("nearest", True): "INTERP_NN",
    ("bilinear", False): "INTERP_LINEAR",
    ("bilinear", True): "INTERP_TRIANGULAR",
    ("bicubic", True): "INTERP_CUBIC",
}

_ARRAYS: Final = ("cut", "roi", "size", "canvas", "place", "mirror")
_NOTHING: Final = np.frombuffer(b"P6\n8 8\n255\n" + bytes(192), np.uint8)


class BatchRefused(FastloadError):
    """DALI gave a batch up, and the pipeline with it."""


def import_dali() -> Any:
    """The package nvidia.dali; MissingExtraError where it is not installed."""
    try:
        import nvidia.dali
        import nvidia.dali.fn
        import nvidia.dali.types
    except ImportError as error:
        # The extra brings the wheel for CUDA 13; DALI has another one for CUDA 12, which torch says is in use here.
        install = "nvidia-dali-cuda120" if (torch.version.cuda or "").startswith("12.") else None
        raise MissingExtraError("nvidia.dali", extra="dali", purpose='engine="dali"', install=install) from error
    return nvidia.dali


class Graph:
    """decode -> cut -> resample -> place, mirror, scale, store; up to DEPTH batches at once. For one thread.

    Args:
        output: The form of every image.
        rows: Images of a batch, at most.
        num_threads: DALI's threads on the CPU.
        device_id: Number of the CUDA device, or None for the CPU alone.
        exact_regions: Whether regions may be decoded by themselves (see probe.py).

    Raises:
        MissingExtraError: DALI is not installed.
        ConfigError: DALI has no such interpolation.
        FastloadError: DALI cannot be started; with its own words.
    """

    def __init__(
        self, output: Output, *, rows: int, num_threads: int, device_id: int | None, exact_regions: bool
    ) -> None:
        self._device = "cpu" if device_id is None else "mixed"
        dali = import_dali()
        try:
            self._pipeline = dali.Pipeline(
                batch_size=rows,
                num_threads=num_threads,
                device_id=device_id,
                prefetch_queue_depth=DEPTH,
                exec_dynamic=True,  # outputs stay the user's, and operators reuse one pool of memory
            )
            with self._pipeline:
                self._pipeline.set_outputs(self._define(dali, output, exact_regions))
            self._pipeline.build()
            self._prime(output)
        except RuntimeError as error:
            raise FastloadError(f"DALI cannot be started: {_own_words(error)}") from error

    def _define(self, dali: Any, output: Output, exact_regions: bool) -> Any:
        fn, types = dali.fn, dali.types
        flat = {"ndim": 1, "no_copy": True}
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, **flat)
        cut = fn.external_source(name="cut", dtype=types.INT32, **flat)
        roi = fn.external_source(name="roi", dtype=types.FLOAT, **flat)
        size = fn.external_source(name="size", dtype=types.FLOAT, **flat)
        canvas = fn.external_source(name="canvas", dtype=types.FLOAT, **flat)
        place = fn.external_source(name="place", dtype=types.FLOAT, **flat)
        mirror = fn.external_source(name="mirror", dtype=types.INT32, ndim=0, no_copy=True)
        images = decode_region(dali, encoded, cut, self._device, exact_regions=exact_regions)
        images = fn.resize(images, size=size, roi_start=roi[0:2], roi_end=roi[2:4], **_filter(types, output))
        kinds = {
            "uint8": types.UINT8,
            "float16": types.FLOAT16,
            "bfloat16": types.FLOAT,  # DALI stores none: the engine rounds
            "float32": types.FLOAT,
        }
        return fn.crop_mirror_normalize(
            images,
            crop=canvas,
            crop_pos_y=place[0],
            crop_pos_x=place[1],
            mirror=mirror,
            out_of_bounds_policy="pad",
            fill_values=list(output.bias),
            mean=[-bias / scale for bias, scale in zip(output.bias, output.scale, strict=True)],
            std=[1.0 / scale for scale in output.scale],
            dtype=kinds[output.dtype],
            output_layout="HWC" if output.memory_format == "channels_last" else "CHW",
        )

    def _prime(self, output: Output) -> None:
        """Runs DEPTH batches of one black image: DALI's first call takes so many at once, and reserves its memory."""
        arguments = Arguments(
            cut=np.array([[0, 0, 8, 8]], np.int32),
            roi=np.array([[0, 0, 8, 8]], np.float32),
            size=np.array([[output.height, output.width]], np.float32),
            canvas=np.array([[output.height, output.width]], np.float32),
            place=np.zeros((1, 2), np.float32),
            mirror=np.zeros(1, np.int32),
            seen=np.array([[0, 0, output.height, output.width]], np.int32),
            pad=np.zeros((1, 3)),
            painted=np.zeros(1, np.bool_),
        )
        for _ in range(DEPTH):
            self._feed([_NOTHING], arguments)
        self._pipeline.schedule_run()
        for _ in range(DEPTH):
            self.collect()

    def _feed(self, encoded: Sequence[NDArray[np.uint8]], arguments: Arguments) -> None:
        self._pipeline.feed_input("encoded", list(encoded))
        for name in _ARRAYS:
            self._pipeline.feed_input(name, np.ascontiguousarray(getattr(arguments, name)))

    def start(self, encoded: Sequence[NDArray[np.uint8]], arguments: Arguments) -> None:
        """Begins a batch; all arrays must stay as they are until it is collected.

        Raises:
            BatchRefused: DALI reports a fault, of this batch or of one before it.
        """
        try:
            self._feed(encoded, arguments)
            self._pipeline.schedule_run()
        except RuntimeError as error:
            raise BatchRefused(_own_words(error)) from error

    def collect(self) -> Any:
        """Images of the oldest batch that was begun, n x ``output.shape``: DALI's tensor, for ``torch.from_dlpack``.

        Raises:
            BatchRefused: DALI could not decode an image, or reports another fault.
        """
        try:
            (images,) = self._pipeline.share_outputs()
            self._pipeline.release_outputs()
            return images.as_tensor()
        except (RuntimeError, IndexError) as error:
            raise BatchRefused(_own_words(error)) from error


def decode_region(dali: Any, encoded: Any, cut: Any, device: str, *, exact_regions: bool) -> Any:
    """The pixels ``cut`` (top, left, height, width) of each encoded image, as an operator of the graph.

    Where it is exact, decoding the region alone saves its surroundings the transform and the conversion of colours:
    1.0 in place of 1.57 ms of CPU time for a random crop (device="cpu"; 400 ImageNet photographs).
    """
    options = {"output_type": dali.types.RGB, "adjust_orientation": False, **_decoder_options(device)}
    region = {"start": cut[0:2], "shape": cut[2:4], "axes": (0, 1)}
    if exact_regions:
        return dali.fn.decoders.image_slice(encoded, **region, **options)
    return dali.fn.slice(dali.fn.decoders.image(encoded, **options), **region)


def _decoder_options(device: str) -> dict[str, Any]:
    if device == "cpu":
        return {"device": "cpu"}
    return {
        "device": "mixed",
        "hw_decoder_load": _HARDWARE_SHARE,
        "preallocate_width_hint": _RESERVED_WIDTH,
        "preallocate_height_hint": _RESERVED_HEIGHT,
        "device_memory_padding": _RESERVED_BYTES,
        "host_memory_padding": _RESERVED_BYTES,
    }


def check_interpolation(output: Output) -> None:
    """ConfigError for an interpolation that DALI has not, or has otherwise than torchvision."""
    if (output.interpolation, output.antialias) not in _FILTERS:
        raise ConfigError(
            f'engine="dali" has no {output.interpolation} interpolation with antialias={output.antialias} that equals '
            'torchvision\'s: use engine="cpu", or bilinear'
        )


def _filter(types: Any, output: Output) -> dict[str, Any]:
    name = _FILTERS[output.interpolation, output.antialias]
    return {"interp_type": getattr(types, name), "antialias": output.antialias and output.interpolation != "nearest"}


def _own_words(error: Exception) -> str:
    """The line of DALI's report that says what happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Critical error", "Error in", "File ", "which was")
    telling = [line for line in lines if line and not line.startswith(noise)]
    return telling[-1] if len(telling) == 1 else " ".join(telling)[:500]
