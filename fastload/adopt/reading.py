"""One sample of a foreign shard read and proven: its row of the index, or why there is none."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass

from fastload.convert.transcode import examine
from fastload.dataset.reading import LARGEST_FILE, open_regular
from fastload.errors import DataError
from fastload.sources.tar_members import Member, fill_from, read_member
from fastload.sources.tar_samples import LARGEST_LABEL_MEMBER, Choice, Group

_PIECE = 1 << 20
_LARGEST_EXTRA = (1 << 32) - 1  # sizes have 32 bits in the index


@dataclass(frozen=True, kw_only=True)
class Row:
    """A sample as the index has it; ``reason`` alone, if it is skipped.

    Attributes:
        key, name: Of the sample, and of the member that is its image.
        offset, size, crc32: Of the image in its shard.
        height, width: In pixels.
        label: -1 for none.
        seek: Seek index; empty where the image has none.
        extras: Offset, size and crc32 of every other member, by suffix.
        reason: Why the sample is skipped; empty if it is not.
    """

    key: str
    name: str
    offset: int = 0
    size: int = 0
    crc32: int = 0
    height: int = 0
    width: int = 0
    label: int = -1
    seek: bytes = b""
    extras: dict[str, tuple[int, int, int]]
    reason: str = ""


def read_groups(path: str, groups: list[Group], choice: Choice) -> list[Row]:
    """Reads some samples of the tar at ``path``, decodes each image once, and makes their rows.

    Raises:
        DataError: The tar cannot be opened.
        ConfigError: A sample has several images.
    """
    descriptor, _ = open_regular(path)
    try:
        return [_row(descriptor, group, choice) for group in groups]
    finally:
        os.close(descriptor)


def _row(descriptor: int, group: Group, choice: Choice) -> Row:
    try:
        return _read(descriptor, group, choice)
    except DataError as error:
        return Row(key=group.key, name=group.key, extras={}, reason=error.reason)


def _read(descriptor: int, group: Group, choice: Choice) -> Row:
    if group.problem:
        raise DataError(group.problem)
    suffix = choice.image_of(group)
    for name, member in group.members.items():
        if member.problem:
            raise DataError(f"its member .{name} {member.problem}")
    image = group.members[suffix]
    data = read_member(descriptor, image, LARGEST_FILE)
    label_member = group.members.get(choice.label_suffix)
    label_data = None if label_member is None else read_member(descriptor, label_member, LARGEST_LABEL_MEMBER)
    label = choice.read_label(label_data)
    height, width, seek = examine(data)
    others = {name: member for name, member in group.members.items() if name != suffix and name not in choice.hidden}
    return Row(
        key=group.key,
        name=image.name,
        offset=image.offset,
        size=image.size,
        crc32=zlib.crc32(data),
        height=height,
        width=width,
        label=label,
        seek=seek,
        extras={name: (member.offset, member.size, _checksum(descriptor, member)) for name, member in others.items()},
    )


def _checksum(descriptor: int, member: Member) -> int:
    if member.size > _LARGEST_EXTRA:
        raise DataError(f"its member {member.shown} has {member.size:,} bytes, more than an index can say")
    buffer, checksum = memoryview(bytearray(min(member.size, _PIECE))), 0
    for begin in range(0, member.size, _PIECE):
        piece = buffer[: member.size - begin]
        fill_from(descriptor, piece, member, begin)
        checksum = zlib.crc32(piece, checksum)
    return checksum
