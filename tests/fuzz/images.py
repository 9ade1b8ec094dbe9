"""Hostile images: mutated JPEG files and indexes between unmapped pages, image files of every format, masks."""

import io
import random
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from hypothesis import strategies as st
from PIL import Image

from fastload.convert.transcode import examine, transcode
from fastload.dataset.fields import decode_mask
from fastload.dataset.image_size import image_size
from fastload.errors import DataError
from fastload.jpeg import status
from fastload.jpeg.decoder import build_index
from fastload.jpeg.header import read_header
from fastload.jpeg.index_build import ENTRY_FIELDS, note_tiles
from fastload.jpeg.recode.coefficients import _Reading
from fastload.jpeg.recode.part import BAD_CALL, DAMAGED, FIELDS, NOT_TILED, PART_HEIGHT, PART_WIDTH, cut_part
from fastload.jpeg.recode.scan import BITS_EXTRA
from fastload.jpeg.recode.tiles import retile, write_tiled
from fastload.jpeg.rectangle import decode_rectangle
from tests.conftest import real_data_directory
from tests.fuzz.harness import Parser, write
from tests.fuzz.mutations import mutate_bytes, mutate_jpeg
from tests.jpeg.guarded import Guarded, guarded_workspace
from tests.jpeg.pictures import SAMPLINGS, encode, picture
from tests.jpeg.recode_tools import in_several_scans, noise

MAX_WIDTH, MAX_BYTES, MAX_PIXELS = 512, 1 << 16, 1 << 20
MOST_BLOCKS = 20_000


def small_files(folder: Path | None, count: int) -> list[bytes]:
    """Parts of real photographs, and drawn pictures, in every sampling, with and without restart markers."""
    rng = random.Random(0)
    files = []
    photographs = sorted(folder.glob("*/*.JPEG")) if folder else []
    for number in range(count):
        if photographs:
            with Image.open(rng.choice(photographs)) as image:
                width, height = rng.randint(5, 120), rng.randint(1, 100)
                left, top = rng.randrange(max(1, image.width - width)), rng.randrange(max(1, image.height - height))
                pixels = np.asarray(image.convert("RGB").crop((left, top, left + width, top + height)))
        else:
            pixels = picture(rng.randint(5, 120), rng.randint(1, 100), seed=number)
        options = {"quality": rng.choice((30, 75, 95)), "optimize": rng.random() < 0.5}
        if rng.random() < 0.25:
            options["restart_marker_blocks"] = rng.randint(1, 9)
        files.append(encode(pixels, SAMPLINGS[number % len(SAMPLINGS)], **options))
    return files


def photographs(most_bytes: int = MAX_BYTES) -> list[bytes]:
    """Real photographs as they are, where they are at hand."""
    folder = real_data_directory() / "imagenet-sample"
    files = [file.read_bytes() for file in sorted(folder.glob("*/*.JPEG"))[::8]]
    return [data for data in files if len(data) < most_bytes]


class Decoding:
    """The decoder with every argument in guarded memory; some of what it calls good is compared with libjpeg-turbo.

    Without an index only: with one, what is damaged before the rectangle does not matter, where libjpeg-turbo stumbles.
    """

    def __init__(self, _: Path) -> None:
        self.file, self.index = Guarded(MAX_BYTES), Guarded(1 << 16)
        self.out, self.entries = Guarded(3 * MAX_PIXELS), Guarded(8 * ENTRY_FIELDS * 5000)
        self.work, self._memory = guarded_workspace(MAX_WIDTH, MAX_BYTES)
        real = real_data_directory() / "imagenet-sample"
        files = small_files(None, 40) + (small_files(real, 200) + photographs() if real.exists() else [])
        self.files = [(data, read_header(data)) for data in files]
        self.indexes = [[build_index(data, step=step) for step in (1, 3, 8)] for data in files]

    def __call__(self, rng: random.Random) -> str:
        which = rng.randrange(len(self.files))
        (data, header), index = self.files[which], rng.choice(self.indexes[which])
        kind = rng.randrange(8)
        if kind <= 3:
            data = mutate_jpeg(data, rng, header.scan_offset, len(data), MAX_BYTES)
        elif kind <= 5:
            data = mutate_jpeg(data, rng, 0, header.scan_offset, MAX_BYTES)
        elif index:
            index = mutate_jpeg(index, rng, 0, len(index), MAX_BYTES)
        if kind == 4 and rng.random() < 0.5:
            data = (data + b"\xff\xd9")[:MAX_BYTES]
        if rng.random() < 0.4:
            index = b""
        try:
            now = read_header(data)
        except DataError:
            now = header
        top, left = rng.randrange(min(now.height, 900)), rng.randrange(min(now.width, 900))
        box = (top, left, rng.randint(1, min(now.height - top, 300)), rng.randint(1, min(now.width - left, 900)))
        at_end = rng.random() < 0.7
        result, pixels = self.decode(data, index, box, rng.randrange(4), at_end)
        if rng.random() < 0.1:
            step = rng.choice((1, 4, 255))
            across, down = now.sampling[0] if now.components == 3 else (1, 1)
            columns, rows = (now.width - 1) // (8 * across) + 1, (now.height - 1) // (8 * down) + 1
            self.note(data, step, min(rows * ((columns - 1) // step + 1), 4999), at_end)
        if result == status.OK and not index and rng.random() < 0.05:
            compare(data, box, pixels)
        return status.describe(result)

    def decode(self, data, index, box, gap, at_end) -> tuple[int, np.ndarray]:
        """What the kernel says, and its pixels; checks that it wrote nothing beside them."""
        top, left, height, width = box
        stride = 3 * width + gap
        size = (height - 1) * stride + 3 * width
        source, seek = self.file.holding(data, at_end), self.index.holding(index, at_end)
        out = self.out.empty(size, at_end)
        out[:] = 0xA5
        result = decode_rectangle(source, len(data), seek, top, left, height, width, out, stride, self.work)
        rows = np.append(out, np.full(gap, 0xA5, np.uint8)).reshape(height, stride)
        assert (rows[:, 3 * width :] == 0xA5).all()
        return result, rows[:, : 3 * width].reshape(height, width, 3)

    def note(self, data: bytes, step: int, tiles: int, at_end: bool) -> None:
        source = self.file.holding(data, at_end)
        entries = self.entries.empty(8 * ENTRY_FIELDS * (tiles + 1), at_end).view(np.int64).reshape(-1, ENTRY_FIELDS)
        assert status.describe(note_tiles(source, len(data), step, entries, self.work))


def compare(data: bytes, box: tuple[int, int, int, int], pixels: np.ndarray) -> None:
    """What was said to be good equals libjpeg-turbo's picture, unless that one refuses the file (by strict rules)."""
    try:
        reference = simplejpeg.decode_jpeg(data)
    except ValueError:
        return
    top, left, height, width = box
    np.testing.assert_array_equal(pixels, reference[top : top + height, left : left + width])


def recoded_files(count: int) -> list[bytes]:
    """Baseline, progressive, of several scans; with and without restart markers."""
    rng = random.Random(1)
    files = []
    for number in range(count):
        size = rng.randint(1, 90), rng.randint(1, 60)
        options = {"quality": rng.choice((30, 75, 95)), "progressive": number % 3 != 0}
        if rng.random() < 0.3:
            options["restart_marker_blocks"] = rng.randint(1, 9)
        files.append(encode(picture(*size, seed=number), SAMPLINGS[number % len(SAMPLINGS)], **options))
    image = noise(60, 30, ((2, 2), (1, 1), (1, 1)), 1)
    return [*files, in_several_scans(image, [[0], [1], [2]], 0), in_several_scans(image, [[0], [2, 1]], 3)]


class Rewriting:
    """What is rewritten, in guarded memory, shows what libjpeg-turbo showed before, if that has no warning."""

    def __init__(self, _: Path) -> None:
        self.file, self.bits = Guarded(MAX_BYTES), Guarded(MAX_BYTES + BITS_EXTRA)
        self.values, self.last = Guarded(128 * MOST_BLOCKS), Guarded(MOST_BLOCKS)
        self.files = [(data, read_header(data).scan_offset) for data in recoded_files(40)]

    def __call__(self, rng: random.Random) -> str:
        data, scan = rng.choice(self.files)
        begin, end = ((0, scan), (scan, len(data)), (len(data) - 30, len(data)))[rng.choice((0, 1, 1, 2))]
        data = mutate_jpeg(data, rng, begin, end, MAX_BYTES)
        try:
            tiled = self.rewrite(data, rng.random() < 0.7)
        except DataError as error:
            return next((sign for sign in _SIGNS if sign in error.reason), "refused")
        reference = strict(data)
        if reference is None:
            return "rewritten"
        np.testing.assert_array_equal(strict(tiled), reference)
        return "rewritten, and compared"

    def rewrite(self, data: bytes, at_end: bool) -> bytes:
        reading = _Reading(data)
        blocks = reading._last.size
        if blocks > MOST_BLOCKS:
            raise DataError("too large for this test")
        reading._source = self.file.holding(data, at_end)
        reading._bits = self.bits.empty(len(data) + BITS_EXTRA, at_end)
        reading._values = self.values.empty(128 * blocks, at_end).view(np.int16)
        reading._last = self.last.empty(blocks, at_end)
        reading._values[:] = 0
        reading._last[:] = 0
        return write_tiled(reading.read())


_SIGNS = ("Huffman table", "entropy-coded", "sequence", "marker", "missing", "segment", "scan header")


class Cutting:
    """What is cut from a file that libjpeg-turbo has no warning for has the size that is said, and draws none."""

    def __init__(self, _: Path) -> None:
        self.file, self.out = Guarded(MAX_BYTES), Guarded(MAX_BYTES)
        self.files = [retile(data) for data in recoded_files(40)]

    def __call__(self, rng: random.Random) -> str:
        data = rng.choice(self.files)
        scan = read_header(data).scan_offset
        begin, end = ((0, scan), (scan, len(data)))[rng.randrange(2)]
        data = mutate_jpeg(data, rng, begin, end, MAX_BYTES)
        try:
            header = read_header(data)
            height, width = header.height, header.width
        except DataError:
            height, width = 50, 50
        top, left = rng.randrange(height), rng.randrange(width)
        box = (top, left, rng.randint(1, height - top), rng.randint(1, width - left + rng.randrange(2)))
        at_end = rng.random() < 0.7
        source, out = self.file.holding(data, at_end), self.out.empty(len(data), at_end)
        fields = np.zeros(FIELDS, np.int64)
        size = cut_part(source, len(data), *box, fields, out)
        assert size <= len(data)
        if size > 0 and strict(data) is not None:
            part = strict(out[:size].tobytes())
            assert part is not None
            assert part.shape[:2] == (fields[PART_HEIGHT], fields[PART_WIDTH])
        return "cut" if size > 0 else {NOT_TILED: "not tiled", DAMAGED: "damaged", BAD_CALL: "bad call"}[size]


def strict(data: bytes) -> np.ndarray | None:
    try:
        return simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return None


class Transcoding:
    """Image files of every format as convert and verify take them: proven, stored anew, made smaller, rewritten."""

    FORMATS = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "GIF": {}, "BMP": {}, "TIFF": {}, "PPM": {}}

    def __init__(self, folder: Path) -> None:
        warnings.simplefilter("ignore")  # of damaged EXIF data and the like, which convert silences too
        self.path = folder / "x"
        self.files = [*recoded_files(9), *photographs(20_000)]
        for name, options in self.FORMATS.items():
            for number, mode in enumerate(("RGB", "L", "P", "1", "RGBA")):
                if name in ("JPEG", "PPM") and mode in ("P", "RGBA"):
                    continue
                file = io.BytesIO()
                Image.fromarray(picture(37 + number, 23, seed=number)).convert(mode).save(file, name, **options)
                self.files.append(file.getvalue())

    def __call__(self, rng: random.Random) -> str:
        data = mutate_bytes(rng.choice(self.files), rng)
        height, width = image_size(str(write(self.path, data)))
        assert 0 <= height <= 1 << 31 >= width >= 0
        if rng.random() < 0.5:
            height, width, _ = examine(data)
            assert min(height, width) > 0
            return "proven"
        options = rng.choice(({"seek_index": True}, {"max_side": 20}, {"raw": True, "max_side": 30}, {"quality": 50}))
        stored = transcode(data, **options)
        return "stored anew" if stored.image != data else "kept"


class Masks:
    """PNG files as masks."""

    def __init__(self, _: Path) -> None:
        values = np.arange(30 * 40).reshape(30, 40)
        images = [
            Image.fromarray(values.astype(np.uint8)),
            Image.fromarray(values.astype(np.uint16)),
            Image.fromarray(values.astype(np.uint8)).convert("P"),
            Image.fromarray(values.astype(np.uint8)).convert("1"),
            Image.fromarray(values.astype(np.uint8)).convert("RGB"),
        ]
        self.files = []
        for image in images:
            file = io.BytesIO()
            image.save(file, "PNG")
            self.files.append(file.getvalue())

    def __call__(self, rng: random.Random) -> str:
        mask = decode_mask(mutate_bytes(rng.choice(self.files), rng), "mask.png")
        assert mask.ndim == 2
        assert mask.dtype in (np.uint8, np.uint16)
        return "read"


_SEED = encode(picture(16, 16, seed=1), SAMPLINGS[0])
_SCAN = read_header(_SEED).scan_offset
HEADERS = st.tuples(
    st.lists(st.tuples(st.integers(0, _SCAN - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(_SEED)) | st.none(),
    st.binary(max_size=60),
)


def header_of(_: Path):
    """Headers with any bytes in any place, cut anywhere, with any tail."""

    def parse(drawn) -> str:
        changes, size, tail = drawn
        data = bytearray(_SEED)
        for at, value in changes:
            data[at] = value
        data = bytes(data[:size]) + tail
        header = read_header(data)
        assert 1 <= header.width <= 65535
        assert 1 <= header.height <= 65535
        assert header.scan_offset <= len(data)
        assert all(offset + 17 <= header.scan_offset for offset in header.dc_tables + header.ac_tables)
        assert all(offset + 65 <= header.scan_offset for offset in header.quant_tables)
        return "read"

    return parse


_UNSUPPORTED = [number for number in range(256) if status.is_unsupported(number)]
PARSERS = [
    Parser(
        name="JPEG: decode",
        share=500,
        short=6000,
        make=Decoding,
        outcomes=tuple(
            status.describe(result)
            for result in (status.OK, status.BAD_DATA, status.BAD_INDEX, status.BAD_TABLE, status.NO_ROOM)
        ),
    ),
    Parser(
        name="JPEG: rewrite in tiles",
        share=60,
        short=2000,
        make=Rewriting,
        outcomes=("rewritten", "rewritten, and compared", *_SIGNS),
    ),
    Parser(
        name="JPEG: cut a part of the tiles",
        share=90,
        short=4000,
        make=Cutting,
        outcomes=("cut", "not tiled", "damaged", "bad call"),
    ),
    Parser(name="JPEG: header", share=30, short=200, make=header_of, strategy=HEADERS, outcomes=("refused", "read")),
    Parser(
        name="image files of every format",
        share=40,
        short=300,
        make=Transcoding,
        outcomes=("refused", "proven", "stored anew", "kept"),
    ),
    Parser(name="masks", share=30, short=300, make=Masks, outcomes=("refused", "read")),
]
