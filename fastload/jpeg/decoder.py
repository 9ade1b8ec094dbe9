"""Decoding and indexing of one image from Python, and the compilation of the kernels for it."""

from __future__ import annotations

import functools
import subprocess
import threading
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError
from fastload.jit import compile_once, is_compiled, start_compiling, writable
from fastload.jpeg.header import JpegHeader, read_header
from fastload.jpeg.index_build import ENTRY_FIELDS, note_tiles, pack_index
from fastload.jpeg.rectangle import decode_rectangle
from fastload.jpeg.status import OK, describe
from fastload.jpeg.workspace import MAX_BYTES, MAX_WIDTH, new_workspace

# MCUs between two entries of a seek index. Random crops of ImageNet take, with a step of
#     4    275 us an image   3.8 KB of index (4.8 GB for all of ImageNet)
#     8    280               2.0 KB (2.8 GB, 1.9 % of the images)
#    16    296               1.1 KB
#    whole rows    306       0.5 KB
# and without an index 430 us, where libjpeg-turbo takes 1,130 for the whole image.
INDEX_STEP: Final = 8

_NO_INDEX: Final = np.zeros(0, np.uint8)


class _Memory(threading.local):
    """One workspace for each thread that decodes from Python, as large as the largest image needed."""

    work: NDArray[np.int64] | None = None

    def get(self, width: int, size: int) -> NDArray[np.int64]:
        work = self.work
        if work is None or work[MAX_WIDTH] < width or work[MAX_BYTES] < size:
            width = max(width, 1024 if work is None else int(work[MAX_WIDTH]))
            size = max(size, 1 << 20 if work is None else int(work[MAX_BYTES]))
            work = self.work = new_workspace(width, size)
        return work


_memory = _Memory()


@functools.cache
def warm_up() -> None:
    """Compiles the decoder, or loads it from the cache; see fastload.jit.compile_once."""
    compile_once("decoder", _decode_nothing)


@functools.cache
def warm_up_indexer() -> None:
    """The same for what build_index needs, which not every process does."""
    compile_once("indexer", _index_nothing)


def _decode_nothing() -> None:
    nothing = np.zeros(1, np.uint8)
    decode_rectangle(nothing, 1, _NO_INDEX, 0, 0, 1, 1, nothing, 3, new_workspace(16, 16))


def _index_nothing() -> None:
    note_tiles(np.zeros(1, np.uint8), 1, 1, np.zeros((1, ENTRY_FIELDS), np.int64), new_workspace(16, 16))


def decode(
    data: bytes | memoryview | NDArray[np.uint8],
    *,
    index: bytes | memoryview | NDArray[np.uint8] | None = None,
    rectangle: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """Decodes one baseline JPEG, or a rectangle of it, exactly as libjpeg-turbo does.

    Args:
        data: The file.
        index: What build_index made of the same file; it saves time and changes nothing else.
        rectangle: Top, left, height and width in pixels of the image as stored; all of it by default.

    Returns:
        uint8 RGB, height x width x 3.

    Raises:
        DataError: The file is of a kind that this decoder leaves to libjpeg-turbo (``read_header(data).unsupported``
            says so beforehand), is damaged, or does not fit its index.
    """
    source = writable(data)
    header = read_header(source)
    top, left, height, width = rectangle or (0, 0, header.height, header.width)
    out = np.empty((height, width, 3), np.uint8)
    seek = _NO_INDEX if index is None else writable(index)
    work = _memory.get(header.width + 16, source.size)
    warm_up()
    result = decode_rectangle(source, source.size, seek, top, left, height, width, out.reshape(-1), 3 * width, work)
    if result != OK:
        raise DataError(describe(result))
    return out


def build_index(
    data: bytes | memoryview | NDArray[np.uint8], *, step: int = INDEX_STEP, header: JpegHeader | None = None
) -> bytes:
    """The seek index of one JPEG file (see index.py), about 2 % of its size; takes about 0.6 ms.

    Args:
        data: The file.
        step: MCUs between two entries, 1 to 255.
        header: What read_header says of the file, if that is known already.

    Returns:
        The index; empty for a file that has none: one that the decoder does not take, one with restart markers (which
        are found without an index), one whose scan is damaged.

    Raises:
        DataError: The headers are damaged.
    """
    source = writable(data)
    header = header or read_header(source)
    if not header.baseline or header.restart_interval:
        return b""
    across, down = header.sampling[0] if header.components == 3 else (1, 1)
    columns, rows = -(-header.width // (8 * across)), -(-header.height // (8 * down))
    warm_up_indexer()
    entries = np.empty((rows * -(-columns // step) + 1, ENTRY_FIELDS), np.int64)
    result = note_tiles(source, source.size, step, entries, _memory.get(header.width + 16, source.size))
    if result != OK:
        return b""
    return pack_index(entries, step, header.components, columns, rows)


class Indexer:
    """build_index for somebody who must not wait until it is compiled: another process does that meanwhile."""

    def __init__(self) -> None:
        self._ready = False
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ready(self, *, start: bool) -> bool:
        """Whether ``index`` may be called now; where nothing is compiled, ``start`` lets that begin."""
        if self._ready:
            return True
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if is_compiled("indexer"):
                warm_up_indexer()
                self._ready = True
            elif start and self._child is None:
                program = "from fastload.jpeg.decoder import warm_up_indexer; warm_up_indexer()"
                self._child = start_compiling(program)
            elif self._child is not None:
                self._child.poll()
            return self._ready
        finally:
            self._lock.release()

    def index(self, data: NDArray[np.uint8]) -> bytes:
        """What build_index makes of a file; empty for one that is no JPEG or damaged."""
        try:
            return build_index(data)
        except DataError:
            return b""

    def close(self) -> None:
        """Ends the other process. Safe to call twice."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
