"""simplejpeg + OpenCV in threads, by hand."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.peers._by_hand import Row
from benchmarks.peers._threads import ThreadedLoader


class Loader(ThreadedLoader):
    """What a skilled user writes in an afternoon."""

    def decode(self, jpeg: bytes) -> NDArray[np.uint8]:
        return simplejpeg.decode_jpeg(jpeg, "RGB")

    def make_filler(self, seed: int) -> Row:
        return Row(self._task.pipeline, seed)
