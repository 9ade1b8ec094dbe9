"""Samples that were fetched together, in one local file from which the engine's kernel reads them."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import threading
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError

# A file of samples: magic, number of rows and crc32 of the table, the table, and then the samples.
MAGIC: Final = b"FLPACK1\n"
HEAD: Final = struct.Struct("<8sQI4x")
ROW: Final = np.dtype([("sample", "<i8"), ("offset", "<i8"), ("size", "<u4"), ("crc32", "<u4")])


def layout(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Where samples of these sizes lie in a file of their own, and its bytes."""
    ends = HEAD.size + ROW.itemsize * len(sizes) + np.cumsum(sizes)
    return ends - sizes, int(ends[-1]) if len(sizes) else HEAD.size


def write_table(
    descriptor: int,
    samples: NDArray[np.int64],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    crc32: NDArray[np.uint32],
) -> None:
    """Writes what stands before the samples. A size of 0 says that a sample is not there after all."""
    table = np.empty(len(samples), ROW)
    table["sample"], table["offset"], table["size"], table["crc32"] = samples, offsets, sizes, crc32
    data = table.tobytes()
    write_at(descriptor, HEAD.pack(MAGIC, len(table), zlib.crc32(data)) + data, 0)


def read_table(descriptor: int) -> NDArray[np.void]:
    """The rows of a file of samples that lie within it.

    Raises:
        DataError: It is none, or was cut short.
    """
    size = os.fstat(descriptor).st_size
    head = os.pread(descriptor, HEAD.size, 0)
    if len(head) == HEAD.size:
        magic, count, crc32 = HEAD.unpack(head)
        if magic == MAGIC and count <= (size - HEAD.size) // ROW.itemsize:
            data = os.pread(descriptor, ROW.itemsize * count, HEAD.size)
            if len(data) == ROW.itemsize * count and zlib.crc32(data) == crc32:
                table = np.frombuffer(data, ROW)
                begins, sizes = table["offset"], table["size"].astype(np.int64)
                within = (table["size"] > 0) & (begins >= HEAD.size + len(data)) & (begins <= size - sizes)
                rows: NDArray[np.void] = table[within]
                return rows
    raise DataError("expected a file of cached samples, but this is none or only a part of one")


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Writes all of ``data``; OSError where there is no room for it."""
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


def nameless_file() -> int:
    """A descriptor of memory, or, where a system has none, of a temporary file, that ends with its descriptor."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fastload", os.MFD_CLOEXEC)
    descriptor, path = tempfile.mkstemp(prefix="fastload-")
    with contextlib.suppress(OSError):
        os.unlink(path)
    return descriptor


class OpenFile:
    """A descriptor that is closed when nobody holds this any more: kernels read from it without asking."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self.descriptor)


class Block:
    """Samples on their way into one file.

    Args:
        samples: int64 (n,), distinct.
        sizes: int64 (n,), their bytes.
        descriptor: Where to; the block owns it.

    Attributes:
        file: What holds the bytes.
        offsets: int64 (n,), where in it.
        num_bytes: Of all samples.
        failures: Why samples could not be fetched.
        cancelled: Nobody waits for it any more.
    """

    def __init__(self, samples: NDArray[np.int64], sizes: NDArray[np.int64], descriptor: int) -> None:
        self.samples = samples
        self.sizes = sizes
        self.offsets, self.file_bytes = layout(sizes)
        self.num_bytes = int(sizes.sum())
        self.file = OpenFile(descriptor)
        self.place = {sample: place for place, sample in enumerate(samples.tolist())}
        self.failures: dict[int, DataError] = {}
        self.cancelled = False
        self._left = len(samples)
        self._lock = threading.Lock()
        self._done = threading.Event()

    def put(self, place: int, data: memoryview) -> None:
        """Writes one sample; OSError where there is no room."""
        write_at(self.file.descriptor, data, int(self.offsets[place]))

    def settle(self, count: int) -> bool:
        """Takes notice that ``count`` more samples are there, or have failed; True once that is all of them."""
        with self._lock:
            self._left -= count
            return self._left == 0

    def finish(self) -> None:
        """Lets those go on who wait."""
        self._done.set()

    def wait(self) -> bool:
        """Waits until all samples are there or have failed; False if the block was cancelled before."""
        while not self._done.wait(timeout=0.25):
            if self.cancelled:
                return False
        return True

    @property
    def abandoned(self) -> bool:
        """Whether it was cancelled before all samples were there."""
        return self.cancelled and not self._done.is_set()
