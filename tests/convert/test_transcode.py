"""JPEG bytes are kept where they can be; everything else becomes a JPEG that looks as Pillow shows it."""

import io
import random
import struct
import warnings
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from fastload.convert.shrink import shrink
from fastload.convert.transcode import MOST_PIXELS, fitted_size, transcode
from fastload.errors import DataError
from fastload.jpeg.decoder import build_index
from fastload.jpeg.header import read_header
from tests.fuzz.images import MAX_BYTES, small_files
from tests.fuzz.mutations import mutate_jpeg


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def difference(data, reference: Image.Image):
    """Mean absolute difference of a JPEG to an image, in grey levels."""
    ours = np.asarray(opened(data).convert("RGB")).astype(int)
    theirs = np.asarray(reference.convert("RGB")).astype(int)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).mean()


KEPT = {
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "420": {"subsampling": 2},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True, "quality": 40},
    "rgb": {"keep_rgb": True},
    "restarts": {"restart_marker_blocks": 2},
    "profile": {"icc_profile": bytes(70_000), "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0", "comment": b"a photograph"},
}


@pytest.mark.parametrize("name", KEPT)
def test_the_bytes_of_a_jpeg_are_kept(tools, name):
    data = tools.encode(tools.picture(1, (61, 47)), **KEPT[name])
    result = transcode(data)
    assert result.image is data
    assert (result.height, result.width, result.reencoded, result.reason) == (47, 61, False, "")
    assert result.crc32 == zlib.crc32(data)


def verdict(data, **options):
    try:
        return transcode(data, **options)
    except DataError as error:
        return error.reason


def test_making_an_index_changes_no_verdict_on_damaged_files(imagenette, tools):
    """What the indexer accepts, libjpeg-turbo does too; 3,000 files damaged in headers, scan or at the end."""
    rng = random.Random(5)
    files = [file.read_bytes() for file in sorted(imagenette.glob("val/*/*"))[::50]] + small_files(None, 25)
    outcomes = Counter()
    for number in range(3000):
        data = rng.choice(files)
        scan = read_header(data).scan_offset
        begin, end = [(0, scan), (scan, len(data)), (len(data) - 30, len(data))][number % 3]
        data = mutate_jpeg(data, rng, begin, end, MAX_BYTES)
        with_index, without = (verdict(data, seek_index=seek_index) for seek_index in (True, False))
        if isinstance(without, str):
            assert with_index == without
            outcomes["refused"] += 1
        else:
            assert replace(with_index, seek=b"") == without
            assert with_index.seek in (b"", build_index(without.image))
            outcomes["encoded anew" if without.reencoded else "kept"] += 1
            outcomes["indexed"] += with_index.seek != b""
    assert min(outcomes[name] for name in ("refused", "encoded anew", "kept", "indexed")) > 50, outcomes


def test_the_index_is_of_what_is_stored(tools):
    shrunk = transcode(tools.encode(tools.picture(1, (300, 200))), max_side=150, seek_index=True)
    png = transcode(tools.encode(tools.picture(1), "PNG"), seek_index=True)
    for stored in (shrunk, png):
        assert stored.reencoded
        assert stored.seek == build_index(stored.image) != b""
    assert transcode(tools.encode(tools.picture(1), progressive=True), seek_index=True).seek == b""
    assert transcode(tools.encode(tools.picture(1))).seek == b""


def test_grey_jpegs_and_all_real_ones_are_kept(tools, imagenet_sample, coco128):
    data = tools.encode(tools.picture(1).convert("L"))
    assert transcode(data).image is data
    files = [*sorted(imagenet_sample.glob("*/*"))[::4], *sorted((coco128 / "images").iterdir())[::4]]
    assert len(files) > 120
    for file in files:
        data = file.read_bytes()
        assert transcode(data).image is data


def noisy_palette(tools):
    image = tools.picture(3).convert("P", palette=Image.Palette.ADAPTIVE)
    image.info["transparency"] = bytes(range(256))
    return image


def with_alpha(tools, mode):
    image = tools.picture(2).convert(mode)
    image.putalpha(Image.fromarray(np.arange(60 * 45, dtype=np.uint32).astype(np.uint8).reshape(45, 60)))
    return image


OTHERS = {
    "png": lambda t: (t.picture(1), "PNG", {}),
    "png grey": lambda t: (t.picture(1).convert("L"), "PNG", {}),
    "png with alpha": lambda t: (with_alpha(t, "RGB"), "PNG", {}),
    "png grey with alpha": lambda t: (with_alpha(t, "L"), "PNG", {}),
    "png palette": lambda t: (t.picture(1).convert("P", palette=Image.Palette.ADAPTIVE), "PNG", {}),
    "png palette with alpha": lambda t: (noisy_palette(t), "PNG", {}),
    "png one bit": lambda t: (t.picture(1).convert("1"), "PNG", {}),
    "webp": lambda t: (t.picture(1), "WEBP", {"lossless": True}),
    "bmp": lambda t: (t.picture(1), "BMP", {}),
    "ppm": lambda t: (t.picture(1), "PPM", {}),
    "tiff": lambda t: (t.picture(1), "TIFF", {}),
    "gif": lambda t: (t.picture(1).convert("P", palette=Image.Palette.ADAPTIVE), "GIF", {}),
    "tiff cmyk": lambda t: (t.picture(1).convert("CMYK"), "TIFF", {}),
    "jpeg cmyk": lambda t: (t.picture(1, (64, 48)).convert("CMYK"), "JPEG", {"quality": 95}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_images_become_jpegs_that_look_the_same(tools, name):
    image, image_format, options = OTHERS[name](tools)
    data = tools.encode(image, image_format, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow on palettes with transparency
        reference = opened(data).convert("RGB")  # as torchvision's loader does
    result = transcode(data)
    assert result.reencoded
    assert result.reason
    stored = opened(result.image)
    assert stored.format == "JPEG"
    assert stored.mode == ("L" if "grey" in name or "one bit" in name else "RGB")
    assert stored.size == reference.size == (result.width, result.height)
    if stored.mode == "RGB":
        assert JpegImagePlugin.get_sampling(stored) == 0  # 4:4:4
    # Dithering is hard on any JPEG.
    assert difference(result.image, reference) < (4 if name.startswith(("png one bit", "gif", "png palette")) else 2)
    assert result.crc32 == zlib.crc32(result.image)


def test_sixteen_bits_lose_their_lower_byte(tools):
    values = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    for image_format in ("PNG", "TIFF", "PPM"):
        result = transcode(tools.encode(Image.fromarray(values), image_format))
        stored = np.asarray(opened(result.image)).astype(int)
        assert np.abs(stored - (values >> 8)).mean() < 2, image_format


def test_samples_of_32_bits_are_refused(tools):
    data = tools.encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(DataError, match="32-bit"):
        transcode(data)


def test_the_first_frame_of_an_animation_is_taken(tools):
    frames = [tools.picture(number) for number in (1, 2, 3)]
    data = tools.encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert difference(transcode(data).image, frames[0]) < 2


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 95}])
def test_a_jpeg_that_is_cut_anywhere_is_refused(tools, options):
    data = tools.encode(tools.picture(1, (90, 70)), **options)
    for length in [*range(1, len(data) - 1, 41), len(data) - 2, len(data) - 1]:
        with pytest.raises(DataError):
            transcode(data[:length])


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_other_images_that_are_cut_are_refused(tools, image_format):
    data = tools.encode(tools.picture(1, (90, 70)), image_format)
    for length in range(1, len(data) * 3 // 4, len(data) // 17):
        with pytest.raises(DataError):
            transcode(data[:length])


def test_a_jpeg_of_which_the_decoder_warns_is_written_anew(tools):
    image = tools.picture(1)
    data = tools.encode(image, quality=95)
    data = data[:-2] + b"\x55" * 20 + data[-2:]
    result = transcode(data)
    assert result.reencoded
    assert "extraneous bytes" in result.reason
    assert difference(result.image, opened(data)) < 3
    assert transcode(result.image).image == result.image


def png_header(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
    )


def bombs(tools):
    jpeg = bytearray(tools.encode(tools.picture(1)))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    bmp = bytearray(tools.encode(tools.picture(1), "BMP"))
    bmp[18:26] = struct.pack("<ii", 65500, 65500)
    return {"jpeg": bytes(jpeg), "png": png_header(65500, 65500), "bmp": bytes(bmp)}


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp"])
def test_headers_that_claim_too_much_are_refused_before_memory_is_asked_for(tools, kind):
    import tracemalloc

    data = bombs(tools)[kind]
    transcode(tools.encode(tools.picture(1)))  # what is loaded or compiled for the first time is nobody's bomb
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="pixels"):
            transcode(data)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert 65500 * 65500 > MOST_PIXELS


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8\xff", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bytes(999)]
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(DataError):
        transcode(data)


def test_a_jpeg_of_12_bits_is_refused_by_name(tools):
    data = bytearray(tools.encode(tools.picture(1)))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(DataError, match="12 bits"):
        transcode(bytes(data))


def test_damage_gives_a_data_error_or_an_image_of_the_size_it_names(tools):
    rng = np.random.default_rng(8)
    originals = [tools.encode(tools.picture(1), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")]
    outcomes = {"kept": 0, "written": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trial in range(700):
            data = bytearray(originals[trial % len(originals)])
            for _ in range(int(rng.integers(1, 4))):
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
            try:
                result = transcode(bytes(data))
            except DataError:
                outcomes["refused"] += 1
                continue
            outcomes["written" if result.reencoded else "kept"] += 1
            assert opened(result.image).size == (result.width, result.height)
    assert min(outcomes.values()) > 20, outcomes


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [50, 90])
def test_quality_and_chroma_sampling_of_what_is_written_anew(tools, subsampling, quality):
    data = tools.encode(tools.picture(1), subsampling=subsampling, quality=97)
    result = transcode(data, quality=quality)
    assert result.reencoded
    assert result.reason == ""  # it was asked for
    stored = opened(result.image)
    assert JpegImagePlugin.get_sampling(stored) == subsampling
    reference = opened(tools.encode(tools.picture(2), quality=quality))
    assert stored.quantization == reference.quantization


def test_grey_stays_grey_when_written_anew(tools):
    assert opened(transcode(tools.encode(tools.picture(1).convert("L")), quality=50).image).mode == "L"


@pytest.mark.parametrize(
    ("size", "max_side"), [((500, 375), 256), ((375, 500), 100), ((400, 301), 333), ((900, 3), 100)]
)
def test_max_side_gives_the_sizes_of_ffcv(tools, size, max_side):
    ratio = max_side / max(size)
    expected = np.array([ratio * size[0], ratio * size[1]]).astype(int)  # ffcv/fields/rgb_image.py, resizer
    result = transcode(tools.encode(tools.picture(1, size), subsampling=0), max_side=max_side)
    assert (result.width, result.height) == (expected[0], max(expected[1], 1))
    stored = opened(result.image)
    assert stored.size == (result.width, result.height)
    assert stored.quantization == opened(tools.encode(tools.picture(2), quality=90)).quantization
    assert JpegImagePlugin.get_sampling(stored) == 0


def test_images_within_max_side_keep_their_bytes(tools):
    data = tools.encode(tools.picture(1, (60, 45)))
    assert transcode(data, max_side=60).image is data
    assert transcode(data, max_side=59).reencoded


@pytest.mark.parametrize(
    ("before", "after"), [((30, 40), (20, 25)), ((31, 17), (7, 17)), ((9, 9), (1, 1)), ((8, 6), (4, 3))]
)
def test_shrinking_averages_exactly_over_areas(before, after):
    """Against the definition: repeat every pixel, then average whole blocks."""
    image = np.random.default_rng(1).integers(0, 256, (*before, 3), dtype=np.uint8)
    repeated = image.repeat(after[0], axis=0).repeat(after[1], axis=1).astype(np.float64)
    exact = repeated.reshape(after[0], before[0], after[1], before[1], 3).mean(axis=(1, 3))
    result = shrink(image, *after)
    assert result.dtype == np.uint8
    assert result.shape == (*after, 3)
    assert np.abs(result - exact).max() <= 0.5 + 1e-9


def test_fitted_size_never_vanishes_or_grows():
    assert fitted_size(10, 20, 20) == (10, 20)
    assert fitted_size(1, 10_000, 100) == (1, 100)
