"""The system's calls that a kernel makes by itself: reading files and telling the time, without the interpreter.

numba finds these functions by name in the process that runs the kernel, so that kernels which call them can be cached.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import types

from fastload.dataset.reading import OPEN_FLAGS
from fastload.jit import inlined
from fastload.jpeg.intrinsics import Word, intrinsic, load_i64, move

_FUNCTIONS: Final = ("open", "pread", "close", "clock_gettime")


def _all_there() -> bool:
    # The declarations below are those of 64-bit Linux and macOS.
    if sys.platform not in ("linux", "darwin") or struct.calcsize("P") != 8:
        return False
    process = ctypes.CDLL(None)
    return all(hasattr(process, name) for name in _FUNCTIONS)


# Whether kernels may call what is declared here: numba would end the process over a name that is not there.
AVAILABLE: Final = _all_there()
# Bytes of memory that the clock is read into.
CLOCK_SCRATCH: Final = 16

# Whether the system can be told what will be read soon (Linux).
ADVISES: Final = hasattr(os, "posix_fadvise")

_open: Any = types.ExternalFunction("open", types.int32(types.uint64, types.int32))
_pread: Any = types.ExternalFunction("pread", types.int64(types.int32, types.uint64, types.int64, types.int64))
_close: Any = types.ExternalFunction("close", types.int32(types.int32))
_posix_fadvise: Any = types.ExternalFunction(
    "posix_fadvise", types.int32(types.int32, types.int64, types.int64, types.int32)
)
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.uint64))
_array_at: Any = numba.carray  # type: ignore[attr-defined]
_CLOCK: Final = np.int32(getattr(time, "CLOCK_MONOTONIC", 0))
_THREAD_CLOCK: Final = np.int32(getattr(time, "CLOCK_THREAD_CPUTIME_ID", 0))
_WILL_NEED: Final = np.int32(getattr(os, "POSIX_FADV_WILLNEED", 0))
_OPEN_FLAGS: Final = np.int32(OPEN_FLAGS)


@inlined
def clock_ns(scratch: Word) -> Word:
    """int64 <- nanoseconds of a clock that never goes back, through CLOCK_SCRATCH bytes at an address; takes 30 ns."""
    _clock_gettime(_CLOCK, scratch)
    return load_i64(scratch, 0) * 1_000_000_000 + load_i64(scratch, 8)


@inlined
def thread_clock_ns(scratch: Word) -> Word:
    """The same of the processor time of this thread; takes 0.7 us."""
    _clock_gettime(_THREAD_CLOCK, scratch)
    return load_i64(scratch, 0) * 1_000_000_000 + load_i64(scratch, 8)


@inlined
def read_range(descriptor: Word, target: Word, size: Word, offset: Word) -> Word:
    """Reads up to ``size`` bytes to an address; returns how many there were: fewer at the file's end or on any error.

    pread, not mmap. An image of 114 KB in the page cache costs 15.4 us with pread and 11.5 us through a map whose pages
    the process has touched before, but 64 us where it has not; and a file that is cut short under a map ends the
    process.
    """
    done = np.int64(0)
    while done < size:
        count = _pread(np.int32(descriptor), move(target, done), size - done, offset + done)
        if count <= 0:
            break
        done += count
    return done


@inlined
def will_need(descriptor: Word, size: Word, offset: Word) -> None:
    """Has the system begin to read a range of a file, and does not wait. Only where ADVISES holds."""
    _posix_fadvise(np.int32(descriptor), offset, size, _WILL_NEED)


@inlined
def read_whole(path: Word, target: Word, size: Word, offset: Word) -> Word:
    """The same of the file whose zero-terminated path is at an address; -1 if it cannot be opened."""
    descriptor = _open(path, _OPEN_FLAGS)
    if descriptor < 0:
        return np.int64(-1)
    done = read_range(np.int64(descriptor), target, size, offset)
    _close(descriptor)
    return done


def _pointers(kind: Any, llvm_kind: Any) -> Any:
    """For kernels: a function that makes a pointer to values of one type of an address."""

    def pointer(_typing: Any, _address: Any) -> Any:
        def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], llvm_kind.as_pointer())

        return types.CPointer(kind)(types.uint64), emit  # type: ignore[no-untyped-call]

    return intrinsic(pointer)


_byte_pointer = _pointers(types.uint8, ir.IntType(8))
_half_pointer = _pointers(types.uint16, ir.IntType(16))
_float_pointer = _pointers(types.float32, ir.FloatType())


@inlined
def bytes_at(address: Word, size: Word) -> Word:
    """``size`` bytes of memory at an address as an array; the caller answers for them."""
    return _array_at(_byte_pointer(address), (size,))


@inlined
def halves_at(address: Word, size: Word) -> Word:
    """The same of ``size`` uint16."""
    return _array_at(_half_pointer(address), (size,))


@inlined
def floats_at(address: Word, size: Word) -> Word:
    """The same of ``size`` float32."""
    return _array_at(_float_pointer(address), (size,))
