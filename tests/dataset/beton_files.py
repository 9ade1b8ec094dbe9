"""Lays out FFCV's files with struct alone, so that fastload's reader and writer are held against something else."""

import json
import struct

import numpy as np

FLOAT, INT, RGB, BYTES, NDARRAY, JSON = range(6)
PAGE = 1 << 21


def jpeg_bytes(pixels, quality=90):
    import simplejpeg

    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality)


def array_arguments(shape, code):
    text = json.dumps([["", code]]).encode()
    return struct.pack("<32QQ", *shape, *[0] * (32 - len(shape)), len(text)) + text


def row_layout(types):
    """Offset of each field and size of a row: numbers lie at multiples of 8, packed records anywhere."""
    offsets, position, alignment = [], 0, 1
    for code in types:
        number = code in (FLOAT, INT, NDARRAY)
        if number:
            position, alignment = -(-position // 8) * 8, 8
        offsets.append(position)
        position += 8 if number else 13 if code == RGB else 16
    return offsets, -(-position // alignment) * alignment


class Pages:
    """Memory in pages; everything of one sample shares one."""

    def __init__(self, begin, page):
        self.begin, self.page, self.data, self.table = begin, page, bytearray(), []

    def place(self, number, pieces):
        needed = sum(map(len, pieces))
        assert needed <= self.page
        if len(self.data) % self.page + needed > self.page:
            self.data += bytes(-len(self.data) % self.page)
        pointers = []
        for piece in pieces:
            pointers.append(self.begin + len(self.data))
            self.table.append((number, pointers[-1], len(piece)))
            self.data += piece
        return pointers


def write_beton(path, fields, samples, page=PAGE, reverse=True):
    """Writes a file.

    fields: (name, type code, bytes of arguments); samples: for each field an int, a float, bytes, or for an image
    (height, width, JPEG bytes or None, RGB pixels).
    """
    types = [code for _, code, _ in fields]
    offsets, row_size = row_layout(types)
    begin = 24 + 1041 * len(fields) + row_size * len(samples)
    pages = Pages(-(-begin // page) * page, page)
    rows = bytearray()
    for number, sample in enumerate(samples):
        pieces = []
        for code, value in zip(types, sample, strict=True):
            if code == RGB:
                pieces.append(value[2] if value[2] is not None else value[3].tobytes())
            elif code == JSON:
                pieces.append(value + b"\0")
            elif code in (BYTES, NDARRAY):
                pieces.append(value)
        pointers = iter(pages.place(number, pieces))
        row = bytearray(row_size)
        for offset, code, value in zip(offsets, types, sample, strict=True):
            if code == RGB:
                height, width, jpeg, _ = value
                struct.pack_into("<BHHQ", row, offset, jpeg is None, width, height, next(pointers))
            elif code in (BYTES, JSON):
                struct.pack_into("<QQ", row, offset, next(pointers), len(value) + (code == JSON))
            else:
                packed = next(pointers) if code == NDARRAY else value
                struct.pack_into("<d" if code == FLOAT else "<q", row, offset, packed)
        rows += row
    data = bytes(pages.data) + bytes(-len(pages.data) % page)
    table = reversed(pages.table) if reverse else pages.table  # the order means nothing
    head = struct.pack("<HHIQQ", 2, len(fields), page, len(samples), pages.begin + len(data))
    for name, code, arguments in fields:
        head += struct.pack("<B16s1024s", code, name.encode(), arguments)
    table = b"".join(struct.pack("<QQQ", *entry) for entry in table)
    path.write_bytes((head + rows).ljust(pages.begin, b"\0") + data + table)
    return path


def pictures(count, seed=0, smallest=20, largest=90):
    """Smooth RGB pictures of different sizes, uint8 (height, width, 3)."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        height, width = generator.integers(smallest, largest, 2)
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(x / a + y / b) for a, b in generator.uniform(3, 20, (3, 2))]
        found.append(np.uint8(np.stack(waves, 2) * 120 + 128))
    return found


def image_of(pixels, raw):
    """An image as ``write_beton`` takes it."""
    return (*pixels.shape[:2], None if raw else jpeg_bytes(pixels), pixels)
