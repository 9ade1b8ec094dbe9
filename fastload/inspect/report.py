"""What an inspection found, as plain data: the terminal, the page and JSON all show this."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastload.inspect.distribution import Distribution
from fastload.inspect.findings import Finding


@dataclass(frozen=True, kw_only=True)
class ClassBalance:
    """Samples by class, exact.

    Attributes:
        names, counts: Of each class, in label order.
        unlabelled: Samples without a label.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    unlabelled: int


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How the examined images are coded; each mapping goes from a name to a number of images, most frequent first.

    Attributes:
        formats: ``JPEG``, ``PNG`` ...; ``raw pixels`` in a .beton file.
        processes: ``baseline``, ``progressive`` ... of the JPEGs.
        sampling: Chroma subsampling of the JPEGs, ``4:2:0`` ...; ``grey`` for those of one component.
        colours: Colour space of the JPEGs.
        decoders: What will decode them: ``fastload``, ``turbo`` (libjpeg-turbo), ``pillow``, or ``raw`` for none.
        reasons: Why JPEGs are left to libjpeg-turbo or Pillow.
        restarts: Width in pixels between two restart markers, ``none`` for JPEGs without any.
    """

    formats: Mapping[str, int]
    processes: Mapping[str, int]
    sampling: Mapping[str, int]
    colours: Mapping[str, int]
    decoders: Mapping[str, int]
    reasons: Mapping[str, int]
    restarts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class SeekCoverage:
    """How many images can be entered in the middle.

    Attributes:
        images: Examined images that fastload's own decoder takes.
        indexed: Those with a seek index.
        restarts: Those with restart markers, which need none.
        num_bytes: Size of the indexes in bytes.
    """

    images: int
    indexed: int
    restarts: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class DecodeCost:
    """Processor time of decoding, measured on this machine in one thread.

    Attributes:
        images: How many were decoded.
        whole_ms: Mean CPU milliseconds for all pixels of an image.
        crop_ms: The same for the part that the transforms need.
        crop_share: That part of the pixels, 0 to 1, on average.
        transforms: What was drawn, in words.
        decoders: What decoded the parts, by number of images.
        ns_per_byte, ns_per_pixel: Of decoding whole images.
    """

    images: int
    whole_ms: float
    crop_ms: float
    crop_share: float
    transforms: str
    decoders: Mapping[str, int]
    ns_per_byte: float
    ns_per_pixel: float


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Images whose files are equal byte for byte.

    Attributes:
        searched: Images that were compared.
        groups: Keys of each group of equal images, largest groups first, at most 100 of at most 20 keys.
        num_groups: How many groups there are.
        surplus: Images that could go: all but one of each group.
        across_classes: Groups whose images have different labels.
        unconfirmed: Images of equal size and crc32 that were not compared byte for byte, because of their number.
    """

    searched: int
    groups: tuple[tuple[str, ...], ...]
    num_groups: int
    surplus: int
    across_classes: int
    unconfirmed: int


@dataclass(frozen=True, kw_only=True)
class Objects:
    """What is annotated in the examined images.

    Attributes:
        images: That could be read.
        annotated: Those with a box, keypoint or mask.
        boxes, keypoints, masks: Their numbers, keypoints as far as they are visible.
        classes: Boxes by class; None where they have none.
        per_image: Boxes of an image.
        side: Side in pixels of a square as large as a box.
    """

    images: int
    annotated: int
    boxes: int
    keypoints: int
    masks: int
    classes: ClassBalance | None
    per_image: Distribution | None
    side: Distribution | None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Everything that is known of a data set without training on it.

    Attributes:
        path, kind: Where it is, and what: ``tar shards``, ``image folder``, ``.beton file``.
        samples, files: Their numbers; files are shards, images of a folder, or one.
        num_bytes: Bytes of all images; an estimate from the sample unless ``bytes_exact``.
        schema: Type of each field.
        origin: How it was made, where it says so: name and value.
        skipped: Images that the conversion could not read.
        classes: Balance; None where no sample has a label.
        examined, seed: Images that were read, and the seed that chose them.
        unreadable: Key and reason of those among them that cannot be read, at most 100; ``num_unreadable`` of all.
        distributions: ``width``, ``height``, ``aspect`` (width / height), ``bytes`` and ``bits`` (per pixel).
        coding, seek, cost, duplicates, objects: See there; None where there was nothing to look at.
        findings: What follows from it, most urgent first.
    """

    path: str
    kind: str
    samples: int
    files: int
    num_bytes: int
    bytes_exact: bool
    schema: Mapping[str, str]
    origin: Mapping[str, str]
    skipped: int
    classes: ClassBalance | None
    examined: int
    seed: int
    unreadable: tuple[tuple[str, str], ...]
    num_unreadable: int
    distributions: Mapping[str, Distribution]
    coding: Coding
    seek: SeekCoverage
    cost: DecodeCost | None
    duplicates: Duplicates
    objects: Objects | None
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as dicts, lists, numbers and strings."""
        return dataclasses.asdict(self)
