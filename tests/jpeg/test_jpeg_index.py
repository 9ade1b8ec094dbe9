"""The seek index: what is in it, and that one that lies can do no harm."""

import random
import struct

import numpy as np
import pytest
import simplejpeg

from fastload.errors import DataError
from fastload.jpeg.decoder import INDEX_STEP, build_index, decode
from fastload.jpeg.header import read_header
from tests.jpeg.guarded import Guarded
from tests.jpeg.pictures import SAMPLINGS, encode, picture

DATA = encode(picture(200, 120), "4:2:0")
REFERENCE = simplejpeg.decode_jpeg(DATA)


def test_layout_is_what_the_module_says():
    index = build_index(DATA, step=4)
    step, *_, components, columns, rows, end = struct.unpack_from("<BB3BBHHI", index)
    assert (step, components, columns, rows) == (4, 3, 13, 8)
    # The last bit of the scan lies in the byte before the end-of-image marker.
    assert (end + 7) // 8 == len(DATA) - 2
    (first, *predictors) = struct.unpack_from("<I3h", index, 14)
    assert first == 8 * read_header(DATA).scan_offset
    assert predictors == [0, 0, 0]


def test_equal_files_give_equal_indexes_and_steps_trade_bytes():
    sizes = [len(build_index(DATA, step=step)) for step in (1, 2, 4, 8, 255)]
    assert sizes == sorted(sizes, reverse=True)
    assert build_index(DATA) == build_index(bytearray(DATA)) == build_index(DATA, step=INDEX_STEP)


def test_size_on_real_images(imagenet_sample):
    files = sorted(imagenet_sample.glob("*/*.JPEG"))
    total = sum(file.stat().st_size for file in files)
    share = sum(len(build_index(file.read_bytes())) for file in files) / total
    assert share < 0.021


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_files_without_a_sound_scan_have_no_index(sampling):
    data = encode(picture(64, 64), sampling)
    scan = read_header(data).scan_offset
    assert build_index(data)
    assert build_index(data[:-2]) == b""
    assert build_index(data[: scan + 20] + b"\xff\xd9") == b""
    with pytest.raises(DataError):
        build_index(data[: scan - 5])


def test_index_of_another_file_is_refused():
    others = [encode(picture(200, 120, seed=1), "4:2:0"), encode(picture(216, 120), "4:2:0"), encode(picture(200, 120))]
    for other in others:
        with pytest.raises(DataError, match=r"index|damaged"):
            decode(DATA, index=build_index(other))


def test_every_changed_byte_of_an_index_gives_an_error_or_the_right_pixels():
    index = build_index(DATA, step=3)
    for at in range(len(index)):
        for change in (0x01, 0x80, 0xFF):
            lie = bytearray(index)
            lie[at] ^= change
            try:
                got = decode(DATA, index=bytes(lie))
            except DataError:
                continue
            np.testing.assert_array_equal(got, REFERENCE)


def test_every_cut_index_is_refused():
    index = build_index(DATA)
    for size in range(1, len(index)):
        with pytest.raises(DataError):
            decode(DATA, index=index[:size])


def test_random_bytes_as_an_index():
    rng = random.Random(4)
    index = build_index(DATA)
    for _ in range(500):
        lie = index[:14] + rng.randbytes(len(index) - 14)
        with pytest.raises(DataError):
            decode(DATA, index=lie)


def test_an_index_whose_fields_have_no_bits_is_not_read_beyond_its_end():
    """Found by the long mutation job: with widths of zero, entries were loaded from one byte behind the padding."""
    index = build_index(DATA)
    rows = struct.unpack_from("<H", index, 8)[0]
    lie = index[:1] + bytes(4) + index[5 : 14 + 10 * rows]
    memory = Guarded(1000)
    for padding in range(12):
        seek = memory.holding(lie + bytes(padding), at_end=True)
        with pytest.raises(DataError):
            decode(DATA, index=seek)
