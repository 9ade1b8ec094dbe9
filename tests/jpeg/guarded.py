"""Memory between pages that nobody may touch: a kernel that strays by one byte ends the process."""

import ctypes
import mmap

import numpy as np

from fastload.jpeg import workspace as ws

PAGE = mmap.PAGESIZE
_PROT_NONE = 0
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """``size`` bytes of which the first and the last lie beside unmapped pages, one or the other exactly.

    Attributes:
        memory: uint8 (size rounded up to pages), all that may be touched.
    """

    def __init__(self, size: int) -> None:
        self.pages = -(-size // PAGE)
        self._map = mmap.mmap(-1, (self.pages + 2) * PAGE)
        everything = np.frombuffer(self._map, np.uint8)
        protect(everything.ctypes.data, PAGE)
        protect(everything.ctypes.data + (self.pages + 1) * PAGE, PAGE)
        self.memory = everything[PAGE : PAGE + self.pages * PAGE]

    def holding(self, data: bytes | np.ndarray, at_end: bool) -> np.ndarray:
        """The data at the end of the memory, or at its beginning."""
        source = np.frombuffer(data, np.uint8)
        view = self.empty(len(source), at_end)
        view[:] = source
        return view

    def empty(self, size: int, at_end: bool) -> np.ndarray:
        """``size`` bytes at the end of the memory, or at its beginning."""
        return self.memory[len(self.memory) - size :] if at_end else self.memory[:size]


def protect(address: int, size: int) -> None:
    """Takes away every right to some pages."""
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), _PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def guarded_workspace(max_width: int, max_bytes: int) -> tuple[np.ndarray, mmap.mmap]:
    """A workspace with unmapped pages between its parts, each of which ends where such a page begins (to 8 bytes)."""
    parts = {-1: ws.FIXED_BYTES, **ws.part_sizes(max_width, max_bytes)}
    pages = sum(-(-size // PAGE) + 1 for size in parts.values()) + 1
    memory = mmap.mmap(-1, pages * PAGE)
    everything = np.frombuffer(memory, np.int64)
    base = everything.ctypes.data
    protect(base, PAGE)
    words = ws.capacity_words(max_width, max_bytes)
    page = 1
    begins = {}
    for part, size in parts.items():
        page += -(-size // PAGE)
        begins[part] = page * PAGE - -(-size // 8) * 8
        protect(base + page * PAGE, PAGE)
        page += 1
    work = everything[begins[-1] // 8 :]
    for part, begin in begins.items():
        if part >= 0:
            words[part] = begin - begins[-1]
    work[: len(words)] = words
    return work, memory
