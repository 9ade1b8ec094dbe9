"""USTAR members, written so that equal contents give equal bytes on every machine and version of Python."""

from __future__ import annotations

from typing import Final

BLOCK: Final = 512
END_OF_ARCHIVE: Final = bytes(2 * BLOCK)

_LARGEST_MEMBER: Final = 8**11 - 1


def member(name: str, data: bytes) -> bytes:
    """Header, contents and padding of one regular file; the contents begin BLOCK bytes in.

    tarfile would do, but what it writes into the fields for devices changed between versions of Python.
    """
    return b"".join([_header(name, len(data)), data, bytes(-len(data) % BLOCK)])


def _header(name: str, size: int) -> bytes:
    encoded = name.encode("ascii")
    assert len(encoded) <= 100, "keys are short"
    assert size <= _LARGEST_MEMBER, "sources refuse larger files"
    header = bytearray(BLOCK)
    header[0 : len(encoded)] = encoded
    header[100:108] = b"0000644\0"  # mode
    header[108:116] = b"0000000\0"  # user
    header[116:124] = b"0000000\0"  # group
    header[124:136] = b"%011o\0" % size
    header[136:148] = b"00000000000\0"  # time of modification: 1970, whoever runs it and whenever
    header[148:156] = b"        "  # the checksum counts as spaces while it is computed
    header[156:157] = b"0"  # regular file
    header[257:265] = b"ustar\00000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)
