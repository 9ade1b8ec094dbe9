"""fastload's JPEG decoder by itself in threads, for images that stay as large as they are."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.peers._threads import ThreadedLoader
from fastload.errors import DataError
from fastload.jpeg import decoder


class Loader(ThreadedLoader):
    """What our decoder does not take goes to libjpeg-turbo, as in the CPU engine."""

    def decode(self, jpeg: bytes) -> NDArray[np.uint8]:
        try:
            return decoder.decode(jpeg)
        except DataError:
            return simplejpeg.decode_jpeg(jpeg, "RGB")
