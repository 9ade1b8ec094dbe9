"""Pixels: every rectangle of every kind of file equals libjpeg-turbo's, and nothing else is touched."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from fastload.errors import DataError
from fastload.jpeg import status
from fastload.jpeg.decoder import build_index, decode
from fastload.jpeg.header import read_header
from fastload.jpeg.rectangle import decode_rectangle
from fastload.jpeg.workspace import new_workspace
from tests.jpeg.pictures import SAMPLINGS, encode, picture

NO_INDEX = np.zeros(0, np.uint8)


def rectangles(height: int, width: int, rng: random.Random, count: int) -> list[tuple[int, int, int, int]]:
    boxes = [(0, 0, height, width), (height - 1, width - 1, 1, 1)]
    for _ in range(count):
        top, left = rng.randrange(height), rng.randrange(width)
        boxes.append((top, left, rng.randint(1, height - top), rng.randint(1, width - left)))
    return boxes


def check(data: bytes, boxes: list[tuple[int, int, int, int]], steps: tuple[int, ...] = (8,)) -> None:
    reference = simplejpeg.decode_jpeg(data)
    for index in (None, *(build_index(data, step=step) for step in steps)):
        for top, left, height, width in boxes:
            got = decode(data, index=index, rectangle=(top, left, height, width))
            np.testing.assert_array_equal(got, reference[top : top + height, left : left + width])


def test_real_images_and_random_crops_of_them(imagenet_sample):
    rng = random.Random(3)
    files = sorted(imagenet_sample.glob("*/*.JPEG"))
    assert len(files) == 400
    for file in files:
        data = file.read_bytes()
        header = read_header(data)
        assert header.baseline
        check(data, rectangles(header.height, header.width, rng, 2))


def test_photographs_of_coco(coco128):
    files = sorted((coco128 / "images").rglob("*.jpg"))
    assert len(files) == 128
    taken = [file for file in files if read_header(file.read_bytes()).baseline]
    assert len(taken) > 120
    for file in taken:
        data = file.read_bytes()
        header = read_header(data)
        check(data, rectangles(header.height, header.width, random.Random(1), 1))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(5, 150),
    st.integers(1, 150),
    st.sampled_from(SAMPLINGS),
    st.sampled_from((1, 10, 50, 90, 100)),
    st.sampled_from((0.0, 20.0, 80.0)),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_pictures_of_every_kind(width, height, sampling, quality, noise, optimize, seed):
    data = encode(picture(width, height, seed=seed, noise=noise), sampling, quality=quality, optimize=optimize)
    check(data, rectangles(height, width, random.Random(seed), 3), steps=(1, 3, 255))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(5, 120), st.integers(1, 120), st.sampled_from(SAMPLINGS[:-1]), st.integers(1, 40), st.integers(0, 9999)
)
def test_restart_markers(width, height, sampling, interval, seed):
    data = encode(picture(width, height, seed=seed), sampling, restart_marker_blocks=interval)
    assert read_header(data).restart_interval == interval
    assert build_index(data) == b""
    check(data, rectangles(height, width, random.Random(seed), 4), steps=())


def test_restart_markers_once_a_row():
    data = encode(picture(300, 200), "4:2:0", restart_marker_rows=1)
    check(data, rectangles(200, 300, random.Random(0), 20), steps=())


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_noise_that_overflows_every_stage(sampling):
    """Coefficients of white noise, multiplied by the largest factors: sums that saturate where libjpeg-turbo's do.

    All but the mean: one of such a size is refused.
    """
    rng = np.random.default_rng(0)
    data = bytearray(encode(rng.integers(0, 2, (64, 64, 3), dtype=np.uint8) * 255, sampling, quality=95))
    for offset in set(read_header(data).quant_tables):
        data[offset + 2 : offset + 65] = bytes([255]) * 63
    check(bytes(data), [(0, 0, 64, 64), (5, 9, 40, 30)])
    for offset in set(read_header(data).quant_tables):
        data[offset + 1] = 255
    with pytest.raises(DataError, match="damaged"):
        decode(bytes(data))


def test_a_table_that_follows_a_broken_one_is_built():
    """Tables are kept from one file to the next; one that was refused must not be taken for built."""
    data = encode(picture(40, 40), "grey")
    header = read_header(data)
    broken = bytearray(data)
    broken[header.ac_tables[0] + 1] = 2  # two codes of one bit: one of them consists of ones
    broken[header.ac_tables[0] + 2] -= 2
    for file in (data, bytes(broken), data, bytes(broken), bytes(broken), data):
        if file == data:
            check(file, [(0, 0, 40, 40)])
        else:
            with pytest.raises(DataError, match="Huffman"):
                decode(file)


def test_quantisation_tables_of_16_bits():
    data = encode(picture(64, 48), "grey", quality=30)
    header = read_header(data)
    begin = header.quant_tables[0]
    values = np.frombuffer(data[begin + 1 : begin + 65], np.uint8).astype(">u2")
    values[10:] *= 3
    segment = b"\xff\xdb" + (2 + 1 + 128).to_bytes(2, "big") + b"\x10" + values.tobytes()
    data = data[: begin - 4] + segment + data[begin + 65 :]
    assert values.max() > 255
    check(data, [(0, 0, 48, 64), (7, 3, 30, 41)])


def test_wide_and_tall_images():
    check(encode(picture(4000, 9), "4:2:0"), [(0, 0, 9, 4000), (3, 3977, 6, 23)])
    check(encode(picture(9, 4000), "4:2:0"), [(0, 0, 4000, 9), (3977, 3, 23, 6)])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("width", [1, 17, 31, 32, 33, 64, 90])
def test_writes_the_rectangle_and_nothing_else(sampling, width):
    data = np.frombuffer(encode(picture(100, 60), sampling), np.uint8)
    reference = simplejpeg.decode_jpeg(data.tobytes())
    work = new_workspace(128, len(data))
    stride = 3 * width + 7
    out = np.full(40 * stride, 0xA5, np.uint8)
    size = 29 * stride + 3 * width
    assert decode_rectangle(data, len(data), NO_INDEX, 11, 5, 30, width, out[:size], stride, work) == status.OK
    rows = out[: 30 * stride].reshape(30, stride)
    np.testing.assert_array_equal(rows[:, : 3 * width].reshape(30, width, 3), reference[11:41, 5 : 5 + width])
    assert (rows[:, 3 * width :] == 0xA5).all()
    assert (out[30 * stride :] == 0xA5).all()


def test_one_workspace_serves_images_of_all_sizes_and_kinds():
    work = new_workspace(512, 1 << 20)
    rng = random.Random(5)
    for number in range(60):
        width, height = rng.randint(5, 500), rng.randint(1, 200)
        data = np.frombuffer(encode(picture(width, height, seed=number), rng.choice(SAMPLINGS)), np.uint8)
        out = np.zeros(3 * width * height, np.uint8)
        assert decode_rectangle(data, len(data), NO_INDEX, 0, 0, height, width, out, 3 * width, work) == status.OK
        np.testing.assert_array_equal(out.reshape(height, width, 3), simplejpeg.decode_jpeg(data.tobytes()))


@pytest.mark.parametrize(
    ("top", "left", "height", "width", "stride", "size"),
    [
        (-1, 0, 5, 5, 15, 75),
        (0, -1, 5, 5, 15, 75),
        (0, 0, 0, 5, 15, 75),
        (0, 0, 5, 0, 15, 75),
        (56, 0, 5, 5, 15, 75),
        (0, 96, 5, 5, 15, 75),
        (0, 0, 5, 5, 14, 75),
        (0, 0, 5, 5, 15, 74),
        (1 << 62, 0, 1 << 62, 5, 15, 75),
        (0, 0, 5, 5, 1 << 62, 75),
        (0, 0, 5, 5, -15, 75),
    ],
)
def test_rectangles_that_cannot_be_are_refused(top, left, height, width, stride, size):
    data = np.frombuffer(encode(picture(100, 60)), np.uint8)
    out = np.full(size, 7, np.uint8)
    work = new_workspace(128, len(data))
    result = decode_rectangle(data, len(data), NO_INDEX, top, left, height, width, out, stride, work)
    assert result == status.BAD_CALL
    assert (out == 7).all()


def test_threads_decode_at_the_same_time(imagenet_sample):
    """Eight threads, one workspace each."""
    files = [file.read_bytes() for file in sorted(imagenet_sample.glob("*/*.JPEG"))[:48]]
    references = [simplejpeg.decode_jpeg(data) for data in files]

    def work(number: int) -> bool:
        return all(np.array_equal(decode(files[i]), references[i]) for i in range(number % 4, 48, 4))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_python_runs_while_an_image_is_decoded():
    """Many times during one call; beside a call that held the interpreter's lock 10 turns were the most, before it."""
    data = encode(np.tile(picture(400, 400), (10, 8, 1)), "4:2:0")
    begun, turns = threading.Event(), 0

    def work() -> None:
        begun.set()
        decode(data)

    with ThreadPoolExecutor(1) as pool:
        for _ in range(50):  # on a busy machine this thread may come too late
            turns = 0
            begun.clear()
            future = pool.submit(work)
            begun.wait()
            while not future.done():
                turns += 1
                time.sleep(0.0005)
            if turns > 30:
                break
    assert turns > 30


def test_too_small_a_workspace_is_said():
    data = np.frombuffer(encode(picture(100, 60), "4:2:0"), np.uint8)
    out = np.zeros(3, np.uint8)
    for work in (new_workspace(96, len(data)), new_workspace(112, len(data) - 1)):
        assert decode_rectangle(data, len(data), NO_INDEX, 0, 0, 1, 1, out, 3, work) == status.NO_ROOM
    assert decode_rectangle(data, len(data) + 1, NO_INDEX, 0, 0, 1, 1, out, 3, work) == status.BAD_CALL


def test_other_kinds_of_files_are_left_to_libjpeg_turbo():
    for options, reason in (({"progressive": True}, "progressive"), ({"keep_rgb": True}, "RGB")):
        data = encode(picture(40, 40), **options)
        with pytest.raises(DataError, match=reason):
            decode(data)
        source = np.frombuffer(data, np.uint8)
        work = new_workspace(64, len(source))
        result = decode_rectangle(source, len(source), NO_INDEX, 0, 0, 1, 1, np.zeros(3, np.uint8), 3, work)
        assert status.is_unsupported(result)
        assert status.describe(result) == read_header(data).unsupported
        assert build_index(data) == b""


def test_a_file_without_its_end_is_damaged():
    data = encode(picture(100, 60), "4:2:0")
    for size in (len(data) - 1, len(data) - 2, len(data) - 300):
        with pytest.raises(DataError, match="damaged"):
            decode(data[:size])


def test_damaged_bits_give_an_error_or_what_libjpeg_turbo_gives():
    """A flipped bit of a value changes a colour and no decoder can see it; one of a code ends the tile elsewhere."""
    data = encode(picture(320, 240), "4:2:0", quality=90)
    index = build_index(data)
    scan = read_header(data).scan_offset
    rng = random.Random(0)
    noticed = 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.randrange(scan, len(data) - 2)] ^= 1 << rng.randrange(8)
        try:
            got = decode(bytes(damaged), index=index)
        except DataError:
            noticed += 1
        else:
            np.testing.assert_array_equal(got, simplejpeg.decode_jpeg(bytes(damaged)))
    assert 150 <= noticed < 400
