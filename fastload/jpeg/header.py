"""Reads the headers of a JPEG file: sizes, sampling, tables, and whether fastload's own decoder takes it.

``parse`` and the functions below it are written once and run twice: as plain Python here, and compiled by numba inside
the decoder's kernels (rectangle.py registers PARSE_FUNCTIONS). They therefore only index, add and shift integers.
Nothing is read beyond ``length``; every segment is measured before it is used; work is bounded.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError

# What parse leaves in its array of FIELDS integers. "Offset" counts bytes from the beginning of the file; 0 is absent.
WIDTH: Final = 0
HEIGHT: Final = 1
COMPONENTS: Final = 2
PRECISION: Final = 3  # bits per sample
PROCESS: Final = 4  # marker of the frame: 0xC0 baseline, 0xC1 extended, 0xC2 progressive ...
RESTART: Final = 5  # MCUs between two restart markers, 0 for none
SCAN: Final = 6  # offset of the first byte of entropy-coded data
JFIF: Final = 7  # 1 if the file says that it is JFIF
ADOBE: Final = 8  # 1 + the transform of the Adobe marker, 0 without one
JUNK: Final = 9  # bytes between segments that belong to none
SCAN_COMPONENTS: Final = 10  # components of the first scan
SCAN_WHOLE: Final = 11  # 1 if the first scan codes all 64 coefficients at full precision, in the order of the frame
IDS: Final = 12  # the next seven: one for each of up to four components
HORIZONTAL: Final = 16
VERTICAL: Final = 20
QUANT_SLOT: Final = 24
DC_SLOT: Final = 28
AC_SLOT: Final = 32
QUANT_TABLES: Final = 36  # the next three: offset of the table's first byte (its Pq/Tq or Tc/Th) by slot
DC_TABLES: Final = 40
AC_TABLES: Final = 44
FIELDS: Final = 48

# Results of parse. Everything but PARSED is a file that no decoder can read.
PARSED: Final = 0
NOT_A_JPEG: Final = 1
CUT_SHORT: Final = 2
BAD_LENGTH: Final = 3
BAD_FRAME: Final = 4
TWO_FRAMES: Final = 5
NO_FRAME: Final = 6
BAD_HUFFMAN: Final = 7
BAD_QUANT: Final = 8
BAD_SCAN: Final = 9
EMPTY_IMAGE: Final = 10
BAD_ORDER: Final = 11
TOO_MUCH: Final = 12

_PARSE_ERRORS: Final = {
    NOT_A_JPEG: "expected a JPEG file, which begins with the bytes FF D8 FF",
    CUT_SHORT: "expected JPEG headers up to the start of a scan, but the file ends inside them; it was cut short",
    BAD_LENGTH: "expected JPEG segments as long as their contents need, but one is not; the headers are damaged",
    BAD_FRAME: "expected a JPEG frame header with one to four components and sampling factors from 1 to 4",
    TWO_FRAMES: "expected one JPEG frame header, but there are two before the first scan",
    NO_FRAME: "expected a JPEG frame header before the first scan, but there is none",
    BAD_HUFFMAN: "expected Huffman tables with at most 256 codes in slots 0 to 3; the headers are damaged",
    BAD_QUANT: "expected quantisation tables of 8 or 16 bits in slots 0 to 3; the headers are damaged",
    BAD_SCAN: "expected a JPEG scan header that names components of the frame; the headers are damaged",
    EMPTY_IMAGE: "expected an image of at least 1 x 1 pixels, but the JPEG header says that it has none",
    BAD_ORDER: "expected a scan before the end-of-image marker of the JPEG, but there is none",
    TOO_MUCH: "expected fewer than 4,096 header segments and 64 KiB of bytes between them before the first scan",
}

# Why the decoder leaves a readable file to libjpeg-turbo; SUPPORTED is that it does not.
SUPPORTED: Final = 0
NOT_SEQUENTIAL: Final = 1
NOT_8_BIT: Final = 2
NOT_GREY_OR_YCC: Final = 3
ODD_SAMPLING: Final = 4
SEVERAL_SCANS: Final = 5
MISSING_TABLE: Final = 6
TINY_CHROMA: Final = 7
HAS_JUNK: Final = 8

REASONS: Final = {
    SUPPORTED: "",
    NOT_SEQUENTIAL: "not sequential Huffman coding (progressive, arithmetic, lossless or hierarchical)",
    NOT_8_BIT: "not 8 bits per sample",
    NOT_GREY_OR_YCC: "neither grey nor YCbCr (RGB, CMYK, YCCK or an unknown number of components)",
    ODD_SAMPLING: "chroma sampling other than 4:4:4, 4:2:2, 4:2:0 and 4:4:0",
    SEVERAL_SCANS: "not all components in one scan",
    MISSING_TABLE: "a Huffman or quantisation table is missing before the scan",
    TINY_CHROMA: "too narrow for smooth chroma upsampling",
    HAS_JUNK: "stray bytes between the header segments",
}

_MAX_SEGMENTS: Final = 4096
_MAX_JUNK: Final = 65536


def parse(data: Any, length: int, fields: Any) -> int:
    """Reads all segments up to the first scan into ``fields`` (FIELDS integers, overwritten); returns a result code."""
    for i in range(FIELDS):
        fields[i] = 0
    if length < 4 or data[0] != 0xFF or data[1] != 0xD8 or data[2] != 0xFF:
        return NOT_A_JPEG
    position = 2
    for _ in range(_MAX_SEGMENTS):
        while position < length and data[position] != 0xFF:
            position += 1
            fields[JUNK] += 1
            if fields[JUNK] > _MAX_JUNK:
                return TOO_MUCH
        while position < length and data[position] == 0xFF:  # any number of FF may stand before a marker
            position += 1
        if position >= length:
            return CUT_SHORT
        marker = data[position]
        position += 1
        if marker == 0xD8:
            return BAD_LENGTH
        if marker == 0xD9:
            return BAD_ORDER
        if marker <= 0x01 or 0xD0 <= marker <= 0xD7:
            if marker == 0:
                fields[JUNK] += 2
            continue
        if position + 2 > length:
            return CUT_SHORT
        end = position + (data[position] << 8 | data[position + 1])
        if end < position + 2:
            return BAD_LENGTH
        if end > length:
            return CUT_SHORT
        result = _parse_segment(data, marker, position + 2, end, fields)
        if result != PARSED:
            return result
        position = end
        if marker == 0xDA:
            fields[SCAN] = end
            return PARSED
    return TOO_MUCH


def _parse_segment(data: Any, marker: int, start: int, end: int, fields: Any) -> int:
    """One segment whose contents are data[start:end]; segments that do not matter for decoding are passed over."""
    size = end - start
    if marker == 0xC4:
        return _parse_huffman(data, start, end, fields)
    if marker == 0xDB:
        return _parse_quant(data, start, end, fields)
    if marker == 0xDA:
        return _parse_scan(data, start, end, fields)
    if 0xC0 <= marker <= 0xCF and marker != 0xC8 and marker != 0xCC:
        if fields[COMPONENTS] != 0:
            return TWO_FRAMES
        fields[PROCESS] = marker
        return _parse_frame(data, start, end, fields)
    if marker == 0xDD:
        if size != 2:
            return BAD_LENGTH
        fields[RESTART] = data[start] << 8 | data[start + 1]
    elif marker == 0xE0 and size >= 14:
        if data[start] == 0x4A and data[start + 1] == 0x46 and data[start + 2] == 0x49 and data[start + 3] == 0x46:
            if data[start + 4] == 0:
                fields[JFIF] = 1
    elif marker == 0xEE and size >= 12:
        if data[start] == 0x41 and data[start + 1] == 0x64 and data[start + 2] == 0x6F and data[start + 3] == 0x62:
            if data[start + 4] == 0x65:
                fields[ADOBE] = 1 + data[start + 11]
    return PARSED


def _parse_frame(data: Any, start: int, end: int, fields: Any) -> int:
    if end - start < 6:
        return BAD_LENGTH
    components = data[start + 5]
    fields[PRECISION] = data[start]
    fields[HEIGHT] = data[start + 1] << 8 | data[start + 2]
    fields[WIDTH] = data[start + 3] << 8 | data[start + 4]
    if components < 1 or components > 4:
        return BAD_FRAME
    if fields[HEIGHT] == 0 or fields[WIDTH] == 0:
        return EMPTY_IMAGE
    if end - start != 6 + 3 * components:
        return BAD_LENGTH
    fields[COMPONENTS] = components
    for i in range(components):
        at = start + 6 + 3 * i
        fields[IDS + i] = data[at]
        horizontal = data[at + 1] >> 4
        vertical = data[at + 1] & 15
        if horizontal < 1 or horizontal > 4 or vertical < 1 or vertical > 4:
            return BAD_FRAME
        fields[HORIZONTAL + i] = horizontal
        fields[VERTICAL + i] = vertical
        fields[QUANT_SLOT + i] = data[at + 2]
        if fields[QUANT_SLOT + i] > 3:
            return BAD_QUANT
    return PARSED


def _parse_huffman(data: Any, start: int, end: int, fields: Any) -> int:
    while start < end:
        if end - start < 17:
            return BAD_LENGTH
        kind = data[start] >> 4
        slot = data[start] & 15
        codes = 0
        for i in range(16):
            codes += data[start + 1 + i]
        if kind > 1 or slot > 3 or codes > 256:
            return BAD_HUFFMAN
        if start + 17 + codes > end:
            return BAD_LENGTH
        if kind == 0:
            fields[DC_TABLES + slot] = start
        else:
            fields[AC_TABLES + slot] = start
        start += 17 + codes
    return PARSED


def _parse_quant(data: Any, start: int, end: int, fields: Any) -> int:
    while start < end:
        wide = data[start] >> 4
        slot = data[start] & 15
        if wide > 1 or slot > 3:
            return BAD_QUANT
        if start + 65 + 64 * wide > end:
            return BAD_LENGTH
        fields[QUANT_TABLES + slot] = start
        start += 65 + 64 * wide
    return PARSED


def _parse_scan(data: Any, start: int, end: int, fields: Any) -> int:
    if fields[COMPONENTS] == 0:
        return NO_FRAME
    if end - start < 1:
        return BAD_LENGTH
    components = data[start]
    if components < 1 or components > fields[COMPONENTS]:
        return BAD_SCAN
    if end - start != 4 + 2 * components:
        return BAD_LENGTH
    fields[SCAN_COMPONENTS] = components
    whole = 1
    for i in range(components):
        found = -1
        for k in range(4):
            if k < fields[COMPONENTS] and fields[IDS + k] == data[start + 1 + 2 * i]:
                found = k
        if found < 0:
            return BAD_SCAN
        if found != i:  # another order than the frame's, or two components of one name
            whole = 0
        slots = data[start + 2 + 2 * i]
        if slots >> 4 > 3 or slots & 15 > 3:
            return BAD_HUFFMAN
        fields[DC_SLOT + found] = slots >> 4
        fields[AC_SLOT + found] = slots & 15
    at = start + 1 + 2 * components
    if data[at] != 0 or data[at + 1] != 63 or data[at + 2] != 0:
        whole = 0
    fields[SCAN_WHOLE] = whole
    return PARSED


def supported(fields: Any) -> int:
    """SUPPORTED if the decoder takes a parsed file, else the code of the first reason against it."""
    if fields[PROCESS] != 0xC0 and fields[PROCESS] != 0xC1:
        return NOT_SEQUENTIAL
    if fields[PRECISION] != 8:
        return NOT_8_BIT
    components = fields[COMPONENTS]
    if components != 1 and (components != 3 or not _is_ycc(fields)):
        return NOT_GREY_OR_YCC
    if fields[SCAN_COMPONENTS] != components or fields[SCAN_WHOLE] == 0:
        return SEVERAL_SCANS
    if components == 3:
        for i in range(1, 3):
            if fields[HORIZONTAL + i] != 1 or fields[VERTICAL + i] != 1:
                return ODD_SAMPLING
        if fields[HORIZONTAL] > 2 or fields[VERTICAL] > 2:
            return ODD_SAMPLING
        # libjpeg-turbo repeats chroma in place of interpolating it where a row has two samples or fewer.
        if fields[HORIZONTAL] == 2 and fields[WIDTH] <= 4:
            return TINY_CHROMA
    for i in range(components):
        if (
            fields[QUANT_TABLES + fields[QUANT_SLOT + i]] == 0
            or fields[DC_TABLES + fields[DC_SLOT + i]] == 0
            or fields[AC_TABLES + fields[AC_SLOT + i]] == 0
        ):
            return MISSING_TABLE
    if fields[JUNK] != 0:
        return HAS_JUNK
    return SUPPORTED


def _is_ycc(fields: Any) -> bool:
    """Whether three components mean YCbCr, by libjpeg's rules (jdapimin.c, default_decompress_parms)."""
    if fields[JFIF] != 0:
        return True
    if fields[ADOBE] != 0:
        return bool(fields[ADOBE] != 1)
    return not (fields[IDS] == 0x52 and fields[IDS + 1] == 0x47 and fields[IDS + 2] == 0x42)


PARSE_FUNCTIONS: Final = (_parse_segment, _parse_frame, _parse_huffman, _parse_quant, _parse_scan, _is_ycc, supported)


@dataclass(frozen=True, kw_only=True)
class JpegHeader:
    """What the headers of a JPEG file say, up to its first scan.

    Attributes:
        width, height: Size in pixels, as stored (EXIF rotation is not applied).
        components: 1 grey, 3 colour, 4 CMYK or YCCK.
        sampling: Horizontal and vertical sampling factor of each component: ``((2, 2), (1, 1), (1, 1))`` is 4:2:0.
        precision: Bits per sample.
        progressive, arithmetic, lossless: How the image is coded; all false is sequential Huffman coding.
        color_space: "grey", "ycbcr", "rgb", "cmyk" (which includes YCCK) or "unknown", by libjpeg's rules.
        restart_interval: MCUs between two restart markers, 0 for none.
        scan_offset: Where entropy-coded data begin, in bytes.
        quant_tables, dc_tables, ac_tables: For each component the offset in bytes of its table in the file (the byte
            Pq/Tq or Tc/Th that opens it), 0 where the file has none before the scan.
        unsupported: Why fastload's own decoder leaves the file to libjpeg-turbo; empty if it takes it.
    """

    width: int
    height: int
    components: int
    sampling: tuple[tuple[int, int], ...]
    precision: int
    progressive: bool
    arithmetic: bool
    lossless: bool
    color_space: str
    restart_interval: int
    scan_offset: int
    quant_tables: tuple[int, ...]
    dc_tables: tuple[int, ...]
    ac_tables: tuple[int, ...]
    unsupported: str

    @property
    def baseline(self) -> bool:
        """Whether fastload's own decoder takes the file; everything else is libjpeg-turbo's."""
        return not self.unsupported


def read_header(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> JpegHeader:
    """Reads the headers of one JPEG file.

    Args:
        data: The file, or as much of its beginning as holds everything up to the first scan.

    Raises:
        DataError: The bytes are not a JPEG file, or its headers are damaged or cut short.
    """
    # Indexing a memoryview gives Python integers; numpy's would wrap around at 8 bits.
    buffer = np.ascontiguousarray(data, np.uint8).data if isinstance(data, np.ndarray) else data
    view = memoryview(buffer).cast("B")
    fields = [0] * FIELDS
    result = parse(view, len(view), fields)
    if result != PARSED:
        raise DataError(parse_error(result))
    return _describe(fields)


def parse_error(result: int) -> str:
    """The sentence for a result of parse other than PARSED."""
    return _PARSE_ERRORS[result]


def _describe(fields: MutableSequence[int] | Sequence[int]) -> JpegHeader:
    components = fields[COMPONENTS]
    process = fields[PROCESS]
    each = range(components)
    if components == 3:
        color_space = "ycbcr" if _is_ycc(fields) else "rgb"
    else:
        color_space = {1: "grey", 2: "unknown", 4: "cmyk"}[components]
    return JpegHeader(
        width=fields[WIDTH],
        height=fields[HEIGHT],
        components=components,
        sampling=tuple((fields[HORIZONTAL + i], fields[VERTICAL + i]) for i in each),
        precision=fields[PRECISION],
        progressive=process in (0xC2, 0xC6, 0xCA, 0xCE),
        arithmetic=process >= 0xC9,
        lossless=process in (0xC3, 0xC7, 0xCB, 0xCF),
        color_space=color_space,
        restart_interval=fields[RESTART],
        scan_offset=fields[SCAN],
        quant_tables=tuple(fields[QUANT_TABLES + fields[QUANT_SLOT + i]] for i in each),
        dc_tables=tuple(fields[DC_TABLES + fields[DC_SLOT + i]] for i in each),
        ac_tables=tuple(fields[AC_TABLES + fields[AC_SLOT + i]] for i in each),
        unsupported=REASONS[supported(fields)],
    )
