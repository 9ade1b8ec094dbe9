"""What is cut from a tiled file shows, by libjpeg-turbo, the pixels of the whole file: simplejpeg's and Pillow's."""

import io
import random

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fastload.errors import DataError
from fastload.jpeg.recode.part import part_of
from fastload.jpeg.recode.tiles import retile
from tests.jpeg.pictures import SAMPLINGS, encode, picture
from tests.jpeg.recode_tools import noise_file, pillow
from tests.jpeg.test_jpeg_recode import ODD_SAMPLINGS


def turbo(data: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, strict=True)


def boxes(height: int, width: int, count: int, rng: random.Random):
    """Rectangles anywhere, single pixels and ones along the borders."""
    for number in range(count):
        top, left = rng.randrange(height), rng.randrange(width)
        if number % 3 == 0:
            yield top, left, 1, 1
        elif number % 3 == 1:
            yield top, left, height - top, width - left
        else:
            yield top, left, rng.randint(1, height - top), rng.randint(1, width - left)


def check(tiled: bytes, count: int, rng: random.Random, decode) -> int:
    """Cuts some rectangles from a file and compares; returns the bytes of all parts."""
    whole = decode(tiled)
    height, width = whole.shape[:2]
    num_bytes = 0
    for top, left, rows, columns in boxes(height, width, count, rng):
        part = part_of(tiled, top=top, left=left, height=rows, width=columns)
        assert (part.image_height, part.image_width) == (height, width)
        pixels = decode(part.data.tobytes())
        assert pixels.shape[:2] == (part.height, part.width)
        y, x = top - part.top, left - part.left
        wanted = whole[top : top + rows, left : left + columns]
        np.testing.assert_array_equal(pixels[y : y + rows, x : x + columns], wanted)
        num_bytes += part.data.size
    return num_bytes


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_sampling_at_every_place(sampling):
    rng = random.Random(5)
    for number in range(30):
        size = rng.choice(((rng.randint(1, 40), rng.randint(1, 40)), (rng.randint(100, 400), rng.randint(20, 120))))
        data = encode(picture(*size, seed=number), sampling, progressive=True) if sampling != "4:4:0" else None
        tiled = retile(data or encode(picture(*size, seed=number), sampling))
        check(tiled, 12, rng, turbo)
        check(tiled, 3, rng, pillow)


@pytest.mark.parametrize("sampling", ODD_SAMPLINGS)
def test_odd_samplings(sampling):
    rng = random.Random(6)
    for number in range(6):
        check(noise_file(rng.randint(30, 300), rng.randint(1, 120), sampling, number), 15, rng, pillow)


def test_a_last_tile_of_few_pixels():
    """libjpeg-turbo repeats chroma in place of interpolating it in pictures of up to four pixels."""
    rng = random.Random(7)
    for rest in range(1, 9):
        for sampling in ("4:2:0", "4:2:2"):
            tiled = retile(encode(picture(17 * 16 + rest, 40, seed=rest), sampling))
            check(tiled, 9, rng, turbo)
            whole = turbo(tiled)
            part = part_of(tiled, top=20, left=17 * 16 + rest - 1, height=20, width=1)
            pixels = turbo(part.data.tobytes())
            np.testing.assert_array_equal(pixels[20 - part.top :, -1], whole[20:, -1])


def test_photographs(imagenet_sample):
    rng = random.Random(8)
    total = parts = 0
    for file in sorted(imagenet_sample.glob("*/*"))[::16]:
        tiled = retile(file.read_bytes())
        total += 6 * len(tiled)
        parts += check(tiled, 6, rng, turbo)
    assert parts < 0.6 * total


def test_another_encoder_may_have_set_the_markers():
    data = encode(picture(160, 90), "4:2:0", restart_marker_blocks=5)
    check(data, 20, random.Random(9), turbo)
    rows = encode(picture(100, 90), "4:4:4", restart_marker_rows=1)
    check(rows, 20, random.Random(9), turbo)
    part = part_of(rows, top=40, left=50, height=8, width=1)
    assert (part.top, part.left, part.height, part.width) == (40, 0, 8, 100)


def test_a_part_has_no_ballast():
    data = retile(encode(picture(64, 64), "4:2:0", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0", icc_profile=bytes(9000)))
    part = part_of(data, top=0, left=0, height=8, width=8)
    image = Image.open(io.BytesIO(part.data.tobytes()))
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
    assert part.data.size < len(data) - 9000


def test_what_has_no_tiles_is_left_whole():
    pixels = picture(100, 60)
    untiled = (
        encode(pixels, "4:2:0"),
        encode(pixels, "4:2:0", progressive=True, restart_marker_blocks=1),
        encode(pixels, "4:2:0", restart_marker_blocks=4),  # seven MCUs in a row
        encode(pixels, "4:2:0", restart_marker_rows=2),
        b"",
        b"\xff\xd8\xff",
        bytes(1000),
    )
    for data in untiled:
        assert part_of(data, top=0, left=0, height=8, width=8) is None


def test_damaged_markers_are_noticed_up_to_the_rectangle():
    data = retile(encode(picture(256, 60), "4:4:4"))
    at = data.index(b"\xff\xd1")
    wrong = data[:at] + b"\xff\xd3" + data[at + 2 :]
    assert part_of(wrong, top=0, left=128, height=8, width=8) is None
    assert part_of(wrong, top=0, left=0, height=8, width=8) is not None
    assert part_of(data[:-2], top=59, left=255, height=1, width=1) is None


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 61, 5), (0, 96, 5, 5), (0, 0, 0, 5), (0, 1 << 62, 1, 1 << 62)])
def test_a_rectangle_outside_is_an_error(box):
    data = retile(encode(picture(100, 60), "4:4:4"))
    top, left, height, width = box
    with pytest.raises(DataError, match="100 x 60 pixels"):
        part_of(data, top=top, left=left, height=height, width=width)
