"""x.beton.seek: seek indexes and checksums of the JPEGs of a .beton file, beside it; it may be deleted at any time.

The file has the format of a shard's (fastload.jpeg.seek_file), with an entry for each sample and one more at the end,
whose checksum is that of the .beton file's tables: it says which file the others are of.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fastload.dataset.seek import NO_INDEX
from fastload.errors import DataError
from fastload.jpeg.seek_file import SeekFile, write_seek_file

logger = logging.getLogger("fastload")


def beton_seek_path(path: str) -> str:
    """Where the seek indexes of a .beton file lie."""
    return f"{path}.seek"


def write_beton_seek(path: str, indexes: Iterable[bytes], crcs: NDArray[np.uint32], tables: int) -> int:
    """Writes the file for the .beton file ``path``, whose samples have these indexes; its size in bytes.

    Args:
        path: The .beton file.
        indexes: One for each sample, empty for one that has none.
        crcs: uint32 (n + 1,), of each JPEG; the last is written here. May be filled while ``indexes`` are drawn.
        tables: Checksum of the tables (``BetonDataset.tables_crc32``).
    """
    crcs[-1] = tables
    return write_seek_file(beton_seek_path(path), chain(indexes, [b""]), crcs)


class BetonSeek:
    """The seek file of a .beton file, if there is one that is of this very file.

    Args:
        path: The .beton file.
        count: How many samples it has.
        tables: Checksum of its tables.

    Attributes:
        crc32: uint32 (n,), checksum of each image file; None where there is no such seek file.
        problem: Why a file that is there is not used; empty where it is, or where there is none.
    """

    crc32: NDArray[np.uint32] | None = None
    problem: str = ""

    def __init__(self, path: str, count: int, tables: int) -> None:
        self._file: SeekFile | None = None
        try:
            file = SeekFile(beton_seek_path(path), None)
        except FileNotFoundError:
            return
        except (DataError, OSError) as error:
            self.problem = error.reason if isinstance(error, DataError) else f"it cannot be read: {error.strerror}"
        else:
            if len(file) == count + 1 and int(file.image_crcs[count]) == tables:
                self._file, self.crc32 = file, file.image_crcs[:count]
                return
            file.close()
            self.problem = "it is of another .beton file, or of this one before it was written anew"
        logger.warning("%s: %s; images are read without it, more slowly", beton_seek_path(path), self.problem)

    def locate(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], object]:
        """For ``Reads.seek``: address, bytes and entries of the file, and the number of each sample there."""
        found = np.zeros((len(ids), 4), np.int64)
        if self._file is None:
            return found, None
        found[:, :3] = self._file.data.ctypes.data, self._file.data.size, len(self._file)
        found[:, 3] = ids
        return found, self._file.data

    def index(self, number: int) -> NDArray[np.uint8]:
        """The index of one sample; empty where there is none."""
        return NO_INDEX if self._file is None else self._file.index(number)

    def stored(self, number: int) -> bytes | None:
        """The bytes of an index as they lie in the file; None where it does not match its own checksum."""
        return b"" if self._file is None else self._file.stored(number)

    def close(self) -> None:
        """Closes the file. Reads that run in other threads must have ended."""
        file, self._file, self.crc32 = self._file, None, None
        if file is not None:
            file.close()
