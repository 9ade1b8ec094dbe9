"""Reads ranges of files into the caller's memory, without the interpreter's lock and never short."""

from __future__ import annotations

import os
import stat
import zlib

from fastload.errors import DataError

# A pipe named x.jpg must not hang the reader: O_NONBLOCK opens it at once and changes nothing for a regular file.
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str) -> tuple[int, int]:
    """Opens a regular file for reading and returns its descriptor and its size in bytes.

    Raises:
        DataError: It is missing, may not be read, or is not a regular file.
    """
    try:
        descriptor = os.open(path, OPEN_FLAGS)
    except OSError as error:
        advice = ""
        if isinstance(error, FileNotFoundError):
            advice = "; restore the file"
        elif isinstance(error, PermissionError):
            advice = "; give yourself permission to read it"
        raise DataError(f"the file cannot be opened: {error.strerror}{advice}", path=path) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise DataError("expected a regular file, but this is a folder, a pipe or a device", path=path)
    return descriptor, status.st_size


def stamp_of(status: os.stat_result) -> int:
    """32 bits that stand for size and time of change of a file; never 0. What an index of the file is tied to."""
    return zlib.crc32(b"%d %d" % (status.st_size, status.st_mtime_ns)) or 1


def read_range(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fills ``buffer`` with the bytes from ``offset`` on; returns how many there were, fewer only at the file's end."""
    done = 0
    while done < len(buffer):
        count = _read_once(descriptor, buffer[done:], offset + done)
        if count == 0:
            break
        done += count
    return done


if hasattr(os, "preadv"):

    def _read_once(descriptor: int, buffer: memoryview, offset: int) -> int:
        return os.preadv(descriptor, [buffer], offset)

else:  # systems that have only pread: one copy more

    def _read_once(descriptor: int, buffer: memoryview, offset: int) -> int:
        data = os.pread(descriptor, len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)


# No photograph comes near it. What is larger is not an image, and a worker must not ask for its size in memory.
LARGEST_FILE = 1 << 30


def read_file(path: str) -> bytes:
    """The bytes of a whole image file.

    Raises:
        DataError: It is missing, may not be read, is empty, is larger than 1 GiB or is not a regular file.
    """
    descriptor, size = open_regular(path)
    try:
        if size == 0:
            raise DataError("expected an image, but the file is empty", path=path)
        if size > LARGEST_FILE:
            raise DataError(f"expected an image of at most 1 GiB, but the file has {size:,} bytes", path=path)
        buffer = bytearray(size)
        done = read_range(descriptor, memoryview(buffer), 0)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path=path) from error
    finally:
        os.close(descriptor)
    if done != size:
        raise DataError(f"expected {size:,} bytes, but the file ended after {done:,}; somebody writes to it", path=path)
    return bytes(buffer)
