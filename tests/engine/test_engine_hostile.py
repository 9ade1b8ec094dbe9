"""Image files that are damaged, odd or meant to harm: each is delivered as Pillow shows it, or is one clear failure."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from fastload.engine.cpu import CpuEngine
from fastload.engine.cpu.decode import decode
from fastload.engine.cpu.workspace import Workspace
from fastload.engine.limits import MAX_FILE_BYTES
from fastload.errors import DataError
from fastload.stats import Stats
from tests.engine.helpers import MemoryDataset, decoded, jpeg, make_output, make_slot, picture, whole_images


def save(image, image_format, **options):
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def pixels_of(data):
    """What the engine decodes, and with which decoder."""
    workspace = Workspace(make_output())
    workspace.reserve_encoded(len(data))[: len(data)] = np.frombuffer(data, np.uint8)
    result = decode(len(data), np.zeros(0, np.uint8), [0, 0, *PHOTO.shape[:2]], workspace)
    assert result.region == (0, 0, result.image_height, result.image_width)
    height, width = result.region[2:]
    return workspace.pixels[: height * width * 3].reshape(height, width, 3), result.decoder


PHOTO = picture(90, 120)


def odd_images():
    rgb = Image.fromarray(PHOTO)
    alpha = rgb.copy()
    alpha.putalpha(rgb.convert("L"))
    deep = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "jpeg 4:2:0": (jpeg(PHOTO, subsampling=2), "fastload"),
        "jpeg 4:4:4": (jpeg(PHOTO, subsampling=0), "fastload"),
        "progressive": (jpeg(PHOTO, progressive=True), "turbo"),
        "grey": (jpeg(PHOTO, mode="L"), "fastload"),
        "restart markers": (jpeg(PHOTO, restart_marker_blocks=3), "fastload"),
        "EXIF orientation, which is ignored": (jpeg(PHOTO, exif=exif), "fastload"),
        "bytes behind the end": (jpeg(PHOTO) + b"tail", "turbo"),
        "bytes before the end marker": (jpeg(PHOTO)[:-2] + b"\0" * 20 + b"\xff\xd9", "pillow"),
        "CMYK": (jpeg(PHOTO, mode="CMYK"), "pillow"),
        "png": (save(rgb, "PNG"), "pillow"),
        "png with alpha": (save(alpha, "PNG"), "pillow"),
        "png with a palette": (save(rgb.quantize(16), "PNG"), "pillow"),
        "png, 16 bits": (save(deep, "PNG"), "pillow"),
        "png, 1 bit": (save(rgb.convert("1"), "PNG"), "pillow"),
        "webp": (save(rgb, "WEBP", lossless=True), "pillow"),
        "bmp": (save(rgb, "BMP"), "pillow"),
        "tiff": (save(rgb, "TIFF"), "pillow"),
        "gif": (save(rgb, "GIF"), "pillow"),
    }


@pytest.mark.parametrize("name", sorted(odd_images()))
def test_odd_images_have_the_pixels_that_pillow_shows(name):
    data, decoder = odd_images()[name]
    pixels, used = pixels_of(data)
    np.testing.assert_array_equal(pixels, decoded(data))
    assert used == decoder


def jpeg_header(height, width):
    """The start of a JPEG of any size."""
    data = bytearray(jpeg(picture(16, 16)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def png_header(height, width):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [
        jpeg_header(65500, 65500),
        jpeg_header(65535, 65535),
        png_header(65500, 65500),
        png_header(2_000_000_000, 2_000_000_000),
        png_header(1, 70_000),
        jpeg_header(9500, 9500),
    ],
)
def test_a_decompression_bomb_fails_before_anything_is_allocated(data):
    pixels_of(jpeg(PHOTO))  # what is loaded or compiled for the first time is nobody's bomb
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            pixels_of(data)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_an_image_of_the_largest_side_is_taken():
    data = save(Image.new("RGB", (65_535, 3), (9, 8, 7)), "PNG")
    pixels, _ = pixels_of(data)
    assert pixels.shape == (3, 65_535, 3)
    assert (pixels == (9, 8, 7)).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"mode": "L"}])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_a_truncated_jpeg_is_a_failure_wherever_it_ends(options, ending):
    data = jpeg(PHOTO, quality=90, **options)
    whole = decoded(data)
    delivered = 0
    for length in [*range(0, len(data) - 2, 37), *range(len(data) - 12, len(data) - 2)]:
        try:
            pixels, _ = pixels_of(data[:length] + ending)
        except DataError:
            continue
        # What is left out may have been padding, or (progressive) whole scans that refine: never pixels made up.
        delivered += 1
        if not options.get("progressive"):
            np.testing.assert_array_equal(pixels, whole, err_msg=f"cut at {length} of {len(data)}")
    assert delivered <= (12 if options.get("progressive") else 3)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_other_truncated_formats_are_failures(image_format):
    data = save(Image.fromarray(PHOTO), image_format)
    for length in (5, len(data) // 3, len(data) * 2 // 3):
        with pytest.raises(DataError):
            pixels_of(data[:length])


def test_random_bytes_and_mutations_never_do_harm():
    rng = np.random.default_rng(1)
    good = jpeg(PHOTO, quality=90, restart_marker_blocks=4)
    failed = 0
    for number in range(300):
        if number % 3 == 0:
            data = rng.bytes(int(rng.integers(0, 3000)))
            data = b"\xff\xd8\xff" + data if number % 2 else data
        else:
            changed = bytearray(good)
            for place in rng.integers(2, len(good), 1 + number % 8):
                changed[place] = rng.integers(256)
            data = bytes(changed)
        try:
            pixels, _ = pixels_of(data)
            assert pixels.size > 0
        except DataError:
            failed += 1
    assert failed >= 100


def test_programs_are_not_images():
    with pytest.raises(DataError, match="none of the image formats"):
        pixels_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")


def test_a_file_beyond_the_limit_is_not_read():
    with pytest.raises(DataError, match="bytes"):
        Workspace(make_output()).reserve_encoded(MAX_FILE_BYTES + 1)


def test_bad_files_among_good_ones_are_counted_and_named():
    good = jpeg(PHOTO)
    files = [good, good[: len(good) // 2], jpeg(PHOTO, mode="CMYK"), b"", jpeg_header(65500, 65500), good]
    dataset, output, stats = MemoryDataset(files), make_output(), Stats()
    dataset.sizes = lambda ids: np.array([(90, 120)] * len(ids), np.int32)
    slot = make_slot(6, output)
    engine = CpuEngine(dataset, output, num_workers=2, stats=stats)
    failures = engine.submit(whole_images(dataset, output), slot).result()
    engine.close()
    assert [failure.sample_id for failure in failures] == [1, 3, 4]
    assert "truncated" in failures[0].reason
    assert "empty" in failures[1].reason
    assert "65500 x 65500" in failures[2].reason
    assert stats.counts()["decoder.fastload"] == 2
    assert stats.counts()["decoder.pillow"] == 1
    np.testing.assert_array_equal(slot[0], slot[5])
