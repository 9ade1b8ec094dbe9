"""A converted data set: tar shards read by position, as the index says, and checked against its checksums."""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections.abc import Mapping
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Dataset, Sample
from fastload.dataset.index import ExtraColumns, IndexTable, read_index
from fastload.dataset.manifest import Manifest, read_manifest
from fastload.dataset.reading import open_regular, read_range
from fastload.dataset.reads import ReadPlan, Reads, pack_paths
from fastload.dataset.seek import NO_INDEX, SeekFiles
from fastload.errors import ConfigError, DataError

Verify = Literal["first", "always", "never"]

# Shards beyond this share of the process's limit are opened for each read (10 us): a data set of 50,000 shards must
# not take the descriptors that the training loop needs.
_SHARE_OF_DESCRIPTORS: Final = 0.5
_TAR_BLOCK: Final = 512


class ShardedDataset(Dataset):
    """Samples in tar shards with an index table, as ``fastload convert`` writes them.

    Opening maps the index into memory and looks at the size of each shard; samples are then read by position, so a
    damaged tar header costs nothing. Several processes share the pages of the index.

    Args:
        path: The folder that holds dataset.json.
        verify: When the bytes of an image are compared with their crc32: the ``"first"`` time that this object reads
            them, ``"always"`` or ``"never"``. ``"always"`` also checks the whole index when it is opened.

    Raises:
        DataError: A file is missing, cut short, edited, of a newer version or not what its name says.
        ConfigError: ``verify`` is none of the three.
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: Verify = "first") -> None:
        if verify not in get_args(Verify):
            raise ConfigError(f"verify must be 'first', 'always' or 'never', not {verify!r}")
        self.path = os.fspath(path)
        manifest = read_manifest(self.path)
        index = os.path.join(self.path, manifest.index.name)
        check = {"first": None, "always": True, "never": False}[verify]
        self._set_up(manifest, index_of(manifest, index, check=check), verify)
        self._check_shards()

    def _set_up(self, manifest: Manifest, index: IndexTable, verify: Verify) -> None:
        """All but the shards."""
        self._verify = verify
        self.manifest = manifest
        self.classes = manifest.classes
        self.schema = dict(manifest.schema_)
        self.fingerprint = manifest.fingerprint
        self.proven = verify != "never"  # convert and index decode every image; its bytes are compared since
        self._index = index
        self._shard_bytes = np.array([*(shard.size for shard in self.manifest.shards), 0], np.int64)
        # One bit per sample whose checksum was seen to be right. Two threads that set bits of one byte at once may
        # lose one, which costs a second check and nothing else.
        self._seen = np.zeros((len(self._index) + 7) // 8 if verify == "first" else 0, np.uint8)
        self._descriptors = np.full(len(self.manifest.shards), -1, np.int64)
        self._open_descriptors = 0
        self._most_descriptors = _descriptor_budget()
        self._lock = threading.Lock()
        self._closed = False
        paths = [self.file_path(number) for number in range(len(manifest.shards))]
        self._seek = SeekFiles(paths, self.shard_sizes(), index.crc32)

    def _check_shards(self) -> None:
        for shard in self.manifest.shards:
            path = os.path.join(self.path, shard.name)
            try:
                size = os.stat(path).st_size
            except OSError as error:
                raise DataError(
                    f"a shard of {shard.samples:,} samples cannot be read: {error.strerror}; "
                    "restore the file or convert the data again",
                    path=path,
                ) from error
            if size != shard.size:
                raise DataError(
                    f"expected a shard of {shard.size:,} bytes, as dataset.json says, but the file has {size:,}; "
                    "it was cut short or edited: restore it or convert the data again",
                    path=path,
                )

    def __len__(self) -> int:
        return len(self._index)

    def labels(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        labels = self._index.label[self._checked(ids)].astype(np.int64)
        if labels.size and (labels.min() < -1 or labels.max() >= max(len(self.classes), 1)):
            raise DataError(
                f"the index has labels outside -1 .. {len(self.classes) - 1}; restore it or convert the data again",
                path=self.path,
            )
        return labels

    def sizes(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        rows = self._checked(ids)
        return np.stack([self._index.height[rows], self._index.width[rows]], axis=-1)

    def num_bytes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.extents(ids)[2]

    def extra_bytes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Size of the further members of each sample in bytes, all together; shape as ids."""
        rows = self._checked(ids)
        total = np.zeros(rows.shape, np.int64)
        for columns in self._index.extras.values():
            total += columns.size[rows]
        return total

    def extents(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        rows = self._checked(ids)
        shards = self._index.shard[rows].astype(np.int64)
        offsets = self._index.offset[rows]
        sizes = self._index.size[rows].astype(np.int64)
        known = (shards >= 0) & (shards < len(self.manifest.shards))
        ends = self._shard_bytes[np.where(known, shards, -1)]  # the last one is 0, the end of no shard
        inside = (offsets >= 0) & (offsets <= ends - sizes)
        if not inside.all():
            raise self._misplaced(int(np.asarray(ids)[~inside].flat[0]))
        return shards, offsets, sizes

    def file_path(self, file_index: int) -> str:
        return os.path.join(self.path, self.manifest.shards[file_index].name)

    def file_descriptor(self, file_index: int) -> int:
        """A descriptor of a shard, open for reading until the data set is closed."""
        with self._lock:
            if self._closed:
                raise ValueError(f"the data set {self.path} is closed")
            descriptor = int(self._descriptors[file_index])
            if descriptor < 0:
                descriptor, size = open_regular(self.file_path(file_index))
                if size != self.manifest.shards[file_index].size:
                    os.close(descriptor)
                    raise DataError(
                        f"the shard has {size:,} bytes now and had {self.manifest.shards[file_index].size:,} when the "
                        "data set was opened; somebody writes to it",
                        path=self.file_path(file_index),
                    )
                self._descriptors[file_index] = descriptor
                self._open_descriptors += 1
            return descriptor

    def crc32(self, ids: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Checksums of the image files, shape as ids."""
        checksums: NDArray[np.uint32] = self._index.crc32[self._checked(ids)]
        return checksums

    def seek_index(self, sample_id: int) -> NDArray[np.uint8]:
        row = self._row(sample_id)
        shard = int(self._index.shard[row])
        return self._seek.index(shard, row) if 0 <= shard < len(self.manifest.shards) else NO_INDEX

    def read_into(self, sample_id: int, buffer: NDArray[np.uint8]) -> int:
        row = self._row(sample_id)
        view = self._room(row, buffer)
        self._read(row, int(self._index.offset[row]), view)
        if self._verify != "never" and not self._was_seen(row):
            self._check(row, view, int(self._index.crc32[row]))
            self.note_checked(np.array([row]))
        return len(view)

    def _room(self, row: int, buffer: NDArray[np.uint8]) -> memoryview:
        """The part of ``buffer`` that a sample's image takes; DataError if it does not fit."""
        size = int(self._index.size[row])
        view = memoryview(buffer.data).cast("B")
        if size > len(view):
            raise DataError(
                f"the image has {size:,} bytes and does not fit into a buffer of {len(view):,}",
                path=self.location(row),
                key=self.key(row),
            )
        return view[:size]

    def plan_reads(self, ids: NDArray[np.int64]) -> ReadPlan:
        rows = self._checked(ids)
        shards, offsets, sizes = self.extents(rows)
        closed = np.unique(shards[self._descriptors[shards] < 0]).tolist()
        for shard in closed[: max(0, self._most_descriptors - self._open_descriptors)]:
            with contextlib.suppress(DataError):  # read_into tells it again, with the sample's name
                self.file_descriptor(shard)
        descriptors = self._descriptors[shards]
        paths: list[bytes | None] = [None] * len(rows)
        for item in np.flatnonzero(descriptors < 0).tolist():
            paths[item] = os.fsencode(self.file_path(int(shards[item])))
        check = np.full(len(rows), self._verify != "never", np.uint8)
        if self._verify == "first":
            check = ~self._seen[rows >> 3] >> (rows & 7).astype(np.uint8) & 1
        seek, memory = self._seek.locate(shards, rows)
        path, packed = pack_paths(paths)
        crc32 = self._index.crc32[rows].astype(np.int64)
        raw = np.zeros((len(rows), 2), np.int64)
        return ReadPlan(Reads(descriptors, path, packed, offsets, sizes, crc32, check, seek, raw), memory)

    def note_checked(self, ids: NDArray[np.int64]) -> None:
        if self._verify == "first":
            np.bitwise_or.at(self._seen, ids >> 3, (1 << (ids & 7)).astype(np.uint8))

    def _read_member(self, row: int, columns: ExtraColumns, view: memoryview) -> None:
        """Reads one further member of a sample, of which the index says where it lies."""
        self._read(row, int(columns.offset[row]), view)
        if self._verify != "never":
            self._check(row, view, int(columns.crc32[row]))

    def _was_seen(self, row: int) -> bool:
        return self._verify == "first" and bool(self._seen[row >> 3] >> (row & 7) & 1)

    def _read(self, row: int, offset: int, view: memoryview) -> None:
        shard = int(self._index.shard[row])
        if not 0 <= shard < len(self.manifest.shards):
            raise self._misplaced(row)
        if offset < 0 or offset + len(view) > self.manifest.shards[shard].size:
            raise self._misplaced(row)
        descriptor = int(self._descriptors[shard])
        temporary = descriptor < 0 and self._open_descriptors >= self._most_descriptors
        try:
            if temporary:
                descriptor, _ = open_regular(self.file_path(shard))
            elif descriptor < 0:
                descriptor = self.file_descriptor(shard)
            done = read_range(descriptor, view, offset)
        except (OSError, DataError) as error:
            reason = error.reason if isinstance(error, DataError) else f"the shard cannot be read: {error.strerror}"
            raise DataError(reason, path=self.file_path(shard), key=self.key(row)) from error
        finally:
            if temporary and descriptor >= 0:
                os.close(descriptor)
        if done != len(view):
            raise DataError(
                f"expected {len(view):,} bytes at offset {offset:,}, but the shard ends after {done:,} of them; "
                "it was cut short after the data set was opened: restore it",
                path=self.file_path(shard),
                key=self.key(row),
            )

    def _check(self, row: int, view: memoryview, expected: int) -> None:
        found = zlib.crc32(view)
        if found != expected:
            raise DataError(
                f"expected crc32 {expected:08x}, as the index says, but the bytes have {found:08x}; "
                "the shard was damaged or edited: restore it or convert the data again",
                path=self.location(row),
                key=self.key(row),
            )

    def key(self, sample_id: int) -> str:
        return self._index.key[self._row(sample_id)]

    def source(self, sample_id: int) -> str:
        """Where a sample came from: its path relative to the folder that was converted."""
        return self._index.source[self._row(sample_id)]

    def location(self, sample_id: int) -> str:
        shard = int(self._index.shard[self._row(sample_id)])
        return self.file_path(shard) if 0 <= shard < len(self.manifest.shards) else self.path

    def extras(self, sample_id: int) -> Mapping[str, bytes]:
        row = self._row(sample_id)
        extras = {}
        for extension, columns in self._index.extras.items():
            size = int(columns.size[row])
            if size > self._shard_bytes.max():
                raise self._misplaced(row)
            if size:
                member = bytearray(size)
                self._read_member(row, columns, memoryview(member))
                extras[extension] = bytes(member)
        return extras

    def __getitem__(self, sample_id: int) -> Sample:
        row = self._row(sample_id)
        image = bytearray(int(self.num_bytes(np.array([row]))[0]))
        self.read_into(row, np.frombuffer(image, np.uint8))
        return Sample(
            id=row,
            key=self.key(row),
            image=bytes(image),
            label=int(self.labels(np.array([row]))[0]),
            extras=self.extras(row),
            types=self.schema,
        )

    def shard_sizes(self) -> NDArray[np.int64]:
        return np.array([shard.samples for shard in self.manifest.shards], np.int64)

    def close(self) -> None:
        """Closes every shard. Reads that run in other threads must have ended. Safe to call twice."""
        with self._lock:
            self._closed = True
            for descriptor in self._descriptors[self._descriptors >= 0].tolist():
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._descriptors[:] = -1
        if hasattr(self, "_seek"):
            self._seek.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, (self.path, self._verify))

    def _row(self, sample_id: int) -> int:
        row = int(sample_id)
        if not 0 <= row < len(self._index):
            raise IndexError(f"sample {row} of a data set of {len(self._index)}")
        return row

    def _checked(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = np.asarray(ids)
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(self._index):
            raise IndexError(f"samples {ids.min()} .. {ids.max()} of a data set of {len(self._index)}")
        return ids

    def _misplaced(self, row: int) -> DataError:
        return DataError(
            "the index places this sample outside its shard; restore index.arrow or convert the data again",
            path=self.path,
            key=self.key(row),
        )


def index_of(manifest: Manifest, path: str, *, check: bool | None) -> IndexTable:
    """The index table that a manifest describes, from the file at ``path``; see ``read_index``."""
    index = manifest.index
    return read_index(
        path,
        samples=manifest.samples,
        size=index.size,
        crc32=index.crc32,
        extras=manifest.extras,
        check=check,
    )


def _reopen(path: str, verify: Verify) -> ShardedDataset:
    return ShardedDataset(path, verify=verify)


def _descriptor_budget() -> int:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int((1 << 16 if soft == resource.RLIM_INFINITY else soft) * _SHARE_OF_DESCRIPTORS)
