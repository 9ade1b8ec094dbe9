"""Processors: the same pixels from code that is compiled for another one, in a process and a cache of its own."""

import os
import platform
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from fastload.jpeg.decoder import build_index, decode
from tests.jpeg.pictures import SAMPLINGS, encode, picture

PROGRAM = "from tests.jpeg.test_jpeg_targets import checksum; print(checksum())"


def checksum() -> int:
    """Of pixels of every sampling, whole and in part, with and without an index; all compared with libjpeg-turbo."""
    value = 0
    for sampling in SAMPLINGS:
        for noise in (0.0, 30.0):
            data = encode(picture(203, 117, noise=noise), sampling)
            index = build_index(data)
            value = zlib.crc32(index, value)
            reference = simplejpeg.decode_jpeg(data)
            for box in ((0, 0, 117, 203), (13, 77, 60, 101), (50, 3, 9, 17)):
                pixels = decode(data, index=index, rectangle=box)
                np.testing.assert_array_equal(pixels, decode(data, rectangle=box))
                top, left, height, width = box
                np.testing.assert_array_equal(pixels, reference[top : top + height, left : left + width])
                value = zlib.crc32(pixels, value)
    return value


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names of x86 processors")
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v2", "x86-64"])
def test_older_processors_give_the_same_pixels(tmp_path, target):
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": target,
        "NUMBA_CPU_FEATURES": "",
        "FASTLOAD_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == checksum()
