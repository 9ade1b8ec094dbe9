"""Reads a whole JPEG file, baseline or progressive, of any number of scans, as quantised coefficients.

Stricter than libjpeg-turbo: what that one warns of, or mends by guessing, is refused. Work is bounded whatever the file
says: each bit of each coefficient may be coded only once, in at most 100 scans.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError
from fastload.jpeg.header import JpegHeader, read_header
from fastload.jpeg.recode import geometry as geo
from fastload.jpeg.recode.geometry import Geometry, geometry_of
from fastload.jpeg.recode.scan import BAD_TABLE, BITS_EXTRA, TABLE_WORDS, decode_scan

# 200 MB of coefficients (4:2:0: 44 million pixels). Larger images are not for training from.
MOST_COEFFICIENTS: Final = 100_000_000
_MOST_SEGMENTS: Final = 4096
# Encoders write 10 or so. The standard allows 896 for each component, each of which may pass over all blocks in a few
# bytes: half a minute for 64 million pixels.
_MOST_SCANS: Final = 100
_MOST_PRECISION_BITS: Final = 13
_SOS: Final = 0xDA
_EOI: Final = 0xD9
_DAMAGED: Final = "expected a whole and undamaged JPEG, but "


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Everything that a JPEG file holds but the way in which it is coded.

    Attributes:
        header: Of the file.
        geometry: Where the blocks are.
        values: int16 (64 x blocks,), quantised, in zigzag order.
        last: uint8 (blocks,), the place of each block's last AC coefficient that is not zero, 0 if there is none.
        frame: Contents of the frame header (SOFn), without marker and length.
        segments: APPn, COM and DQT segments in their order, with marker and length.
        wide_factors: Whether a quantisation table has 16 bits.
    """

    header: JpegHeader
    geometry: Geometry
    values: NDArray[np.int16]
    last: NDArray[np.uint8]
    frame: bytes
    segments: tuple[bytes, ...]
    wide_factors: bool


class _Memory(threading.local):
    """Lookup tables of each thread."""

    def __init__(self) -> None:
        self.tables = np.zeros(8 * TABLE_WORDS, np.uint64)


_memory = _Memory()


def read_coefficients(data: bytes) -> Coefficients:
    """The coefficients of a JPEG file of 8 bits, Huffman-coded, grey or of three components.

    Raises:
        DataError: The file is of another kind, damaged, incomplete, or larger than MOST_COEFFICIENTS.
    """
    return _Reading(data).read()


class _Reading:
    """One file on its way: tables and levels as its segments define them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._source = np.frombuffer(data, np.uint8)
        self._header = read_header(data)
        _check_kind(self._header)
        self._geometry = geometry_of(self._header)
        blocks = self._geometry.num_blocks
        if 64 * blocks > MOST_COEFFICIENTS:
            raise DataError(
                f"expected a JPEG of at most {MOST_COEFFICIENTS:,} coefficients, but it has {64 * blocks:,}"
            )
        self._values = np.zeros(64 * blocks, np.int16)
        self._last = np.zeros(blocks, np.uint8)
        self._bits = np.empty(len(data) + BITS_EXTRA, np.uint8)
        self._frame = b""
        self._ids: list[int] = []
        self._kept: list[bytes] = []
        self._wide_factors = False
        self._specs: dict[tuple[int, int], int] = {}
        self._restart = 0
        # For each component and coefficient how many of its bits are still to come; -1 before the first scan of it.
        self._levels = np.full((self._header.components, 64), -1, np.int64)
        self._alone: set[int] = set()
        self._scans = 0

    def read(self) -> Coefficients:
        """Segment by segment to the end-of-image marker; what stands behind it is not part of the image."""
        position = 2
        for _ in range(_MOST_SEGMENTS):
            marker, start, end = self._segment(position)
            if marker == _EOI:
                break
            position = self._scan(start, end) if marker == _SOS else end
            if marker != _SOS:
                self._note(marker, start, end)
        else:
            raise DataError(f"expected a JPEG of fewer than {_MOST_SEGMENTS:,} segments")
        if self._levels.any():
            raise DataError(f"{_DAMAGED}coefficients are missing; decoders would guess them")
        self._extend()
        return Coefficients(
            header=self._header,
            geometry=self._geometry,
            values=self._values,
            last=self._last,
            frame=self._frame,
            segments=tuple(self._kept),
            wide_factors=self._wide_factors,
        )

    def _segment(self, position: int) -> tuple[int, int, int]:
        """The marker at a position and the bounds of what belongs to it."""
        data = self._data
        start = position
        while position < len(data) and data[position] == 0xFF:
            position += 1
        if position == start or position >= len(data):
            raise DataError(f"{_DAMAGED}where a marker should be there is none")
        marker = data[position]
        position += 1
        if marker == _EOI:
            return marker, position, position
        end = position + int.from_bytes(data[position : position + 2], "big")
        if marker < 0xC0 or 0xD0 <= marker <= 0xD8 or end < position + 2 or end > len(data):
            raise DataError(f"{_DAMAGED}a segment between its scans is not one")
        return marker, position + 2, end

    def _note(self, marker: int, start: int, end: int) -> None:
        """What a segment says that is not a scan."""
        data = self._data
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            self._kept.append(b"\xff" + data[start - 3 : end])
        elif marker == 0xDB:
            if (self._levels >= 0).any():
                raise DataError("expected quantisation tables before the first scan, but there are some behind it")
            self._wide_factors |= _has_wide_factors(data[start:end])
            self._kept.append(b"\xff" + data[start - 3 : end])
        elif marker == 0xC4:
            self._note_tables(start, end)
        elif marker == 0xDD and end - start == 2:
            self._restart = int.from_bytes(data[start:end], "big")
        elif 0xC0 <= marker <= 0xC2 and not self._frame:
            self._frame = data[start:end]
            self._ids = [data[start + 6 + 3 * i] for i in range(self._header.components)]
        else:
            raise DataError(f"expected no JPEG segment of kind {marker:02X} at this place")

    def _note_tables(self, start: int, end: int) -> None:
        while start < end:
            size = 17 + sum(self._data[start + 1 : start + 17])
            kind, slot = self._data[start] >> 4, self._data[start] & 15
            if start + size > end or kind > 1 or slot > 3:
                raise DataError(f"{_DAMAGED}a Huffman table is none")
            self._specs[kind, slot] = start
            start += size

    def _scan(self, start: int, end: int) -> int:
        """Decodes a scan whose header has the given bounds; returns where the next marker is."""
        self._scans += 1
        if self._scans > _MOST_SCANS:
            raise DataError(f"expected a JPEG of at most {_MOST_SCANS} scans")
        header = self._data[start:end]
        count = header[0] if header else 0
        if not 1 <= count <= len(self._ids) or len(header) != 4 + 2 * count:
            raise DataError(f"{_DAMAGED}a scan header is none")
        ids = list(header[1 : 1 + 2 * count : 2])
        if len(set(ids)) != count or len(set(self._ids)) != len(self._ids) or not set(ids) <= set(self._ids):
            raise DataError(f"{_DAMAGED}a scan names components that the frame has not, or names one twice")
        numbers = [self._ids.index(name) for name in ids]
        first, last, precision = header[-3:]
        words = self._geometry.words(numbers)
        words[geo.FIRST], words[geo.LAST] = first, last
        words[geo.HIGH], words[geo.LOW] = precision >> 4, precision & 15
        words[geo.RESTART] = self._restart
        words[geo.PROGRESSIVE] = self._header.progressive
        self._enter(numbers, first, last, precision >> 4, precision & 15)
        for i in range(count):
            slots = header[2 + 2 * i]
            at = geo.PART + geo.PART_WORDS * i
            words[at + geo.DC] = self._specs.get((0, slots >> 4), 0)
            words[at + geo.AC] = self._specs.get((1, slots & 15), 0)
        if count == 1:
            self._alone.add(numbers[0])
        elif sum(across * down for across, down in (self._header.sampling[i] for i in numbers)) > geo.MOST_MCU_BLOCKS:
            raise DataError(f"expected a JPEG of at most {geo.MOST_MCU_BLOCKS} blocks in an MCU")
        behind = decode_scan(
            self._source, end, len(self._data), words, self._values, self._last, self._bits, _memory.tables
        )
        if behind < 0:
            what = "a Huffman table is missing or none" if behind == BAD_TABLE else "its entropy-coded data are not"
            raise DataError(_DAMAGED + what)
        return int(behind)

    def _enter(self, numbers: list[int], first: int, last: int, high: int, low: int) -> None:
        """Notes which bits a scan codes; each may come once, from the highest down, DC before AC."""
        if self._header.progressive:
            sound = last == 0 if first == 0 else first <= last <= 63 and len(numbers) == 1
        else:
            sound = (first, last, high, low) == (0, 63, 0, 0)
        levels = self._levels[numbers, first : last + 1]
        before = high if high else -1
        sound = sound and (first == 0 or bool((self._levels[numbers, 0] >= 0).all()))
        sound = sound and low <= _MOST_PRECISION_BITS and (not high or low == high - 1)
        if not sound or not (levels == before).all():
            raise DataError(f"{_DAMAGED}its scans do not form a sequence that the standard allows")
        self._levels[numbers, first : last + 1] = low

    def _extend(self) -> None:
        """Blocks that only interleaved scans have get the DC value of their neighbour, as libjpeg does it: cheapest."""
        if self._header.components == 1:
            return
        for number in self._alone:
            part = self._geometry.components[number]
            blocks = self._values[64 * part.base : 64 * (part.base + part.wide * part.high)]
            means = blocks.reshape(part.high, part.wide, 64)[:, :, 0]
            means[:, part.real_wide :] = means[:, part.real_wide - 1 : part.real_wide]
            means[part.real_high :] = means[part.real_high - 1]


def _check_kind(header: JpegHeader) -> None:
    if header.precision != 8 or header.lossless or header.arithmetic:
        raise DataError(
            "expected a Huffman-coded JPEG of 8 bits, but it is arithmetic-coded, lossless or of other bits"
        )
    if header.color_space not in ("grey", "ycbcr", "rgb"):
        raise DataError("expected a JPEG of one or three components, but it is CMYK, YCCK or unknown")


def _has_wide_factors(tables: bytes) -> bool:
    at, wide = 0, False
    while at < len(tables):
        wide |= tables[at] >> 4 == 1
        at += 129 if tables[at] >> 4 else 65
    return wide
