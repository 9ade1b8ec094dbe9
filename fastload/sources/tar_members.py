"""Where each file lies in an uncompressed tar that anybody may have written."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from fastload.errors import DataError
from fastload.sources.places import Opened, Places, read_at

_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"\x04\x22\x4d\x18": "lz4",
    # With the mark of the first block: a tar may well begin with the name BZhang/1.jpg.
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
}
_KINDS: Final = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a link to another member",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_BLOCK: Final = 512
_LARGEST_READ: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a tar that is no folder.

    Attributes:
        name: Its name; never used on the disk.
        offset, size: Where its bytes lie in the tar; inside the file unless ``problem`` says otherwise.
        problem: Why it cannot be read; empty if it can.
    """

    name: str
    offset: int
    size: int
    problem: str

    @property
    def shown(self) -> str:
        """The end of its name, for messages."""
        return repr(self.name[-80:])


class TarScan:
    """The members of a tar file in order: ustar, GNU and PAX, long names and large sizes included.

    Iterating reads headers only. Python's tarfile interprets them, as it does for webdataset; what it passes over in
    silence (a damaged header in the middle, bytes behind the end) is found here.

    Args:
        path: The tar file, or its URL.
        places: Opens it.

    Attributes:
        damage: Set when the iteration has ended: why members may be missing, empty if none are. A file that ends
            behind a member without the two blocks of zeros is taken as complete, as tar does.

    Raises:
        DataError: The file cannot be opened, or is compressed.
    """

    damage: str

    def __init__(self, path: str, places: Places | None = None) -> None:
        self.path = path
        self.damage = ""
        self._places = places or Places()

    def __iter__(self) -> Iterator[Member]:
        with self._places.reader(self.path) as raw:
            file = _Headers(raw)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            head = file.read(10)
            file.seek(0)
            for magic, name in _COMPRESSED.items():
                if head.startswith(magic):
                    raise DataError(
                        f"expected an uncompressed tar, but this one is compressed with {name}, so that no sample can "
                        "be read by its position; decompress it (JPEGs hardly shrink)",
                        path=self.path,
                    )
            yield from self._members(file, size)

    def _members(self, file: _Headers, size: int) -> Iterator[Member]:
        end = 0
        try:
            with tarfile.open(fileobj=cast(BinaryIO, file), mode="r:", errors="surrogateescape") as tar:
                while (info := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    if tar.offset <= end or info.offset_data < end or info.size < 0:
                        self.damage = f"the tar is damaged behind byte {end:,}; what follows is lost"
                        return
                    end = tar.offset
                    if not info.isdir():
                        yield Member(info.name, info.offset_data, info.size, _problem(info, size))
                self.damage = _damage_behind(file, tar.offset, size)
        except DataError:  # of what is behind a URL
            raise
        except OSError as error:
            raise DataError(f"the tar cannot be read: {error.strerror}", path=self.path) from error
        except Exception as error:  # tarfile raises whatever a damaged header makes it raise
            self.damage = f"the tar is damaged or cut off behind byte {end:,} ({error}); what follows is lost"


class _Headers:
    """A file for tarfile, which believes the sizes of headers that it reads whole (long names, PAX records)."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.seek, self.tell = raw.seek, raw.tell

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_READ:
            raise ValueError(f"a header of {size} bytes")
        return self._raw.read(size) or b""


def _problem(info: tarfile.TarInfo, size: int) -> str:
    if info.type in _KINDS:
        return f"is {_KINDS[info.type]} and has no bytes of its own"
    if info.issparse() or info.type == tarfile.GNUTYPE_SPARSE or any("sparse" in key for key in info.pax_headers):
        return "is stored with holes left out (sparse), which only tar can put together"
    if info.offset_data + info.size > size:
        return f"is cut off: it should have {info.size:,} bytes, the tar ends after {max(0, size - info.offset_data):,}"
    return ""


def _damage_behind(file: _Headers, offset: int, size: int) -> str:
    """What stands where tarfile saw the end: two blocks of zeros and nothing else, in a sound file."""
    file.seek(offset)
    block = file.read(_BLOCK)
    if block and (len(block) < _BLOCK or any(block)):
        return f"the tar is damaged at byte {offset:,}, where a header should stand; what follows is lost"
    while piece := file.read(_LARGEST_READ):
        if piece.count(0) != len(piece):
            return (
                f"behind the end of the tar at byte {offset:,} more follows, perhaps a second tar; "
                "neither tar nor WebDataset reads it: pack the files anew"
            )
    return ""


def read_member(file: Opened, member: Member, largest: int) -> bytes:
    """The bytes of a member.

    Raises:
        DataError: It has more than ``largest`` bytes, or cannot be read whole.
    """
    if member.size > largest:
        raise DataError(f"its member {member.shown} has {member.size:,} bytes, more than {largest:,}")
    buffer = bytearray(member.size)
    fill_from(file, memoryview(buffer), member, 0)
    return bytes(buffer)


def fill_from(file: Opened, view: memoryview, member: Member, begin: int) -> None:
    """Fills ``view`` with the bytes of a member from its byte ``begin`` on; DataError if they are not all there."""
    try:
        done = read_at(file, view, member.offset + begin)
    except OSError as error:
        raise DataError(f"its member {member.shown} cannot be read: {error.strerror}") from error
    if done != len(view):
        raise DataError(f"its member {member.shown} is cut off; somebody writes to the tar")
