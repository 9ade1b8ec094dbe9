"""A file of FFCV's (.beton, version 2) as a data set: JPEG files or raw pixels, and what else it holds as extras."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.base import Dataset, Sample
from fastload.dataset.beton_layout import JPEG_MODE, RAW_MODE, Contents, Kind, describe, read_contents
from fastload.dataset.beton_notes import Notes, read_notes
from fastload.dataset.beton_seek import BetonSeek
from fastload.dataset.reading import LARGEST_FILE, open_regular, read_range
from fastload.dataset.reads import ReadPlan, Reads, pack_paths
from fastload.dataset.sharded import Verify
from fastload.errors import ConfigError, DataError


class BetonDataset(Dataset):
    """Samples of a .beton file, as FFCV's DatasetWriter or ``fastload convert SRC x.beton`` wrote it.

    The image is an RGB field, the label an int field. Every other field arrives as an extra, bytes as stored (numbers
    as 8 bytes, little-endian; JSON without its final NUL; arrays in C order), and ``schema`` gives its type; ``value``
    makes numbers, arrays and objects of them.

    An image that is stored raw is handed out as a PPM file, which every reader of images takes. Engines that can do
    better ask ``is_raw`` and read only the rows of pixels that they need, where ``extents`` says that they lie.

    The format has no checksums: damage to pixels goes unnoticed, damage to a JPEG is left to its decoder, unless
    ``x.beton.seek`` lies beside the file, which has the crc32 of every JPEG, and its seek index (``fastload convert``
    and ``fastload index`` write it). The tables are checked when the file is opened; a sample whose row points outside
    of the file, or to nothing that was allocated, fails alone, when it is read. Class names stand in ``x.beton.json``,
    which ``fastload convert`` writes beside the file.

    Args:
        path: The file.
        image: Name of the image's field; None takes the only RGB field, or of several the one named "image".
        label: Name of the label's field; None takes the only int field, or of several the one named "label". In a file
            without int fields every label is -1.
        verify: When the bytes of a JPEG are compared with a crc32 that x.beton.seek has: the "first" time that they
            are read, "always" or "never".

    Raises:
        DataError: The file is missing, cut short, unfinished or of another format, or holds no images.
        ConfigError: There is no such field, or a choice is needed among several; the message names them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image: str | None = None,
        label: str | None = None,
        verify: Verify = "first",
    ) -> None:
        self.path = os.fspath(path)
        self._chosen = (image, label, verify)
        self._verify = verify
        self._descriptor, size = open_regular(self.path)
        contents = read_contents(functools.partial(read_range, self._descriptor), size, self.path)
        self._set_up(contents, read_notes(self.path, size))

    def _set_up(self, contents: Contents, notes: Notes | None) -> None:
        """Takes over what the file's tables and the notes beside it say."""
        image, label, _ = self._chosen
        self._contents = contents
        self._columns = {field.name: (field, contents.rows[str(i)]) for i, field in enumerate(contents.fields)}
        images = [field.name for field in contents.fields if field.kind == "image"]
        if not images:
            raise DataError("expected a field of RGB images, but the file has none", path=self.path)
        self._image = str(self._choose("image", image, "image"))
        self._label = self._choose("int", label, "label")
        self._images = {name: Images(contents, self._columns[name][1]) for name in images}
        self._places = self._images[self._image]
        self.classes = notes.classes if notes is not None else ()
        self.schema = {name: describe(field) for name, (field, _) in self._columns.items()}
        if self._label is not None:
            self.schema[self._label] = "label"
        # Only the file itself says which of its fields hold JSON.
        self.schema |= {name: kind for name, kind in (notes.fields if notes else {}).items() if kind != "json"}

    @property
    def extra_names(self) -> tuple[str, ...]:
        """The fields beside image and label."""
        return tuple(name for name in self._columns if name not in (self._image, self._label))

    @property
    def extra_forms(self) -> dict[str, str]:
        """How each of them is stored: "int", "float", "bytes", "json", "ndarray <f4 2x3" or "image"."""
        return {name: describe(self._columns[name][0]) for name in self.extra_names}

    def _choose(self, kind: Kind, wanted: str | None, usual: str) -> str | None:
        """The name of the field of this kind that is wanted, the only one, or of several the one named ``usual``."""
        names = [name for name, (field, _) in self._columns.items() if field.kind == kind]
        if wanted is not None and wanted not in names:
            raise ConfigError(f"{self.path} has no {kind} field {wanted!r}; it has {', '.join(names) or 'none'}")
        if wanted is not None or not names:
            return wanted
        if len(names) > 1 and usual not in names:
            raise ConfigError(
                f"{self.path} has several {kind} fields ({', '.join(names)}) and none is named {usual!r}: choose one "
                f"with BetonDataset(path, {usual}=...)"
            )
        return usual if usual in names else names[0]

    @functools.cached_property
    def fingerprint(self) -> str:  # type: ignore[override]  # computed when first asked for: it looks at every row
        """Digest of the fields, and of the labels, sizes and places of all samples.

        The format has no checksums: other pixels in the same places go unnoticed. Reading a whole file to open it
        would be worse.
        """
        digest = hashlib.sha256(json.dumps([self.schema, self.classes, self._image], sort_keys=True).encode())
        digest.update(self._contents.rows.view(np.uint8).data)
        digest.update(self._places.sizes.astype("<i8").tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def tables_crc32(self) -> int:
        """Checksum of the rows, of the places and sizes of all that they point to, and of the name of the image."""
        checksum = zlib.crc32(self._image.encode())
        for table in (self._contents.rows, self._contents.pointers, self._contents.sizes):
            checksum = zlib.crc32(np.ascontiguousarray(table).view(np.uint8).data, checksum)
        return checksum

    @functools.cached_property
    def seek(self) -> BetonSeek:
        """The seek indexes and checksums beside the file, if there are any."""
        return BetonSeek(self.path, len(self), self.tables_crc32)

    @functools.cached_property
    def _seen(self) -> NDArray[np.bool_]:
        """Which samples have been compared with their checksums; those of which there is none count as compared."""
        seen: NDArray[np.bool_] = (self._places.headers > 0) | (self._places.sizes == 0)
        return np.ones(len(self), np.bool_) if self.seek.crc32 is None else seen

    def __len__(self) -> int:
        return len(self._contents.rows)

    def labels(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = self._checked(ids)
        if self._label is None:
            return np.full(ids.shape, -1, np.int64)
        labels: NDArray[np.int64] = self._columns[self._label][1][ids].astype(np.int64)
        if self.classes and labels.size and (labels.min() < -1 or labels.max() >= len(self.classes)):
            raise DataError(
                f"the file has labels outside -1 .. {len(self.classes) - 1}, the classes of {self.path}.json; restore "
                "both files",
                path=self.path,
            )
        return labels

    def sizes(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        ids = self._checked(ids)
        return np.stack([self._places.heights[ids], self._places.widths[ids]], axis=-1)

    def num_bytes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = self._checked(ids)
        num_bytes: NDArray[np.int64] = self._places.sizes[ids] + self._places.headers[ids]
        return num_bytes

    def is_raw(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self._places.headers[self._checked(ids)] > 0

    def extents(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        ids = self._checked(ids)
        return np.zeros(ids.shape, np.int64), self._places.offsets[ids], self._places.sizes[ids]

    def file_path(self, file_index: int) -> str:
        if file_index != 0:
            raise IndexError(f"file {file_index} of a data set of one")
        return self.path

    def file_descriptor(self, file_index: int) -> int:
        """The descriptor of the file, open for reading until the data set is closed."""
        self.file_path(file_index)
        if self._descriptor < 0:
            raise ValueError(f"the data set {self.path} is closed")
        return self._descriptor

    def read_into(self, sample_id: int, buffer: NDArray[np.uint8]) -> int:
        row = self._row(sample_id)
        view = memoryview(buffer.data).cast("B")
        size = self._places.size_of_file(row)
        if size > len(view):
            raise DataError(
                f"the image has {size:,} bytes and does not fit into a buffer of {len(view):,}",
                path=self.path,
                key=self.key(row),
            )
        self._read_image(row, self._places, view[:size])
        self._check(row, view[:size])
        return size

    def read_rows(self, sample_id: int, first: int, count: int, buffer: NDArray[np.uint8]) -> None:
        row, places = self._row(sample_id), self._places
        stride = 3 * int(places.widths[row])
        if not places.headers[row]:
            super().read_rows(row, first, count, buffer)
        if first < 0 or count < 0 or first + count > places.heights[row]:
            raise DataError(
                f"its box lies outside: rows {first} to {first + count} were asked of {places.heights[row]}",
                path=self.path,
                key=self.key(row),
            )
        view = memoryview(buffer.data).cast("B")[: count * stride]
        self._read(row, int(places.offsets[row]) + first * stride, view)

    def plan_reads(self, ids: NDArray[np.int64]) -> ReadPlan:
        _, offsets, sizes = self.extents(ids)
        count = len(offsets)
        path, packed = pack_paths([None] * count)
        descriptors, zeros = np.full(count, self.file_descriptor(0), np.int64), np.zeros(count, np.int64)
        raw = np.where(self.is_raw(ids)[:, None], self.sizes(ids), 0).astype(np.int64)
        checksums = self.seek.crc32
        crc32 = zeros if checksums is None else checksums[ids].astype(np.int64)
        check = np.zeros(count, np.uint8) if self._verify == "never" else (~self._seen[ids]).astype(np.uint8)
        seek, memory = self.seek.locate(np.asarray(ids))
        return ReadPlan(Reads(descriptors, path, packed, offsets, sizes, crc32, check, seek, raw), memory)

    def seek_index(self, sample_id: int) -> NDArray[np.uint8]:
        return self.seek.index(self._row(sample_id))

    def note_checked(self, ids: NDArray[np.int64]) -> None:
        if self._verify == "first":
            self._seen[ids] = True

    def _check(self, row: int, image: memoryview) -> None:
        """Compares a JPEG with its checksum, if there is one and it is to be compared."""
        if self._verify == "never" or self._seen[row] or self.seek.crc32 is None:
            return
        found, expected = zlib.crc32(image), int(self.seek.crc32[row])
        if found != expected:
            raise DataError(
                f"expected crc32 {expected:08x}, as {os.path.basename(self.path)}.seek says, but the bytes have "
                f"{found:08x}; the file was damaged or edited: restore it, or remove the .seek file",
                path=self.path,
                key=self.key(row),
            )
        self.note_checked(np.array([row]))

    def _read_image(self, row: int, places: Images, view: memoryview) -> None:
        if not places.sizes[row]:
            raise self._misplaced(row)
        header = places.header(row)
        view[: len(header)] = header
        self._read(row, int(places.offsets[row]), view[len(header) :])

    def _read(self, row: int, offset: int, view: memoryview) -> None:
        try:
            done = read_range(self.file_descriptor(0), view, offset)
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}", path=self.path, key=self.key(row)) from error
        if done != len(view):
            raise DataError(
                f"expected {len(view):,} bytes at offset {offset:,}, but the file ends after {done:,} of them; it was "
                "cut short after the data set was opened: restore it",
                path=self.path,
                key=self.key(row),
            )

    def _misplaced(self, row: int) -> DataError:
        return DataError(
            "its row points outside of the file, or to nothing that the allocation table knows; restore the file",
            path=self.path,
            key=self.key(row),
        )

    def key(self, sample_id: int) -> str:
        return f"{self._row(sample_id):09d}"

    def location(self, sample_id: int) -> str:
        self._row(sample_id)
        return self.path

    def value(self, sample_id: int, name: str) -> Any:
        """What a field of a sample holds: int, float, bytes (of an image: its file), an array, or what the JSON says.

        Raises:
            DataError: The sample is damaged.
            KeyError: There is no field of this name.
        """
        row, field = self._row(sample_id), self._columns[name][0]
        data = self._stored(row, name)
        if field.kind in ("int", "float"):
            return np.frombuffer(data, "<i8" if field.kind == "int" else "<f8")[0].item()
        if field.dtype is not None:
            return np.frombuffer(data, field.dtype).reshape(field.shape).copy()
        if field.kind != "json":
            return data
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DataError(f"its field {name!r} is no JSON: {error}", path=self.path, key=self.key(row)) from error

    def extras(self, sample_id: int) -> Mapping[str, bytes]:
        row = self._row(sample_id)
        return {name: self._stored(row, name) for name in self.extra_names}

    def __getitem__(self, sample_id: int) -> Sample:
        row = self._row(sample_id)
        return Sample(
            id=row,
            key=self.key(row),
            image=self._stored(row, self._image),
            label=int(self.labels(np.array([row]))[0]),
            extras=self.extras(row),
            types=self.schema,
        )

    def _stored(self, row: int, name: str) -> bytes:
        field, column = self._columns[name]
        if field.kind == "image":
            image = memoryview(bytearray(self._reasonable(row, self._images[name].size_of_file(row))))
            self._read_image(row, self._images[name], image)
            if name == self._image:
                self._check(row, image)
            return bytes(image)
        if field.kind in ("int", "float"):
            return bytes(column[row].tobytes())
        if field.dtype is not None:
            offset, size = int(column[row]), field.array_bytes
        else:
            offset, size = int(column[row]["pointer"]), int(column[row]["size"])
        begin, end = self._contents.data
        if size and not begin <= offset <= end - size:
            raise self._misplaced(row)
        data = memoryview(bytearray(self._reasonable(row, size)))
        self._read(row, offset, data)
        return bytes(data).removesuffix(b"\0") if field.kind == "json" else bytes(data)

    def _reasonable(self, row: int, size: int) -> int:
        if size > LARGEST_FILE:
            raise DataError(f"expected at most 1 GiB, but it has {size:,} bytes", path=self.path, key=self.key(row))
        return size

    def shard_sizes(self) -> NDArray[np.int64]:
        """Samples that follow each other in one page of the file, in order."""
        pages = self._places.offsets // self._contents.page_size
        starts = np.flatnonzero(np.diff(pages, prepend=-1 if len(pages) else [])) if len(pages) else np.zeros(0, int)
        return np.diff(np.append(starts, len(pages))).astype(np.int64)

    def close(self) -> None:
        """Closes the file. Reads that run in other threads must have ended. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if "seek" in vars(self):
            self.seek.close()

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, (self.path, *self._chosen))

    def _row(self, sample_id: int) -> int:
        row = int(sample_id)
        if not 0 <= row < len(self):
            raise IndexError(f"sample {row} of a data set of {len(self)}")
        return row

    def _checked(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = np.asarray(ids, np.int64)
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(self):
            raise IndexError(f"samples {ids.min()} .. {ids.max()} of a data set of {len(self)}")
        return ids


class Images:
    """Where the images of one field lie, once every row has been compared with the allocation table.

    Attributes:
        offsets, sizes: int64 (n,), place of the JPEG file or of the pixels; 0 and 0 for a row that is wrong.
        heights, widths: int32 (n,), in pixels; 0 for a row that is wrong.
        headers: int64 (n,), bytes of the PPM header that a raw image is handed out with; 0 for a JPEG.
    """

    def __init__(self, contents: Contents, column: NDArray[np.void]) -> None:
        pixels = column["height"].astype(np.int64) * column["width"]
        allocated = contents.allocated(np.ascontiguousarray(column["pointer"]))
        raw = column["mode"] == RAW_MODE
        good = (allocated > 0) & ((column["mode"] == JPEG_MODE) | (raw & (allocated == 3 * pixels)))
        self.sizes: NDArray[np.int64] = np.where(good, allocated, 0)
        self.offsets = np.where(good, column["pointer"], 0).astype(np.int64)
        self.heights = np.where(good, column["height"], 0).astype(np.int32)
        self.widths = np.where(good, column["width"], 0).astype(np.int32)
        digits = sum((self.heights >= power).astype(np.int64) + (self.widths >= power) for power in _POWERS)
        self.headers = np.where(good & raw, len(b"P6\n \n255\n") + digits, 0)

    def size_of_file(self, row: int) -> int:
        """Bytes of the image file that is handed out."""
        return int(self.sizes[row] + self.headers[row])

    def header(self, row: int) -> bytes:
        """What makes a PPM file of raw pixels; nothing for a JPEG."""
        return b"P6\n%d %d\n255\n" % (self.widths[row], self.heights[row]) if self.headers[row] else b""


_POWERS = (1, 10, 100, 1000, 10_000)


def _reopen(path: str, image: str | None, label: str | None, verify: Verify) -> BetonDataset:
    return BetonDataset(path, image=image, label=label, verify=verify)
