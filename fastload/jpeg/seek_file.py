"""shard-*.seek: the seek indexes of all samples of one shard, in a file that may be deleted at any time.

Little-endian:

    0    8 bytes  "fl.seek\\n"
    8    uint32   version, 1
    12   uint32   0
    16   uint64   number of samples n
    24   uint64   size of the file in bytes
    32   uint32   crc32 of the table
    36   uint32   crc32 of bytes 0 to 35
    40   24 zeros
    64   table    n + 1 x uint64: where each index begins, and where the last one ends
                  n x uint32: crc32 of the image file that the index was made of
                  n x uint32: crc32 of the index
    then the indexes, one after the other, as index.py describes them; empty for a sample that has none

An index is used for an image only if the data set's own checksum of the image equals the one in the table, and if the
index equals its checksum. Whatever does not fit costs speed, never a pixel.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.errors import DataError

MAGIC: Final = b"fl.seek\n"
VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sIIQQI")
HEADER_BYTES: Final = 64


def write_seek_file(path: str, indexes: Iterable[bytes], crcs: Iterable[int]) -> int:
    """Writes the indexes of a shard's samples, in the order of the samples; equal arguments give equal bytes.

    The file is complete on the disk before it gets its name.

    Args:
        path: Where to, usually ``shard-000000.seek`` beside ``shard-000000.tar``.
        indexes: What build_index made of each image; empty where it made nothing.
        crcs: crc32 of each image file. An array may be filled while ``indexes`` are drawn.

    Returns:
        The file's size in bytes.
    """
    image_crcs = crcs if isinstance(crcs, np.ndarray) else np.fromiter(crcs, "<u4")
    count = len(image_crcs)
    offsets = np.zeros(count + 1, "<u8")
    index_crcs = np.zeros(count, "<u4")
    position = HEADER_BYTES + 8 * (count + 1) + 8 * count
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.seek(position)
            number = -1
            for number, index in enumerate(indexes):
                if number == count:
                    break
                offsets[number] = position
                index_crcs[number] = zlib.crc32(index)
                file.write(index)
                position += len(index)
            if number != count - 1:
                raise ValueError(f"expected one index for each of {count} checksums, got {number + 1} or more")
            offsets[count] = position
            table = offsets.tobytes() + image_crcs.astype("<u4").tobytes() + index_crcs.tobytes()
            header = _HEADER.pack(MAGIC, VERSION, 0, count, position, zlib.crc32(table))
            header += struct.pack("<I", zlib.crc32(header))
            file.seek(0)
            file.write(header.ljust(HEADER_BYTES, b"\0") + table)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    return position


def _open_at_once(path: str, flags: int) -> int:
    """A pipe of this name must not hang the reader; its size, 0, is then refused."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


Table = tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]


def _read_table(data: memoryview, size: int, count: int | None, path: str) -> Table:
    """Where indexes begin and end, of which images they are, and their checksums.

    Args:
        data: The file, or as much of it as ``table_end`` says.
        size: Bytes of the whole file.
        count: Samples that it should have; None where that is not known.
        path: For messages.
    """
    if len(data) < HEADER_BYTES:
        raise DataError(f"expected a seek file of at least {HEADER_BYTES} bytes, got {len(data)}", path=path)
    magic, version, _, samples, announced, table_crc = _HEADER.unpack_from(data)
    (header_crc,) = struct.unpack_from("<I", data, _HEADER.size)
    if magic != MAGIC or header_crc != zlib.crc32(data[: _HEADER.size]):
        raise DataError("expected a seek file, but its header is damaged; delete it", path=path)
    if version != VERSION:
        raise DataError(f"expected a seek file of version {VERSION}, got {version}; delete it", path=path)
    if count is None:
        count = min(samples, size // 16)
    if samples != count:
        raise DataError(f"expected a seek file of {count} samples, got {samples}; delete it", path=path)
    end = table_end(count)
    if announced != size or end > min(size, len(data)) or zlib.crc32(data[HEADER_BYTES:end]) != table_crc:
        raise DataError("expected a complete seek file, but its table is damaged; delete it", path=path)
    offsets = np.frombuffer(data, "<u8", count + 1, HEADER_BYTES).astype(np.int64)
    if offsets[0] != end or offsets[-1] != size or np.diff(offsets).min(initial=0) < 0:
        raise DataError("expected the indexes of a seek file one after the other; delete it", path=path)
    crcs = np.frombuffer(data, "<u4", 2 * count, HEADER_BYTES + 8 * (count + 1)).astype(np.uint32)
    return offsets, crcs[:count], crcs[count:]


def table_end(count: int) -> int:
    """Bytes before the indexes in a file of so many samples."""
    return HEADER_BYTES + 16 * count + 8


def index_sizes(head: bytes, size: int, crcs: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Bytes of each index in a file of which only the beginning is at hand; 0 where there is none of this image.

    Args:
        head: The first ``table_end(len(crcs))`` bytes.
        size: Bytes of the whole file.
        crcs: As for SeekFile.

    Raises:
        DataError: This is not the beginning of a seek file of so many samples.
    """
    offsets, image_crcs, _ = _read_table(memoryview(head), size, len(crcs), "")
    return np.where(image_crcs == crcs, np.diff(offsets), 0)


class SeekFile:
    """A shard's seek indexes, memory-mapped. Safe to use from several threads at once.

    Args:
        path: The file.
        crcs: uint32 (n,), the data set's checksum of each image file of the shard, in order; None leaves the comparison
            with ``image_crcs`` to the caller.

    Attributes:
        data: uint8, the whole file; ``find`` says where in it an index is.
        image_crcs: uint32 (n,), of the image files that the indexes were made of.
        fits: Whether every index was made of the image that the data set has.

    Raises:
        DataError: The file is not a seek file of n samples, or is damaged.
        OSError: It cannot be opened.
    """

    data: NDArray[np.uint8]
    image_crcs: NDArray[np.uint32]
    fits: bool

    def __init__(self, path: str, crcs: NDArray[np.uint32] | None) -> None:
        self.path = path
        with open(path, "rb", opener=_open_at_once) as file:
            size = os.fstat(file.fileno()).st_size
            if not size:  # which cannot be mapped
                raise DataError(f"expected a seek file of at least {HEADER_BYTES} bytes, got 0", path=path)
            # Private to the process (nothing is ever written to it): numba would compile every kernel once more for
            # arrays that cannot be written.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.data = np.frombuffer(self._map, np.uint8)
        try:
            count = None if crcs is None else len(crcs)
            self._offsets, self.image_crcs, self._crcs = _read_table(self.data.data, size, count, path)
        except DataError:
            self.close()
            raise
        # 0: not looked at yet, 1: good, 2: not to be used. A byte each: threads may write the same one, never halves.
        same = np.ones(len(self.image_crcs), bool) if crcs is None else self.image_crcs == crcs
        self._known = np.where(same, 0, 2).astype(np.uint8)
        self._known[np.diff(self._offsets) == 0] = 2
        self.fits = bool(same.all())

    def __len__(self) -> int:
        return len(self._known)

    def stored(self, sample: int) -> bytes | None:
        """The index of one sample as it is stored, whatever image it was made of; None if it is damaged."""
        index = self._slice(sample).tobytes()
        return index if zlib.crc32(index) == self._crcs[sample] else None

    def find(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in ``data`` the index of each sample begins and how many bytes it has; 0 bytes where there is none.

        An index is compared with its checksum when it is first asked for (about 1 us).
        """
        for sample in samples[self._known[samples] == 0]:
            self._known[sample] = 1 if zlib.crc32(self._slice(sample).data) == self._crcs[sample] else 2
        begins = self._offsets[samples]
        return begins, np.where(self._known[samples] == 1, self._offsets[samples + 1] - begins, 0)

    def index(self, sample: int) -> NDArray[np.uint8]:
        """The index of one sample, a view of ``data``; empty where there is none that can be used."""
        _, sizes = self.find(np.array([sample], np.int64))
        return self._slice(sample)[: int(sizes[0])]

    def _slice(self, sample: int) -> NDArray[np.uint8]:
        return self.data[self._offsets[sample] : self._offsets[sample + 1]]

    def close(self) -> None:
        """Gives the memory map up as soon as no view of it is left. Safe to call twice."""
        self.data = np.zeros(0, np.uint8)
        try:
            self._map.close()
        except BufferError:  # somebody still holds a view: the map goes with the last one
            pass

    def __enter__(self) -> SeekFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
