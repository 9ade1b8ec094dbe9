"""Rewritten files hold the same coefficients, and libjpeg-turbo, as Pillow and simplejpeg have it, the same pixels."""

import io
import random

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from fastload.errors import DataError
from fastload.jpeg.header import read_header
from fastload.jpeg.recode.coefficients import read_coefficients
from fastload.jpeg.recode.huffman import make_table
from fastload.jpeg.recode.tiles import retile, tile_width, write_tiled
from tests.jpeg.pictures import SAMPLINGS, encode, picture
from tests.jpeg.recode_tools import in_several_scans, noise, noise_file, pillow, same_coefficients

ODD_SAMPLINGS = (
    ((3, 1), (1, 1), (1, 1)),
    ((2, 2), (2, 1), (1, 2)),
    ((1, 1), (2, 2), (1, 1)),
    ((4, 1), (1, 1), (1, 1)),
    ((2, 1), (2, 1), (2, 1)),
    ((1, 4), (1, 1), (1, 2)),
    ((3, 2), (1, 1), (1, 1)),
)


def check(data: bytes) -> bytes:
    """Rewrites a file and compares; the rewritten file."""
    tiled = retile(data)
    np.testing.assert_array_equal(pillow(tiled), pillow(data))
    assert same_coefficients(tiled, data)
    assert retile(tiled) == tiled
    header = read_header(tiled)
    assert not header.progressive
    assert header.restart_interval
    return tiled


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_sampling_and_size(sampling):
    rng = random.Random(3)
    for number in range(12):
        width, height = rng.randint(1, 180), rng.randint(1, 90)
        data = encode(picture(width, height, seed=number), sampling, quality=rng.choice((20, 75, 97)))
        tiled = check(data)
        whole = simplejpeg.decode_jpeg(data, strict=True)
        np.testing.assert_array_equal(simplejpeg.decode_jpeg(tiled, strict=True), whole)


@pytest.mark.parametrize("sampling", [name for name in SAMPLINGS if name != "4:4:0"])
@pytest.mark.parametrize("quality", [15, 75, 98])
def test_a_progressive_file_has_the_coefficients_of_the_baseline_file_of_the_same_pixels(sampling, quality):
    """Pillow's encoder makes both from equal coefficients."""
    for size in ((97, 41), (8, 8), (160, 64), (1, 1), (33, 100)):
        pixels = picture(*size, seed=quality)
        progressive = encode(pixels, sampling, quality=quality, progressive=True)
        baseline = encode(pixels, sampling, quality=quality)
        assert read_header(progressive).progressive
        assert same_coefficients(progressive, baseline)
        tiled = check(progressive)
        assert same_coefficients(tiled, baseline)
        assert np.array_equal(pillow(tiled), pillow(baseline))


def test_restart_markers_in_the_source():
    for number, options in enumerate(({"restart_marker_blocks": 3}, {"restart_marker_rows": 1}) * 3):
        progressive = number % 2 == 1
        check(encode(picture(90, 50, seed=number), "4:2:0", progressive=progressive, **options))


@pytest.mark.parametrize("sampling", ODD_SAMPLINGS)
def test_samplings_that_no_encoder_at_hand_writes(sampling):
    for seed, size in enumerate(((70, 40), (9, 17), (129, 66))):
        data = noise_file(*size, sampling, seed)
        assert pillow(data).shape[:2] == size[::-1]
        check(data)


@pytest.mark.parametrize("restart", [0, 4])
def test_several_sequential_scans_become_one(restart):
    for seed, sampling in enumerate((((2, 2), (1, 1), (1, 1)), ((1, 1),) * 3, ((2, 1), (1, 1), (1, 1)))):
        image = noise(75, 53, sampling, seed)
        reference = pillow(write_tiled(image))
        for groups in ([[0], [1], [2]], [[0], [1, 2]], [[2], [0, 1]]):
            data = in_several_scans(image, groups, restart)
            np.testing.assert_array_equal(pillow(data), reference)
            tiled = check(data)
            assert read_header(tiled).baseline


def test_what_stands_beside_the_pixels_is_kept():
    exif = Image.Exif()
    exif[0x010E] = "a photograph"
    options = {"icc_profile": bytes(range(256)) * 300, "exif": exif.tobytes(), "comment": b"hello", "dpi": (72, 73)}
    data = encode(picture(60, 40), "4:2:0", progressive=True, **options)
    before, after = (Image.open(io.BytesIO(item)) for item in (data, check(data)))
    assert after.info == {
        name: value for name, value in before.info.items() if name not in ("progressive", "progression")
    }
    assert after.info["icc_profile"] == options["icc_profile"]
    assert after.quantization == before.quantization
    assert after.getexif()[0x010E] == "a photograph"


def test_rgb_stays_rgb():
    buffer = io.BytesIO()
    Image.fromarray(picture(50, 30)).save(buffer, "JPEG", keep_rgb=True)
    data = buffer.getvalue()
    assert read_header(data).color_space == "rgb"
    assert read_header(check(data)).color_space == "rgb"


def refused(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        retile(data)
    return caught.value.reason


def test_what_cannot_be_rewritten_is_refused_with_the_reason():
    buffer = io.BytesIO()
    Image.fromarray(picture(40, 30)).convert("CMYK").save(buffer, "JPEG")
    assert "CMYK" in refused(buffer.getvalue())
    data = encode(picture(64, 48), "4:2:0")
    frame = data.index(b"\xff\xc0")
    assert "arithmetic" in refused(data[:frame] + b"\xff\xc9" + data[frame + 2 :])
    assert "other bits" in refused(data[: frame + 4] + b"\x0c" + data[frame + 5 :])
    assert "marker" in refused(data[:-2])
    assert "entropy-coded" in refused(data[:-40] + b"\xff\xd9")
    assert "entropy-coded" in refused(data[:-2] + b"\0\0\xff\xd9")
    with pytest.raises(DataError):
        retile(b"")


def test_a_progressive_file_without_its_last_scans_is_refused_because_decoders_smooth_it():
    data = encode(picture(64, 48), "4:2:0", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert "coefficients are missing" in refused(data[:last] + b"\xff\xd9")
    scan = data[last:-2]
    assert "sequence" in refused(data[:-2] + scan + b"\xff\xd9")


def test_coefficients_that_baseline_cannot_hold_are_refused():
    image = noise(16, 16, ((1, 1),), 0)
    for place, value, fits in ((1, 1023, True), (1, 1024, False), (0, 2047, True), (0, -2048, False)):
        image.values[:] = 0
        image.values[place] = value
        image.last[:] = place
        if fits:
            assert read_coefficients(write_tiled(image)).values[place] == value
        else:
            with pytest.raises(DataError, match="baseline"):
                write_tiled(image)


def test_tiles_divide_rows_of_mcus():
    assert [tile_width(columns, 1) for columns in (63, 59, 64, 46, 3, 1)] == [7, 59, 8, 23, 3, 1]
    assert [tile_width(columns, 2) for columns in (32, 30, 29, 33)] == [4, 3, 29, 3]
    for columns in range(1, 700):
        for across in (1, 2, 3, 4):
            assert columns % tile_width(columns, across) == 0


def test_huffman_tables_are_as_short_as_codes_of_16_bits_can_be():
    """Against Huffman's algorithm with a heap, where that needs no longer codes; no code begins another."""
    import heapq

    rng = np.random.default_rng(2)
    for number in range(60):
        used = int(rng.integers(1, 257))
        counts = np.zeros(257, np.int64)
        counts[rng.permutation(256)[:used]] = (rng.pareto(0.3 if number % 2 else 3, used) * 5).clip(0, 1e9).astype(
            int
        ) + 1
        before = counts.copy()
        lengths, symbols, codes = np.zeros(16, np.uint8), np.zeros(256, np.uint8), np.zeros(256, np.int64)
        assert make_table(counts, lengths, symbols, codes) == used == int(lengths.sum())
        sizes = codes & 31
        assert sizes.max() <= 16
        assert sum(2.0 ** -sizes[symbol] for symbol in symbols[:used]) < 1
        words = {format(code >> 5, f"0{code & 31}b") for code in codes[symbols[:used]].tolist()}
        assert len(words) == used
        assert not any(word != other and other.startswith(word) for word in words for other in words)
        heap = [int(count) for count in before[:256] if count] + [1]
        heapq.heapify(heap)
        best = 0
        while len(heap) > 1:
            both = heapq.heappop(heap) + heapq.heappop(heap)
            best += both
            heapq.heappush(heap, both)
        ours = int((before[:256] * sizes).sum())
        if sizes.max() < 16:  # the code of all ones, which the heap knows too, is not used
            assert best - 16 <= ours <= best


def test_photographs_are_the_same_and_grow_by_one_percent(imagenet_sample):
    before = after = 0
    for file in sorted(imagenet_sample.glob("*/*"))[::10]:
        data = file.read_bytes()
        tiled = retile(data)
        np.testing.assert_array_equal(simplejpeg.decode_jpeg(tiled, strict=True), simplejpeg.decode_jpeg(data))
        before, after = before + len(data), after + len(tiled)
    assert after < 1.015 * before
