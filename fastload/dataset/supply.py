"""The samples of remote shards: which are here, which are on their way, and which are to be asked for next."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Expectation
from fastload.dataset.reading import LARGEST_FILE
from fastload.errors import DataError
from fastload.remote.blocks import Block, nameless_file
from fastload.remote.errands import Errands
from fastload.remote.fetch import Fetcher, Unreachable
from fastload.remote.packs import Packs
from fastload.remote.ranges import Range, plan_ranges

# A request costs a round trip, in which 64 KB come at 10 Gbit/s in 50 us and at 10 Mbit/s in 50 ms. Longer ones than 4
# MB leave the other connections idle and fill memory.
_GAP: Final = 64 << 10
_LONGEST: Final = 4 << 20
# Samples that are fetched together. The first block is small, so that the first batch comes soon; each is twice the one
# before. A large one makes neighbours in a shard share a request, and makes few files in the cache.
_FIRST_BLOCK: Final = 2 << 20
_LARGEST_BLOCK: Final = 32 << 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Extents:
    """Where the image of each sample lies, (N,) each, as the index says; and the shards, (S,) each.

    ``checked`` says which samples have a checksum; None: all of them.
    """

    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.unsignedinteger[Any] | np.signedinteger[Any]]
    crc32: NDArray[np.uint32]
    urls: Sequence[str]
    shard_bytes: NDArray[np.int64]
    checked: NDArray[np.bool_] | None = None

    def readable(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether samples lie where the index says at all, and can be images; shape as ids."""
        shards, offsets, sizes = self.shard[ids], self.offset[ids], self.size[ids].astype(np.int64)
        known = (shards >= 0) & (shards < len(self.urls))
        ends = np.where(known, self.shard_bytes[np.where(known, shards, 0)], 0) if len(self.urls) else 0
        return known & (offsets >= 0) & (offsets <= ends - sizes) & (sizes > 0) & (sizes <= LARGEST_FILE)


@dataclass(eq=False)
class Taken:
    """Where samples can be read, in the order in which they were asked for.

    Attributes:
        descriptor: int64 (n,), -1 for those in ``failures``.
        offset: int64 (n,).
        check: uint8 (n,), whether the bytes must be compared with their checksum.
        held: What keeps the descriptors open.
        failures: By sample.
    """

    descriptor: NDArray[np.int64]
    offset: NDArray[np.int64]
    check: NDArray[np.uint8]
    held: list[object] = field(default_factory=list)
    failures: dict[int, DataError] = field(default_factory=dict)


class _Expected(Expectation):
    """An order that somebody reads in, and what has been asked for because of it."""

    def __init__(self, pieces: Iterator[NDArray[np.int64]]) -> None:
        self.pieces: Iterator[NDArray[np.int64]] | None = pieces
        self.next_ids: deque[NDArray[np.int64]] = deque()
        self.block_bytes = _FIRST_BLOCK
        self.num_bytes = 0
        self.blocks: dict[int, Block] = {}
        self.direct: list[Block] = []

    def close(self) -> None:
        # Without a lock: it also runs as a finalizer, at any moment in any thread.
        self.pieces = None
        self.next_ids = deque()
        blocks, self.blocks = self.blocks, {}
        for block in [*blocks.values(), *self.direct]:
            block.cancelled = True

    def __del__(self) -> None:
        self.close()


class Supply:
    """Fetches samples before they are asked for, where their order is known, and when they are, where it is not.

    What has been fetched lies in memory until it has been taken, and in the cache, if there is one. Safe to use from
    several threads.

    Args:
        extents: Where samples lie.
        fetcher: Makes a Fetcher; called once in each process.
        packs: The cache, if there is one.
        connections: Requests at once, at most.
        ahead_bytes: Bytes that are fetched and not taken yet, at most, for each order that is expected.
    """

    def __init__(
        self,
        extents: Extents,
        fetcher: Callable[[], Fetcher],
        packs: Packs | None,
        *,
        connections: int,
        ahead_bytes: int,
    ) -> None:
        self._extents = extents
        self._make_fetcher = fetcher
        self._packs = packs
        self._connections = connections
        self._ahead_bytes = ahead_bytes
        self._closed = False
        self._begin()
        _supplies.add(self)

    def _begin(self) -> None:
        """Sets up what belongs to this process alone; also in a forked child, which has no threads."""
        self.fetcher = self._make_fetcher()
        self.errands = Errands(self._connections)
        self._lock = threading.Lock()
        self._expected: weakref.WeakSet[_Expected] = weakref.WeakSet()
        self._started: weakref.WeakSet[Block] = weakref.WeakSet()
        self._recent: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()

    def after_fork(self) -> None:
        """For a child: nothing of its parent's connections and threads is of use to it."""
        if self._packs is not None:
            self._packs.after_fork()
        self._begin()

    def expect(self, pieces: Iterator[NDArray[np.int64]]) -> Expectation:
        """See Dataset.expect."""
        expected = _Expected(pieces)
        self.fetcher.forgive()
        if self._packs is not None:
            self._packs.refresh()
        with self._lock:
            self._expected.add(expected)
            self._pump(expected)
        return expected

    def take(self, ids: NDArray[np.int64]) -> Taken:
        """Waits until samples are here, and says where; asks for those that come after them.

        Raises:
            Unreachable: The server was given up, or nobody waits for these samples any more.
        """
        taken = Taken(np.full(len(ids), -1, np.int64), np.zeros(len(ids), np.int64), np.ones(len(ids), np.uint8))
        left = np.arange(len(ids))
        while True:
            left = self._take_blocks(taken, ids, left, self._claim(ids[left].tolist()))
            left = self._take_packs(taken, ids, left)
            good = self._extents.readable(ids[left])
            for sample in ids[left[~good]].tolist():
                taken.failures[sample] = DataError(
                    f"expected an image of 1 byte to 1 GiB within its shard, but the index gives it "
                    f"{int(self._extents.size[sample]):,} bytes; restore the index or convert the data again"
                )
            left = left[good]
            if not len(left):
                return taken
            with self._lock:
                expected = list(self._expected)
                if any(sample in entry.blocks for entry in expected for sample in ids[left].tolist()):
                    continue  # asked for while the others were waited for
                block = self._start(np.unique(ids[left]), urgent=True)
                if expected:
                    expected[0].direct.append(block)
            try:
                left = self._take_blocks(taken, ids, left, dict.fromkeys(ids[left].tolist(), block))
            except Unreachable:
                # Ended together with somebody else's order; ours goes on.
                if not block.cancelled or self._closed or not any(entry.pieces for entry in list(self._expected)):
                    raise
            finally:
                if expected:
                    with contextlib.suppress(ValueError):
                        expected[0].direct.remove(block)

    def _claim(self, samples: list[int]) -> dict[int, Block]:
        """The blocks that these samples are in or on their way to; they are expected no more."""
        found: dict[int, Block] = {}
        with self._lock:
            expected = list(self._expected)
            for sample in samples:
                for entry in expected:
                    block = entry.blocks.pop(sample, None)
                    if block is not None:
                        entry.num_bytes -= int(self._extents.size[sample])
                        found[sample] = self._recent[sample] = block
                if sample not in found:
                    known = self._recent.get(sample)
                    if known is not None and not known.abandoned:
                        if not isinstance(known.failures.get(sample), Unreachable):
                            found[sample] = known
            for entry in expected:
                self._pump(entry)
        return found

    def _take_blocks(
        self, taken: Taken, ids: NDArray[np.int64], left: NDArray[np.int64], blocks: dict[int, Block]
    ) -> NDArray[np.int64]:
        """Enters samples of blocks, once these are there, and gives the places of the others."""
        rest = []
        waited: set[Block] = set()
        for place in left.tolist():
            sample = int(ids[place])
            block = blocks.get(sample)
            if block is None:
                rest.append(place)
                continue
            if block not in waited:
                if not block.wait():
                    raise Unreachable("the reading was ended before the samples came")
                waited.add(block)
                taken.held.append(block)
            failure = block.failures.get(sample)
            if isinstance(failure, Unreachable):
                raise failure
            if failure is not None:
                taken.failures[sample] = failure
                continue
            taken.descriptor[place] = block.file.descriptor
            taken.offset[place] = block.offsets[block.place[sample]]
            taken.check[place] = 0  # was done when it came
        return np.array(rest, np.int64)

    def _take_packs(self, taken: Taken, ids: NDArray[np.int64], left: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._packs is None or not len(left):
            return left
        descriptors, offsets, held = self._packs.locate(ids[left])
        taken.descriptor[left] = descriptors
        taken.offset[left] = offsets
        taken.held.extend(held)
        return left[descriptors < 0]

    def _pump(self, expected: _Expected) -> None:
        """Asks for what comes next in an order, as far ahead as may be; under the lock."""
        while expected.num_bytes < self._ahead_bytes and not self._closed:
            if not expected.next_ids:
                ids = next(expected.pieces, None) if expected.pieces is not None else None
                if ids is None:
                    return
                expected.next_ids.extend(self._blocks_of(self._wanted(ids, expected), expected))
                continue
            samples = expected.next_ids.popleft()
            block = self._start(samples)
            expected.num_bytes += block.num_bytes
            expected.blocks.update(dict.fromkeys(samples.tolist(), block))

    def _wanted(self, ids: NDArray[np.int64], expected: _Expected) -> NDArray[np.int64]:
        """Those of the samples that are neither here nor on their way, each once."""
        ids = ids[np.sort(np.unique(ids, return_index=True)[1])]
        ids = ids[self._extents.readable(ids)]
        if self._packs is not None:
            ids = ids[~self._packs.has(ids)]
        return np.array([sample for sample in ids.tolist() if sample not in expected.blocks], np.int64)

    def _blocks_of(self, ids: NDArray[np.int64], expected: _Expected) -> Iterator[NDArray[np.int64]]:
        begin, size = 0, 0
        for place, length in enumerate(self._extents.size[ids].tolist()):
            if place > begin and size + length > expected.block_bytes:
                yield ids[begin:place]
                begin, size = place, 0
                expected.block_bytes = min(2 * expected.block_bytes, _LARGEST_BLOCK)
            size += length
        if len(ids) > begin:
            yield ids[begin:]

    def _start(self, samples: NDArray[np.int64], *, urgent: bool = False) -> Block:
        """Sends for samples."""
        if self._closed:
            raise ValueError("the data set is closed")
        where = self._extents
        sizes = where.size[samples].astype(np.int64)
        block = Block(samples, sizes, nameless_file())
        self._started.add(block)
        ranges = plan_ranges(
            where.shard[samples].astype(np.int64), where.offset[samples], sizes, gap=_GAP, longest=_LONGEST
        )
        calls: list[Callable[[], None]] = [functools.partial(self._fetch, block, entry) for entry in ranges]
        self.errands.send(calls, urgent=urgent)
        return block

    def _fetch(self, block: Block, wanted: Range) -> None:
        """One request, in a thread of ``errands``."""
        if block.cancelled:
            return
        samples = block.samples[wanted.items].tolist()
        try:
            self._read(block, wanted)
        except DataError as error:
            for sample in samples:
                block.failures.setdefault(sample, error)
        except Exception as error:
            failure = Unreachable(f"fetching failed: {type(error).__name__}: {error}")
            for sample in samples:
                block.failures.setdefault(sample, failure)
        if block.settle(len(samples)):
            try:
                if self._packs is not None and not block.cancelled:
                    self._packs.add(block)
            finally:
                block.finish()

    def _read(self, block: Block, wanted: Range) -> None:
        where, url = self._extents, self._extents.urls[wanted.file]
        file_size = int(where.shard_bytes[wanted.file])
        data = memoryview(bytearray(wanted.stop - wanted.start))
        options: dict[str, Any] = {"file_size": file_size, "given_up": lambda: block.cancelled}
        self.fetcher.read_range(url, wanted.start, data, **options)
        for place in wanted.items.tolist():
            sample = int(block.samples[place])
            offset, size = int(where.offset[sample]), int(where.size[sample])
            image = data[offset - wanted.start : offset - wanted.start + size]
            crc32 = int(where.crc32[sample])
            if (where.checked is None or where.checked[sample]) and zlib.crc32(image) != crc32:
                try:
                    self.fetcher.read_checked(url, offset, image, crc32, **options)
                except Unreachable:
                    raise
                except DataError as error:
                    block.failures[sample] = error
                    continue
            block.put(place, image)

    def distrust(self, sample: int) -> None:
        """The bytes that were taken for a sample are wrong: it is fetched again when it is taken next."""
        with self._lock:
            self._recent.pop(sample, None)
        if self._packs is not None:
            self._packs.forget(sample)

    @property
    def closed(self) -> bool:
        """Whether nothing is fetched any more."""
        return self._closed

    def end(self) -> None:
        """Ends what is waited for, at once; threads may still be about."""
        self._closed = True
        for expected in list(self._expected):
            expected.close()
        for block in list(self._started):
            block.cancelled = True
        self.fetcher.close()

    def close(self) -> None:
        """Ends what is under way, and every thread. Safe to call twice."""
        self.end()
        self.errands.close()


_supplies: weakref.WeakSet[Supply] = weakref.WeakSet()


def _after_fork() -> None:
    for supply in list(_supplies):
        supply.after_fork()


def _end_all() -> None:
    for supply in list(_supplies):
        supply.end()


# The interpreter waits for the engine's threads before it runs atexit functions, and they may wait for a server: this
# is the hook before that (see fastload.engine.serving).
threading._register_atexit(_end_all)  # type: ignore[attr-defined]

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
