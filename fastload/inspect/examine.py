"""Reads a sample of a data set's images and says of each how it is coded and what will decode it."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset import Dataset, RemoteShardedDataset
from fastload.engine.cpu.decode import PROVEN
from fastload.engine.limits import MAX_FILE_BYTES
from fastload.errors import DataError
from fastload.inspect.report import Coding, SeekCoverage
from fastload.jpeg.header import JpegHeader, read_header

_SIGNATURES: Final = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"P6", "PPM"),
    (b"P5", "PPM"),
)
_SAMPLING: Final = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
_END_OF_IMAGE: Final = b"\xff\xd9"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was read.

    Attributes:
        ids: int64 (n,), the samples that could be read, in rising order.
        num_bytes: int64 (n,), size of each file.
        crc32: uint32 (n,), its checksum.
        coding, seek: See there.
        unreadable: Sample and reason of those that could not be read.
    """

    ids: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    crc32: NDArray[np.uint32]
    coding: Coding
    seek: SeekCoverage
    unreadable: tuple[tuple[int, str], ...]


class _Tally:
    """Counters of everything that Coding and SeekCoverage hold."""

    def __init__(self) -> None:
        self.formats: Counter[str] = Counter()
        self.processes: Counter[str] = Counter()
        self.sampling: Counter[str] = Counter()
        self.colours: Counter[str] = Counter()
        self.decoders: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.images = self.indexed = self.with_restarts = self.index_bytes = 0

    def jpeg(self, header: JpegHeader, complete: bool, index_bytes: int) -> None:
        self.formats["JPEG"] += 1
        self.processes[_process(header)] += 1
        self.sampling[_sampling(header)] += 1
        self.colours[header.color_space] += 1
        self.restarts[_restarts(header)] += 1
        reason = header.unsupported or ("" if complete else "no end marker: perhaps cut short")
        if not PROVEN and not reason:
            reason = "a processor that fastload's decoder was not proven on"
        if reason:
            self.decoders["pillow" if header.color_space == "cmyk" else "turbo"] += 1
            self.reasons[reason] += 1
            return
        self.decoders["fastload"] += 1
        self.images += 1
        self.with_restarts += header.restart_interval > 0
        self.indexed += index_bytes > 0
        self.index_bytes += index_bytes

    def other(self, name: str, decoder: str) -> None:
        self.formats[name] += 1
        self.decoders[decoder] += 1

    def coding(self) -> Coding:
        names = ("formats", "processes", "sampling", "colours", "decoders", "reasons", "restarts")
        return Coding(**{name: dict(getattr(self, name).most_common()) for name in names})

    def seek(self) -> SeekCoverage:
        return SeekCoverage(
            images=self.images, indexed=self.indexed, restarts=self.with_restarts, num_bytes=self.index_bytes
        )


def examine(
    dataset: Dataset, ids: NDArray[np.int64], progress: Callable[[int, int], None] = lambda done, total: None
) -> Examined:
    """Reads the files of samples ``ids`` (int64 (n,)), headers and checksums, without decoding them.

    A file that is missing, damaged in its headers, or other than its checksum is listed and not counted.
    """
    tally, unreadable = _Tally(), []
    good, sizes, checksums = [], [], []
    dataset.plan_reads(ids[:1])  # opens the notes of an image folder, where its seek indexes stand
    # Behind a URL the tables of seek files say all that is to be counted: the indexes are not fetched.
    known = dataset.seek_index_bytes(ids).tolist() if isinstance(dataset, RemoteShardedDataset) else None
    for done, number in enumerate(ids.tolist(), start=1):
        try:
            data = read_image(dataset, number)
            _count(dataset, number, data, tally, None if known is None else known[done - 1])
        except DataError as error:
            unreadable.append((number, error.reason))
            continue
        finally:
            progress(done, len(ids))
        good.append(number)
        sizes.append(data.size)
        checksums.append(zlib.crc32(data.data))
    return Examined(
        ids=np.array(good, np.int64),
        num_bytes=np.array(sizes, np.int64),
        crc32=np.array(checksums, np.uint32),
        coding=tally.coding(),
        seek=tally.seek(),
        unreadable=tuple(unreadable),
    )


def read_image(dataset: Dataset, number: int) -> NDArray[np.uint8]:
    """The image file of one sample, uint8; DataError if it cannot be read or is too large to be an image."""
    size = int(dataset.num_bytes(np.array([number]))[0])
    if size > MAX_FILE_BYTES:
        raise DataError(f"the file has {size:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
    buffer = np.empty(max(size, 1), np.uint8)
    return buffer[: dataset.read_into(number, buffer)]


def _count(dataset: Dataset, number: int, data: NDArray[np.uint8], tally: _Tally, index_bytes: int | None) -> None:
    if dataset.is_raw(np.array([number]))[0]:
        tally.other("raw pixels", "raw")
        return
    name = image_format(data[:12].tobytes())
    if name != "JPEG":
        tally.other(name, "pillow")
        return
    size = dataset.seek_index(number).size if index_bytes is None else index_bytes
    tally.jpeg(read_header(data), data[-2:].tobytes() == _END_OF_IMAGE, size)


def image_format(head: bytes) -> str:
    """The format of an image file from its first 12 bytes; ``other`` for none that is known."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), "other")


def _process(header: JpegHeader) -> str:
    if header.lossless:
        return "lossless"
    return ("progressive" if header.progressive else "baseline") + (", arithmetic" if header.arithmetic else "")


def _sampling(header: JpegHeader) -> str:
    if header.components == 1:
        return "grey"
    first, others = header.sampling[0], header.sampling[1:]
    if header.components == 3 and all(factors == (1, 1) for factors in others) and first in _SAMPLING:
        return _SAMPLING[first]
    return " ".join(f"{across}x{down}" for across, down in header.sampling)


def _restarts(header: JpegHeader) -> str:
    if not header.restart_interval:
        return "none"
    width = header.restart_interval * 8 * (header.sampling[0][0] if header.components > 1 else 1)
    if width <= header.width:
        return f"every {width} px"
    return f"every {-(-width // header.width)} rows or more"


def bounded_sample(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` different numbers below ``count`` in rising order, equally likely; all of them for 0."""
    if most <= 0 or count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False)).astype(np.int64)


def spread_over_classes(ids: Iterable[int], labels: Iterable[int], count: int, seed: int) -> list[int]:
    """``count`` samples of ``ids`` for a picture: random, and of as many classes as there are, in label order."""
    pairs = list(zip(ids, labels, strict=True))
    seen: Counter[int] = Counter()
    ranked: list[tuple[int, int, int, int]] = []
    for place in np.random.default_rng(seed).permutation(len(pairs)).tolist():
        number, label = pairs[place]
        ranked.append((seen[label], len(ranked), label, number))
        seen[label] += 1
    return [number for _, _, label, number in sorted(sorted(ranked)[:count], key=lambda row: (row[2], row[1]))]
