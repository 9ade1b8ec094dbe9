"""JPEG files that no encoder at hand writes: any sampling, several scans; and where two files differ."""

import io
from types import SimpleNamespace

import numpy as np
from PIL import Image

from fastload.jpeg.recode import geometry as geo
from fastload.jpeg.recode.coefficients import Coefficients, read_coefficients
from fastload.jpeg.recode.encode import BLOCK_TOKENS, list_symbols, write_scan
from fastload.jpeg.recode.geometry import geometry_of
from fastload.jpeg.recode.huffman import make_table
from fastload.jpeg.recode.tiles import write_tiled

QUANT = b"\xff\xdb\0\x43\0" + bytes(range(3, 67))


def pillow(data: bytes) -> np.ndarray:
    """Pixels by Pillow, which has libjpeg-turbo's own interface: any sampling."""
    return np.asarray(Image.open(io.BytesIO(data)))


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def noise(width: int, height: int, sampling, seed: int) -> Coefficients:
    """An image of any sampling, with coefficients of every size and runs of every length."""
    rng = np.random.default_rng(seed)
    header = SimpleNamespace(width=width, height=height, components=len(sampling), sampling=sampling)
    geometry = geometry_of(header)
    blocks = geometry.num_blocks
    values = np.where(rng.random((blocks, 64)) < rng.random((blocks, 1)) ** 3, rng.normal(0, 9, (blocks, 64)), 0)
    values[:, 0] = rng.integers(-200, 200, blocks)
    values = values.astype(np.int16)
    places = np.where(values[:, 1:] != 0, np.arange(1, 64), 0)
    parts = b"".join(bytes([1 + i, h << 4 | v, 0]) for i, (h, v) in enumerate(sampling))
    return Coefficients(
        header=header,
        geometry=geometry,
        values=values.reshape(-1),
        last=places.max(axis=1).astype(np.uint8),
        frame=bytes([8, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), len(sampling)]) + parts,
        segments=(QUANT,),
        wide_factors=False,
    )


def noise_file(width: int, height: int, sampling, seed: int) -> bytes:
    return write_tiled(noise(width, height, sampling, seed))


def in_several_scans(image: Coefficients, groups: list[list[int]], restart: int) -> bytes:
    """The sequential file whose scans are of the given groups of components, with restart markers (0: none)."""
    out = (
        b"\xff\xd8" + b"".join(image.segments) + segment(0xC1, image.frame) + segment(0xDD, restart.to_bytes(2, "big"))
    )
    for group in groups:
        words = image.geometry.words(group)
        words[geo.RESTART] = restart or words[geo.COLUMNS] * words[geo.ROWS]
        for i in range(len(group)):
            words[geo.PART + geo.PART_WORDS * i + geo.AC] = 1
        counts, tokens = np.zeros((4, 257), np.int64), np.zeros(BLOCK_TOKENS * (image.last.size + 5), np.uint32)
        count = list_symbols(words, image.values, image.last, counts, tokens)
        codes = np.zeros((4, 256), np.int64)
        tables = b""
        for kind in range(2):
            lengths, symbols = np.zeros(16, np.uint8), np.zeros(256, np.uint8)
            used = make_table(counts[kind], lengths, symbols, codes[kind])
            tables += bytes([kind << 4]) + lengths.tobytes() + symbols[:used].tobytes()
        extra = np.arange(256) & 15
        packed = ((codes >> 5 << extra << 5) | ((codes & 31) + extra)).astype(np.uint64)
        scan = np.zeros(1 << 20, np.uint8)
        size = write_scan(tokens, count, packed.reshape(-1), scan)
        slots = b"".join(bytes([image.frame[6 + 3 * number], 0]) for number in group)
        out += segment(0xC4, tables) + segment(0xDA, bytes([len(group)]) + slots + b"\0\x3f\0")
        out += scan[: size - 2].tobytes()
    return out + b"\xff\xd9"


def real_coefficients(data: bytes) -> list[np.ndarray]:
    """Coefficients of each component without the blocks that only fill up MCUs."""
    image = read_coefficients(data)
    found = []
    for part in image.geometry.components:
        blocks = image.values[64 * part.base : 64 * (part.base + part.wide * part.high)]
        found.append(blocks.reshape(part.high, part.wide, 64)[: part.real_high, : part.real_wide])
    return found


def same_coefficients(a: bytes, b: bytes) -> bool:
    ours, theirs = real_coefficients(a), real_coefficients(b)
    return len(ours) == len(theirs) and all(np.array_equal(x, y) for x, y in zip(ours, theirs, strict=True))
