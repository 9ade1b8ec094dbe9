"""The one DALI pipeline, and the only place that imports nvidia.dali: encoded images and arguments in, pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from fastload.augment.parameters import Output
from fastload.engine.dali.arguments import Arguments
from fastload.engine.dali.flight import Source
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

_ARRAYS: Final = ("cut", "mirror", "roi", "size", "canvas", "place")
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


class Form(NamedTuple):
    """What a pipeline can do.

    Attributes:
        rows: Images of a batch, at most.
        levels: Whether it puts out grey levels for operations behind it, in place of what the loader wants.
        separate: Whether each view is decoded from a file of its own, because sources are worked on first.
    """

    rows: int
    levels: bool = False
    separate: bool = False

    def joined(self, other: Form) -> Form:
        """One that can do what either can."""
        return Form(max(self.rows, other.rows), self.levels or other.levels, self.separate or other.separate)


class Graph:
    """decode -> (for each view) cut -> resample -> place, mirror, scale, store; up to DEPTH batches at once.

    For one thread.

    Args:
        output: The form of every image.
        form: What is asked of it.
        num_threads: DALI's threads on the CPU.
        device_id: Number of the CUDA device, or None for the CPU alone.
        exact_regions: Whether regions may be decoded by themselves (see probe.py).

    Raises:
        MissingExtraError: DALI is not installed.
        ConfigError: DALI has no such interpolation.
        FastloadError: DALI cannot be started; with its own words.
    """

    def __init__(
        self, output: Output, form: Form, *, num_threads: int, device_id: int | None, exact_regions: bool
    ) -> None:
        self._device = "cpu" if device_id is None else "mixed"
        if form.levels:
            output = output.as_levels().altered(memory_format="channels_last")
        views = len(output.views)
        # One file for all views: of what is decoded each then takes its own part.
        self._shared = views > 1 and not form.separate
        self._num_sources = views if form.separate else 1
        dali = import_dali()
        try:
            self._pipeline = dali.Pipeline(
                batch_size=form.rows,
                num_threads=num_threads,
                device_id=device_id,
                prefetch_queue_depth=DEPTH,
                exec_dynamic=True,  # outputs stay the user's, and operators reuse one pool of memory
            )
            with self._pipeline:
                self._pipeline.set_outputs(*self._define(dali, output, exact_regions))
            self._pipeline.build()
            self._prime(output)
        except RuntimeError as error:
            raise FastloadError(f"DALI cannot be started: {_own_words(error)}") from error

    def _define(self, dali: Any, output: Output, exact_regions: bool) -> list[Any]:
        fn, types = dali.fn, dali.types

        def rows_of(name: str, dtype: Any, ndim: int = 1) -> Any:
            return fn.external_source(name=name, dtype=dtype, ndim=ndim, no_copy=True)

        decoded = [
            decode_region(
                dali,
                rows_of(f"encoded{number}", types.UINT8),
                rows_of(f"region{number}", types.INT32),
                self._device,
                exact_regions=exact_regions,
            )
            for number in range(self._num_sources)
        ]
        made = []
        for number, view in enumerate(output.views):
            images = decoded[number % self._num_sources]
            if self._shared:
                cut = rows_of(f"cut{number}", types.INT32)
                images = fn.slice(images, start=cut[0:2], shape=cut[2:4], axes=(0, 1))
            roi, size, canvas, place = (rows_of(f"{name}{number}", types.FLOAT) for name in _ARRAYS[2:])
            images = fn.resize(images, size=size, roi_start=roi[0:2], roi_end=roi[2:4], **_filter(types, view))
            mirror = rows_of(f"mirror{number}", types.INT32, 0)
            made.append(_store(dali, images, view, canvas, place, mirror))
        return made

    def _prime(self, output: Output) -> None:
        """Runs DEPTH batches of one black image: DALI's first call takes so many at once, and reserves its memory."""
        whole = np.array([[0, 0, 8, 8]], np.int32)
        views = [
            Arguments(
                cut=whole,
                roi=whole.astype(np.float32),
                size=np.array([[view.height, view.width]], np.float32),
                canvas=np.array([[view.height, view.width]], np.float32),
                place=np.zeros((1, 2), np.float32),
                mirror=np.zeros(1, np.int32),
                seen=np.array([[0, 0, view.height, view.width]], np.int32),
                pad=np.zeros((1, 3)),
                painted=np.zeros(1, np.bool_),
            )
            for view in output.views
        ]
        for _ in range(DEPTH):
            self._feed([Source([_NOTHING], whole)] * self._num_sources, views)
        self._pipeline.schedule_run()
        for _ in range(DEPTH):
            self.collect()

    def _feed(self, sources: Sequence[Source], views: Sequence[Arguments]) -> None:
        feed = self._pipeline.feed_input
        for number, source in enumerate(sources):
            feed(f"encoded{number}", source.encoded)
            feed(f"region{number}", np.ascontiguousarray(source.regions))
        for number, arguments in enumerate(views):
            for name in _ARRAYS if self._shared else _ARRAYS[1:]:
                feed(f"{name}{number}", np.ascontiguousarray(getattr(arguments, name)))

    def start(self, sources: Sequence[Source], views: Sequence[Arguments]) -> None:
        """Begins a batch; all arrays must stay as they are until it is collected.

        Args:
            sources: What is decoded, for each view or once for all.
            views: What is made of it in each view; the cuts in what is decoded.

        Raises:
            BatchRefused: DALI reports a fault, of this batch or of one before it.
        """
        try:
            self._feed(sources, views)
            self._pipeline.schedule_run()
        except RuntimeError as error:
            raise BatchRefused(_own_words(error)) from error

    def collect(self) -> list[Any]:
        """Images of the oldest batch that was begun, n of each view: DALI's tensors, for ``torch.from_dlpack``.

        Raises:
            BatchRefused: DALI could not decode an image, or reports another fault.
        """
        try:
            outputs = self._pipeline.share_outputs()
            self._pipeline.release_outputs()
            return [images.as_tensor() for images in outputs]
        except (RuntimeError, IndexError) as error:
            raise BatchRefused(_own_words(error)) from error


def _store(dali: Any, images: Any, view: Output, canvas: Any, place: Any, mirror: Any) -> Any:
    """What was resampled, in its place on the canvas, mirrored, scaled, in its type and memory format."""
    types = dali.types
    kinds = {
        "uint8": types.UINT8,
        "float16": types.FLOAT16,
        "bfloat16": types.FLOAT,  # DALI stores none: the engine rounds
        "float32": types.FLOAT,
    }
    return dali.fn.crop_mirror_normalize(
        images,
        crop=canvas,
        crop_pos_y=place[0],
        crop_pos_x=place[1],
        mirror=mirror,
        out_of_bounds_policy="pad",
        fill_values=list(view.bias),
        mean=[-bias / scale for bias, scale in zip(view.bias, view.scale, strict=True)],
        std=[1.0 / scale for scale in view.scale],
        dtype=kinds[view.dtype],
        output_layout="HWC" if view.memory_format == "channels_last" else "CHW",
    )


def decode_region(dali: Any, encoded: Any, region: Any, device: str, *, exact_regions: bool) -> Any:
    """The pixels ``region`` (top, left, height, width) of each encoded image, as an operator of the graph.

    Where it is exact, decoding the region alone saves its surroundings the transform and the conversion of colours:
    1.0 in place of 1.57 ms of CPU time for a random crop (device="cpu"; 400 ImageNet photographs).
    """
    options = {"output_type": dali.types.RGB, "adjust_orientation": False, **_decoder_options(device)}
    part = {"start": region[0:2], "shape": region[2:4], "axes": (0, 1)}
    if exact_regions:
        return dali.fn.decoders.image_slice(encoded, **part, **options)
    return dali.fn.slice(dali.fn.decoders.image(encoded, **options), **part)


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
    for view in output.views:
        if (view.interpolation, view.antialias) not in _FILTERS:
            raise ConfigError(
                f'engine="dali" has no {view.interpolation} interpolation with antialias={view.antialias} that equals '
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
