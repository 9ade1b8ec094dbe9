"""Batches as the user sees them, and the ring of preallocated slots that their pixels live in."""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastload.augment.parameters import DType

# How a value of each type lies in a slot, and as what torch shows it. numpy has no bfloat16: its bits are uint16.
_STORAGE: dict[DType, tuple[type[np.generic], torch.dtype]] = {
    "uint8": (np.uint8, torch.uint8),
    "float16": (np.float16, torch.float16),
    "bfloat16": (np.uint16, torch.bfloat16),
    "float32": (np.float32, torch.float32),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """One batch; ``images, labels = batch`` unpacks it as a DataLoader's (``images, targets`` where there are targets).

    Attributes:
        images: N x 3 x H x W, in channels_last memory unless the Loader was asked for ``memory_format="contiguous"``;
            torch.uint8, float16, bfloat16 or float32, as the transforms say; on the Loader's device. With MultiView or
            MultiCrop a tuple of such tensors, one for each view.
        labels: int64 (N,), class numbers, -1 where a sample has none; after a MixUp or CutMix float32 (N, classes), the
            weights of the classes; on the Loader's device.
        ids: int64 (N,), numbers of the samples that were delivered (a replacement's own number where one took the
            place of a sample that cannot be read); always on the CPU.
        targets: What is marked in the images, with a Loader that was asked for it (see fastload.Targets), on its
            device: a list of dicts, one for each sample, or one dict of padded tensors. ``images, targets = batch``
            then. None otherwise.
        valid: bool (N,), False for rows that only pad the last batch (``last_batch="pad"``); they hold samples from the
            start of the epoch, which an exact evaluation must not count again; always on the CPU.
    """

    images: Any
    labels: torch.Tensor
    ids: torch.Tensor
    valid: torch.Tensor
    targets: Any = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.images, self.labels if self.targets is None else self.targets))

    def __len__(self) -> int:
        """Rows of the batch, padding included."""
        return len(self.ids)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The batch with its images and labels on ``device``; Lightning and Accelerate move batches with this."""
        return replace(
            self,
            images=_moved(self.images, device, non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            targets=_moved(self.targets, device, non_blocking),
        )


def _moved(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    """Tuples, lists and dicts with their tensors on ``device``."""
    if isinstance(value, dict):
        return {name: _moved(part, device, non_blocking) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(part, device, non_blocking) for part in value)
    return value.to(device, non_blocking=non_blocking) if isinstance(value, torch.Tensor) else value


def storage_dtype(dtype: DType) -> np.dtype[Any]:
    """The numpy type of a slot that holds ``dtype``: the type itself, or uint16 for bfloat16's bits."""
    return np.dtype(_STORAGE[dtype][0])


def torch_dtype(dtype: DType) -> torch.dtype:
    """The type that torch shows."""
    return _STORAGE[dtype][1]


def as_tensor(memory: NDArray[Any], dtype: DType) -> torch.Tensor:
    """The array as a tensor of ``dtype``, without a copy; shape as it is."""
    tensor = torch.from_numpy(memory)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


class _Lease:
    """What stands between a slot and everything that shows it: when the last view goes, the lease goes.

    numpy shortens chains of views of its own arrays, but not across a foreign object; a tensor made with from_numpy
    holds the array that it was made from. So every tensor, slice, ``.numpy()`` and array of a lent slot leads here.
    """

    __slots__ = ("__array_interface__", "_give_back", "_slot")

    def __init__(self, shown: NDArray[Any], slot: NDArray[Any], give_back: Callable[[NDArray[Any]], None]) -> None:
        self.__array_interface__ = shown.__array_interface__
        self._slot = slot
        self._give_back = give_back

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._give_back(self._slot)


def ordinary_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros whose pages are there already: a first touch costs more than the kernel that would meet it.

    They are mapped for themselves and go back to the system as soon as the array does. malloc would keep them: over
    20 epochs and 50 abandoned iterators with slots of 6 MB its arenas grew by 90 MB.
    """
    pages = mmap.mmap(-1, max(1, math.prod(shape) * dtype.itemsize))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    memory: NDArray[Any] = np.frombuffer(pages, dtype, math.prod(shape)).reshape(shape)
    memory.fill(0)
    return memory


class Ring:
    """Slots of one shape that are taken, filled, seen by the user and taken again.

    A slot that the user can still see is never taken again; where none is left a new one is made, and as many go when
    they come back, so that the ring returns to its size. No method takes a lock: slots come back from whatever thread
    drops the last view, which may be the garbage collector's in the middle of ``take``.

    Args:
        shape: Rows, height, width, 3 (or rows, 3, height, width; or rows, values of all views).
        dtype: Of the memory, as storage_dtype says.
        size: The most slots that stay for good.
        begin: How many of them there are until more are found to be of use; all unless given.
        reuse: ``reclaim`` takes back the slot that was lent last, whoever still sees it.
        allocate: Makes the memory of one slot.

    Attributes:
        wanted: Slots that stay at present: ``begin`` to ``size``.
        num_added: Slots beyond ``size`` that had to be made because all others were still seen.
        on_return: Called when a slot has come back, in whatever thread.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        size: int,
        *,
        begin: int | None = None,
        reuse: bool = False,
        allocate: Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]] = ordinary_memory,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.size = size
        self._reuse = reuse
        self._lent: NDArray[Any] | None = None
        self._allocate = allocate
        self.wanted = size if begin is None else min(begin, size)
        self.num_added = 0
        self.on_return: Callable[[], None] | None = None
        self._free = deque(allocate(shape, dtype) for _ in range(self.wanted))
        self._taken: set[int] = set()

    def __len__(self) -> int:
        """Slots that exist now, taken or free."""
        return len(self._free) + len(self._taken)

    def take(self) -> NDArray[Any]:
        """A slot that nobody else sees, the one used last if there is a choice (its lines may still be in a cache)."""
        try:
            slot = self._free.pop()
        except IndexError:
            self.num_added += len(self) >= self.size
            self.wanted = min(max(self.wanted, len(self) + 1), self.size)
            slot = self._allocate(self.shape, self.dtype)
        self._taken.add(id(slot))
        return slot

    def take_spare(self) -> NDArray[Any] | None:
        """As ``take``, where a slot is free or one of those that stay is still to be made; None elsewhere."""
        return self.take() if self._free or len(self) < self.wanted else None

    def grow(self) -> None:
        """One more slot would be of use."""
        self.wanted = min(self.wanted + 1, self.size)

    def give_back(self, slot: NDArray[Any]) -> None:
        """Returns a slot that ``take`` gave."""
        self._taken.remove(id(slot))
        if len(self) < self.wanted:
            self._free.append(slot)
            if self.on_return is not None:
                self.on_return()

    def reclaim(self) -> None:
        """The user asks for the next batch: a ring with ``reuse`` takes back the slot that he has."""
        lent, self._lent = self._lent, None
        if lent is not None:
            self.give_back(lent)

    def lend(self, slot: NDArray[Any], shown: NDArray[Any]) -> NDArray[Any]:
        """What of the slot is ``shown``, for the user: the slot comes back by itself when the last view is gone."""
        if self._reuse:
            self._lent = slot
            return shown
        return np.asarray(_Lease(shown, slot, self.give_back))
