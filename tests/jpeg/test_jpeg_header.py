"""Headers: sizes equal Pillow's on real images, every damage is a DataError, nothing else ever comes out."""

import contextlib
import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastload.errors import DataError
from fastload.jpeg.header import read_header


def encode(size=(37, 21), mode="RGB", **options) -> bytes:
    rng = np.random.default_rng(5)
    channels = {"L": (), "RGB": (3,), "CMYK": (4,)}[mode]
    pixels = rng.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode if mode == "CMYK" else None).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_sizes_and_kind_equal_pillow_on_real_images(imagenet_sample):
    files = sorted(imagenet_sample.glob("*/*.JPEG"))
    assert len(files) == 400
    for file in files:
        data = file.read_bytes()
        header = read_header(data)
        with Image.open(file) as image:
            assert (header.width, header.height) == image.size
            assert header.components == len(image.getbands())
            assert header.progressive == bool(image.info.get("progressive"))
            assert header.sampling == tuple((h, v) for _, h, v, _ in image.layer)


@pytest.mark.parametrize(
    ("options", "space", "unsupported"),
    [
        ({"mode": "L"}, "grey", ""),
        ({"subsampling": 0}, "ycbcr", ""),
        ({"subsampling": 1}, "ycbcr", ""),
        ({"subsampling": 2}, "ycbcr", ""),
        ({"subsampling": 2, "restart_marker_blocks": 3}, "ycbcr", ""),
        ({"progressive": True}, "ycbcr", "sequential"),
        ({"keep_rgb": True, "subsampling": 0}, "rgb", "YCbCr"),
        ({"mode": "CMYK"}, "cmyk", "YCbCr"),
        ({"subsampling": 2, "size": (3, 30)}, "ycbcr", "narrow"),
    ],
)
def test_says_which_files_the_decoder_takes(options, space, unsupported):
    header = read_header(encode(**options))
    assert header.color_space == space
    assert header.baseline == (unsupported == "")
    assert unsupported in header.unsupported
    assert header.restart_interval == options.get("restart_marker_blocks", 0)
    assert header.progressive == options.get("progressive", False)


def test_sequential_arithmetic_and_lossless_are_told_apart():
    data = encode()
    frame = data.index(b"\xff\xc0")
    for marker, kind in ((0xC3, "lossless"), (0xC9, "arithmetic")):
        header = read_header(data[: frame + 1] + bytes([marker]) + data[frame + 2 :])
        assert getattr(header, kind)
        assert not header.baseline


def test_takes_every_kind_of_buffer_and_only_the_beginning():
    data = encode()
    header = read_header(data)
    spaced = np.frombuffer(bytes(itertools.chain.from_iterable((b, 0) for b in data)), np.uint8)[::2]
    for view in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8), spaced, data[: header.scan_offset]):
        assert read_header(view) == header


def test_every_file_cut_in_its_headers_is_refused():
    data = encode(restart_marker_blocks=2)
    scan = read_header(data).scan_offset
    for size in range(scan):
        with pytest.raises(DataError):
            read_header(data[:size])


@pytest.mark.parametrize(
    ("find", "offset", "value", "message"),
    [
        (b"\xff\xc0", 5, b"\x00\x00", "1 x 1"),  # no rows
        (b"\xff\xc0", 9, b"\x05", "components"),
        (b"\xff\xc0", 11, b"\x51", "sampling"),
        (b"\xff\xc0", 12, b"\x09", "quantisation"),
        (b"\xff\xc4", 4, b"\x07", "Huffman"),
        (b"\xff\xc4", 5, b"\xff\xff", "Huffman"),
        (b"\xff\xdb", 4, b"\x37", "quantisation"),
        (b"\xff\xdb", 2, b"\x00\x01", "segment"),
        (b"\xff\xda", 5, b"\x77", "scan"),
        (b"\xff\xda", 4, b"\x09", "scan"),
        (b"\xff\xd8", 0, b"PK", "begins with"),
    ],
)
def test_damage_is_named(find, offset, value, message):
    data = bytearray(encode())
    at = data.index(find) + offset
    data[at : at + len(value)] = value
    with pytest.raises(DataError, match=message):
        read_header(data)


def test_endless_headers_are_given_up():
    with pytest.raises(DataError, match="64 KiB"):
        read_header(b"\xff\xd8\xff\xe0\x00\x02" + bytes(10_000_000))
    with pytest.raises(DataError, match="segments"):
        read_header(b"\xff\xd8" + b"\xff\xe1\x00\x02" * 1_000_000)


_SEED = encode(size=(16, 16), subsampling=0)
_SCAN = read_header(_SEED).scan_offset


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, _SCAN - 1), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 700))
def test_mutated_headers_give_a_header_or_a_data_error(changes, size):
    data = bytearray(_SEED)
    for at, value in changes:
        data[at] = value
    for candidate in (data, data[:size]):
        try:
            header = read_header(candidate)
        except DataError:
            continue
        assert 1 <= header.width <= 65535
        assert 1 <= header.height <= 65535
        assert header.scan_offset <= len(candidate)
        assert all(offset + 17 <= header.scan_offset for offset in header.dc_tables + header.ac_tables)
        assert all(offset + 65 <= header.scan_offset for offset in header.quant_tables)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_a_header_or_a_data_error(tail):
    for data in (tail, b"\xff\xd8\xff" + tail, _SEED[:-20] + tail):
        with contextlib.suppress(DataError):
            read_header(data)
