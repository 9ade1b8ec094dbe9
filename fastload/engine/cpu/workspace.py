"""The memory of one worker thread: file bytes, decoded pixels and the kernels' scratch, reused for every image."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.parameters import Output
from fastload.engine.cpu.kernels.deliver import TALLY, Memory
from fastload.engine.cpu.kernels.layout import SLACK, make_scratch
from fastload.engine.cpu.kernels.studio import new_studio
from fastload.engine.limits import MAX_FILE_BYTES, MAX_PIXELS
from fastload.engine.whole import check_size
from fastload.errors import DataError
from fastload.jpeg import workspace as jpeg_workspace

_PAGE: Final = 1 << 16
# Images and files up to this size are decoded by our own decoder (whose memory is 350 bytes for each pixel of width and
# the bytes of the file); larger ones are left to libjpeg-turbo.
_JPEG_WIDTH: Final = 16_384
_JPEG_BYTES: Final = 1 << 26


class Workspace:
    """Buffers of one thread. They grow only when a larger file or image arrives than any before.

    Attributes:
        encoded: uint8, holds the file that is being worked on.
        pixels: uint8, holds its decoded RGB pixels, height x width x 3, and at least SLACK bytes behind them.
        scratch: Memory of the resampling kernels.
        jpeg: Memory of our JPEG decoder.
        tally: What the kernel that works without Python did.
        studio: Memory of operations on pixels; empty until a request asks for any.
    """

    def __init__(self, output: Output) -> None:
        self.encoded: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.pixels: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._output = output
        self.scratch = make_scratch(output)
        self._window = tuple(max(sides) for sides in zip(*((v.height, v.width) for v in output.views), strict=True))
        self.studio: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._studio_needs = (0, False, False)
        self.tally = np.zeros(TALLY, np.int64)
        self.jpeg: NDArray[np.int64] = jpeg_workspace.new_workspace(1024, 1 << 18)

    def memory(self) -> Memory:
        """The same for the kernel that works without Python."""
        return Memory(self.encoded, self.pixels, self.jpeg, self.scratch, self.tally, self.studio)

    def reserve(self, num_bytes: int, num_pixels: int) -> None:
        """Room for files and regions of these sizes, as far as they are sensible: a kernel leaves what has none."""
        if num_bytes < _JPEG_BYTES:
            self.encoded = _grown(self.encoded, num_bytes + 1)
            self.grow_jpeg(0, num_bytes)
        if num_pixels <= MAX_PIXELS:
            self.pixels = _grown(self.pixels, 3 * num_pixels + SLACK)

    def reserve_studio(self, window: tuple[int, int], num_pixels: int, *, floats: bool, kept: bool) -> None:
        """Room for windows of up to ``window`` (height, width), and for operations on canvases of ``num_pixels``.

        See ``new_studio`` for the rest.
        """
        height, width = (max(sides) for sides in zip(window, self._window, strict=True))
        if (height, width) != self._window:
            self._window = (height, width)
            self.scratch = make_scratch(dataclasses.replace(self._output, height=height, width=width))
        has_pixels, has_floats, has_kept = self._studio_needs
        if num_pixels > has_pixels or floats > has_floats or kept > has_kept:
            # A quarter more where it has to grow, as below.
            spare = num_pixels // 4 if num_pixels > has_pixels > 0 else 0
            most = max(num_pixels + spare, has_pixels)
            self._studio_needs = (most, floats or has_floats, kept or has_kept)
            self.studio = new_studio(most, floats=floats or has_floats, kept=kept or has_kept)

    def reserve_encoded(self, num_bytes: int) -> NDArray[np.uint8]:
        """A buffer for a file of ``num_bytes``; DataError beyond MAX_FILE_BYTES."""
        if num_bytes > MAX_FILE_BYTES:
            raise DataError(f"the file has {num_bytes:,} bytes, and at most {MAX_FILE_BYTES:,} are read")
        self.encoded = _grown(self.encoded, num_bytes)
        return self.encoded

    def reserve_pixels(self, height: int, width: int) -> NDArray[np.uint8]:
        """A buffer for an image; DataError before anything is allocated where its header asks for too much."""
        check_size(height, width)
        self.pixels = _grown(self.pixels, height * width * 3 + SLACK)
        return self.pixels

    def grow_jpeg(self, width: int, num_bytes: int) -> bool:
        """Makes room in ``jpeg`` for an image and a file of these sizes; False if they are too large.

        Also False where there is that room already: the decoder asks for more only once.
        """
        has_width, has_bytes = int(self.jpeg[jpeg_workspace.MAX_WIDTH]), int(self.jpeg[jpeg_workspace.MAX_BYTES])
        width, num_bytes = width + 16, num_bytes + 16  # an MCU more, for those that stand out at the right
        if width > _JPEG_WIDTH or num_bytes > _JPEG_BYTES or (width <= has_width and num_bytes <= has_bytes):
            return False
        self.jpeg = jpeg_workspace.new_workspace(max(width, has_width), _rounded(max(num_bytes, has_bytes)))
        return True


def _grown(buffer: NDArray[np.uint8], num_bytes: int) -> NDArray[np.uint8]:
    return buffer if buffer.size >= num_bytes else np.empty(_rounded(num_bytes), np.uint8)


def _rounded(num_bytes: int) -> int:
    """A quarter more, in whole pages, so that a run of slowly growing images does not allocate each time."""
    return (num_bytes + num_bytes // 4 + _PAGE) // _PAGE * _PAGE
