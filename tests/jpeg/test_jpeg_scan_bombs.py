"""Progressive files whose scans are many and small, made to take for ever, are refused."""

import time

import numpy as np
import pytest
import simplejpeg

from fastload.errors import DataError
from fastload.jpeg.recode.tiles import retile
from tests.fuzz.images import strict
from tests.jpeg.pictures import encode, picture
from tests.jpeg.recode_tools import QUANT, segment


def test_scans_that_say_again_what_was_said_are_refused():
    data = encode(picture(64, 64), "grey", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(DataError, match="sequence"):
        retile(data[:-2] + data[last:-2] * 3000 + b"\xff\xd9")


def scan_bomb(side: int, highest: int) -> bytes:
    """A grey picture in which every bit of every coefficient has a scan of its own, of nothing but zeros."""
    blocks = (side // 8) ** 2
    runs, left = [], blocks
    while left:  # each code says that up to 32,767 blocks hold nothing
        size = min(14, left.bit_length() - 1)
        runs.append((size, min(left, (2 << size) - 1) - (1 << size)))
        left -= runs[-1][1] + (1 << size)
    symbols = sorted({size << 4 for size, _ in runs})
    codes = (format(symbols.index(size << 4), "04b") + format(more, f"0{size}b") * (size > 0) for size, more in runs)
    ac, dc = packed("".join(codes)), packed("0" * blocks)
    tables = bytes(1) + b"\1" + bytes(16) + b"\x10" + bytes([0, 0, 0, len(symbols), *bytes(12), *symbols])
    frame = bytes([8]) + side.to_bytes(2, "big") * 2 + b"\1\1\x11\0"
    data = b"\xff\xd8" + QUANT + segment(0xC2, frame) + segment(0xC4, tables)
    for first, bits in [(0, dc), *((place, ac) for place in range(1, 64))]:
        for low in range(highest, -1, -1):
            high = 0 if low == highest else low + 1
            data += segment(0xDA, bytes([1, 1, 0, first, first, high << 4 | low])) + bits
    return data + b"\xff\xd9"


def packed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def test_a_bomb_of_scans_is_refused_and_what_is_just_none_is_not():
    data = scan_bomb(400, 0)  # 64 scans
    assert simplejpeg.decode_jpeg(data, strict=True).std() == 0
    np.testing.assert_array_equal(strict(retile(data)), strict(data))
    begin = time.process_time()
    with pytest.raises(DataError, match="at most 100 scans"):
        retile(scan_bomb(4000, 13))
    assert time.process_time() - begin < 10
