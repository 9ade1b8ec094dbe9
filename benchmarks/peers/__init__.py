"""The loaders that are compared: where each is, what it needs, and how close to Pillow its pixels must be."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.loaders import Running, Task

# Largest mean absolute difference to Pillow's antialiased bilinear, in grey levels of 0 to 255, by kind of pipeline.
_ANTIALIASED = {"train": 1.0, "eval": 1.0, "decode": 0.5}
# DALI rounds the longer side and the place of the centre crop otherwise: half of the images lie a pixel beside (2.2).
_DALI = {"train": 1.0, "eval": 3.0, "decode": 0.5}
# FFCV resizes by cv2.INTER_AREA, a box in place of a triangle; for evaluation it first cuts whole pixels out of the
# source, up to half a pixel beside the place where CenterCrop cuts (5.4 measured).
_AREA = {"train": 5.0, "eval": 7.0, "decode": 0.5}
# cv2.INTER_LINEAR does not antialias: sharper where the crop is larger than the output.
_ALIASED = {"train": 8.0, "eval": 8.0, "decode": 0.5}

# DALI has no permutation of channels, and draws the sides of a crop by overlap otherwise, giving up where torchvision
# tries another overlap: boxes are a tenth smaller and a seventh more.
_DALI_ALLOWED = {
    "distort": {"warmth": math.inf, "boxes": 2.0, "box_width": 2.0, "box_height": 2.0},
}

_ALL = ("train", "eval", "decode")
_ON_DEVICE = ("jitter", "jitter-nohue", "randaugment", "trivial", "simclr")
_AUGMENTS = (*_ON_DEVICE, "distort")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One loader.

    Attributes:
        title: What it is called in README's table and plot.
        module: Module of this package with a class ``Loader(task, **options)``.
        requires: Modules that must be installed.
        form: Format of the data that it reads (benchmarks/harness/datasets.py).
        settings: What it is set to, for the table.
        limits: Largest mean absolute difference to Pillow by kind of pipeline.
        kinds: Kinds of pipeline that it offers, where nothing is done but crops and flips.
        augments: Augmentations that it offers (benchmarks/harness/pipelines.py).
        lacks: Why it has no part in the others, where that was looked into.
        allowed: For an augmentation that it defines otherwise than torchvision, measures of
            benchmarks/harness/augmented.py, with how many times the others' tolerance it is allowed.
        options: Keyword arguments of its class.
        endless: Whether its stream runs on past the end of an epoch, so that an epoch's count of one photograph may
            take in some of the next.
        central_fallback: Whether RandomResizedCrop takes the central crop where no crop fits, as torchvision's does;
            DALI places it at random.
    """

    title: str
    module: str
    requires: tuple[str, ...]
    form: str
    settings: str
    limits: Mapping[str, float] = field(default_factory=lambda: _ANTIALIASED)
    kinds: tuple[str, ...] = _ALL
    augments: tuple[str, ...] = ()
    lacks: Mapping[str, str] = field(default_factory=dict)
    allowed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    endless: bool = False
    central_fallback: bool = True

    def missing(self) -> list[str]:
        """Required modules that are not installed here."""
        return [name for name in self.requires if not _installed(name)]

    def open(self, task: Task) -> Running:
        """Imports and starts the loader."""
        loader: Running = importlib.import_module(f"benchmarks.peers.{self.module}").Loader(task, **self.options)
        return loader


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it is not there
        return False


_TORCH = ("torch", "torchvision", "PIL")


def find(peer: str) -> Entry:
    """The entry of a loader in PEERS or GPU_PEERS."""
    return PEERS[peer] if peer in PEERS else GPU_PEERS[peer]


PEERS: dict[str, Entry] = {
    "fastload": Entry(
        title="fastload, shards",
        module="fastload_loader",
        requires=("fastload",),
        form="fastload",
        settings="tar shards of the original bytes with seek indexes, as fastload convert writes them; defaults",
        kinds=("train", "eval"),
        augments=_AUGMENTS,
    ),
    "fastload-lean": Entry(
        title="fastload, least memory",
        module="fastload_loader",
        requires=("fastload",),
        form="fastload",
        settings="the same, two batches in all: prefetch=1, reuse_buffers=True, so that a batch is overwritten once "
        "the next has been asked for (simplejpeg-opencv's is once the one after it has)",
        kinds=("train", "eval"),
        options={"prefetch": 1, "reuse_buffers": True},
    ),
    "fastload-noindex": Entry(
        title="fastload, no seek index",
        module="fastload_loader",
        requires=("fastload",),
        form="fastload-noindex",
        settings="the same shards without seek indexes",
        kinds=("train", "eval"),
    ),
    "fastload-folder": Entry(
        title="fastload, image folder",
        module="fastload_loader",
        requires=("fastload",),
        form="folder",
        settings="the image folder as it is; defaults",
        kinds=("train", "eval"),
    ),
    "fastload-q90": Entry(
        title="fastload, shards",
        module="fastload_loader",
        requires=("fastload", "ffcv"),
        form="fastload-q90",
        settings="tar shards of the JPEGs taken out of FFCV's file: equal bytes with ffcv-q90",
        kinds=("train", "eval"),
    ),
    "fastload-beton": Entry(
        title="fastload, FFCV's file",
        module="fastload_loader",
        requires=("fastload",),
        form="beton-indexed",
        settings="the .beton with the original JPEG bytes, as ffcv-original, and its seek indexes; defaults",
        kinds=("train", "eval"),
    ),
    "fastload-beton-noindex": Entry(
        title="fastload, FFCV's file, no seek index",
        module="fastload_loader",
        requires=("fastload",),
        form="beton-original",
        settings="the same file without seek indexes",
        kinds=("train", "eval"),
    ),
    "fastload-raw": Entry(
        title="fastload, FFCV's file",
        module="fastload_loader",
        requires=("fastload",),
        form="beton-raw",
        settings="a .beton of raw pixels (565 KB an image); defaults",
        kinds=("train", "eval"),
    ),
    "fastload-decode": Entry(
        title="fastload's decoder",
        module="fastload_decode",
        requires=("fastload", "simplejpeg"),
        form="folder",
        settings="our JPEG decoder alone, called by threads by hand; no seek index",
        kinds=("decode",),
    ),
    "ffcv-q90": Entry(
        title="FFCV",
        module="ffcv_beton",
        requires=("ffcv",),
        form="beton-q90",
        settings="its own writer's JPEGs (quality 90); os_cache, random order, float16 by table",
        limits=_AREA,
        kinds=("train", "eval"),
    ),
    "ffcv-original": Entry(
        title="FFCV",
        module="ffcv_beton",
        requires=("ffcv",),
        form="beton-original",
        settings="as ffcv-q90, on a .beton that holds the original JPEG bytes; "
        "RandomBrightness, RandomContrast, RandomSaturation in this order",
        limits=_AREA,
        kinds=("train", "eval"),
        augments=("jitter-nohue",),
        lacks={
            "jitter": "no hue",
            "randaugment": "no RandAugment",
            "trivial": "no TrivialAugment, no RandomErasing",
            "simclr": "no hue, no random grayscale, no blur",
            "distort": "no boxes",
        },
    ),
    "ffcv-raw": Entry(
        title="FFCV",
        module="ffcv_beton",
        requires=("ffcv",),
        form="beton-raw",
        settings="as ffcv-q90, on a .beton of raw pixels",
        limits=_AREA,
        kinds=("train", "eval"),
    ),
    "dali-fused": Entry(
        title="DALI on the CPU, fused",
        module="dali_cpu",
        requires=("nvidia.dali",),
        form="folder",
        settings="CPU, decoders.image_random_crop + resize + crop_mirror_normalize",
        kinds=("train",),
        options={"fused": True},
        limits=_DALI,
        endless=True,
        central_fallback=False,
    ),
    "dali": Entry(
        title="DALI on the CPU",
        module="dali_cpu",
        requires=("nvidia.dali",),
        form="folder",
        settings="CPU, decoders.image + random_resized_crop or resize + crop_mirror_normalize",
        options={"fused": False},
        augments=_AUGMENTS,
        allowed=_DALI_ALLOWED,
        limits=_DALI,
        endless=True,
        central_fallback=False,
    ),
    "torch-pil": Entry(
        title="DataLoader + PIL + v2",
        module="torch_dataloader",
        requires=_TORCH,
        form="folder",
        settings="DataLoader, persistent workers, PIL + v2 (torchvision's reference preset)",
        options={"decoder": "pil", "normalise": "sample"},
    ),
    "torch-io": Entry(
        title="DataLoader + torchvision.io + v2",
        module="torch_dataloader",
        requires=_TORCH,
        form="folder",
        settings="DataLoader, persistent workers, torchvision.io + v2, normalised into a shared batch",
        options={"decoder": "torchvision", "normalise": "store"},
        augments=_AUGMENTS,
    ),
    "albumentations": Entry(
        title="Albumentations, not antialiased",
        module="albumentations_loader",
        requires=("albumentations", "simplejpeg", "cv2", *_TORCH),
        form="folder",
        settings="DataLoader, persistent workers, simplejpeg + Albumentations 2 (OpenCV), LUT into a shared batch",
        limits=_ALIASED,
        kinds=("train",),
        augments=("jitter", "jitter-nohue", "simclr"),
        allowed={augment: {"detail": 2.5} for augment in ("jitter", "jitter-nohue", "simclr")},  # not antialiased
        lacks={
            "randaugment": "no RandAugment",
            "trivial": "no TrivialAugment",
            "distort": "no crop by the overlap with boxes",
        },
    ),
    "webdataset": Entry(
        title="WebDataset",
        module="webdataset_tar",
        requires=("webdataset", *_TORCH),
        form="tar",
        settings="tar shards, batches made in the workers, torchvision.io + v2, normalised into a shared batch",
        options={"decoder": "torchvision", "normalise": "store"},
    ),
    "litdata": Entry(
        title="LitData",
        module="litdata_chunks",
        requires=("litdata", *_TORCH),
        form="litdata",
        settings="64 MB chunks of JPEG bytes, torchvision.io + v2, normalised into a shared batch",
        options={"decoder": "torchvision", "normalise": "store"},
    ),
    "mosaicml": Entry(
        title="MosaicML streaming",
        module="mosaicml_mds",
        requires=("streaming", *_TORCH),
        form="mds",
        settings="local MDS shards of JPEG bytes, torchvision.io + v2, normalised into a shared batch",
        options={"decoder": "torchvision", "normalise": "store"},
    ),
    "spdl": Entry(
        title="SPDL, not antialiased",
        module="spdl_threads",
        requires=("spdl.pipeline", "simplejpeg", "cv2"),
        form="folder",
        settings="threads, a task per batch, batches used again, simplejpeg + OpenCV INTER_LINEAR + LUT",
        limits=_ALIASED,
    ),
    "simplejpeg-opencv": Entry(
        title="OpenCV by hand, not antialiased",
        module="simplejpeg_opencv",
        requires=("simplejpeg", "cv2"),
        form="folder",
        settings="by hand: threads fill slices of reused batches, simplejpeg + OpenCV INTER_LINEAR + LUT",
        limits=_ALIASED,
    ),
}

# Loaders whose batches end on a CUDA device (benchmarks/gpu); with device "cpu" the same code runs without one.
GPU_PEERS: dict[str, Entry] = {
    "fastload-cpu-engine": Entry(
        title="fastload, CPU engine",
        module="fastload_loader",
        requires=("fastload",),
        form="fastload",
        settings="the CPU engine on tar shards with seek indexes; batches go to the device",
        kinds=("train",),
        augments=_ON_DEVICE,
    ),
    "fastload-dali": Entry(
        title="fastload, DALI engine",
        module="fastload_loader",
        requires=("fastload", "nvidia.dali"),
        form="fastload",
        settings="the DALI engine on the same shards",
        limits=_DALI,
        kinds=("train",),
        augments=_ON_DEVICE,
        options={"engine": "dali"},
    ),
    "fastload-dali-tiled": Entry(
        title="fastload, DALI engine, tiles",
        module="fastload_loader",
        requires=("fastload", "nvidia.dali"),
        form="fastload-tiled",
        settings="the DALI engine on shards rewritten with restart tiles (fastload convert --tiles), equal pixels",
        limits=_DALI,
        kinds=("train",),
        augments=_ON_DEVICE,
        options={"engine": "dali"},
    ),
    "dali-webdataset": Entry(
        title="DALI",
        module="dali_webdataset",
        requires=("nvidia.dali",),
        form="tar",
        settings="as users write it: readers.webdataset + mixed decoder + random_resized_crop, DALIGenericIterator",
        limits=_DALI,
        kinds=("train",),
        augments=_ON_DEVICE[:-1],
        endless=True,
        central_fallback=False,
    ),
    "torchvision-decode": Entry(
        title="torchvision decode_jpeg",
        module="torchvision_decode",
        requires=_TORCH,
        form="folder",
        settings="decode_jpeg of a batch on the device + v2 on each image, files read ahead by threads",
        kinds=("train",),
    ),
}
