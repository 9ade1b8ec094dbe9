"""Changes that break readers: of bytes, of JSON values, of tar headers, of JPEG files, of FFCV's tables."""

import json
import random
import struct
import zlib

# Borders of types.
NUMBERS = [0, 1, 127, 255, 65_535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
WORDS = [
    None,
    True,
    -1,
    1 << 64,
    1e300,
    float("nan"),
    "",
    "../x",
    "/",
    "\0",
    "\ud800",
    "a" * 5000,
    [],
    {},
    [[]],
    "WebDataset shards",
]
TEXTS = [b"", b'"', b"\n", b"\r", b",", b"\t", b"\0", b"\xff", b"{", b"[" * 300, b"NaN", b"-1", b"1e999", b"9" * 5000]
JPEG_SIGNS = (b"\xff\xd9", b"\xff\xd0", b"\xff\x00", b"\xff\xff", b"\0\0", b"\xff\xc4")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bits, bytes, numbers, ranges: one to four changes."""
    copy = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, kind = rng.randrange(len(copy) + 1), rng.randrange(7)
        if kind == 0 and place < len(copy):
            copy[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            copy[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            size = rng.choice((2, 4, 8))
            place = place // size * size
            copy[place : place + size] = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 3:
            del copy[place : place + rng.choice((1, 8, 100))]
        elif kind == 4:
            copy[place:place] = copy[place : place + rng.choice((1, 8, 512))]
        elif kind == 5:
            del copy[place:]
        else:
            other = rng.randrange(len(data))
            copy[place : place + 16] = data[other : other + 16]
    return bytes(copy)


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """As mutate_bytes, or what means something in a table or in JSON is put somewhere."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    copy = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(copy) + 1)
        copy[place : place + rng.choice((0, 1, 4))] = rng.choice(TEXTS)
    return bytes(copy)


def mutate_json(value, rng: random.Random):
    """One place of a JSON value is another value."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        copy = value.copy()
        place = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
        copy[place] = mutate_json(copy[place], rng)
        return copy
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice([value + 1, value - 1, -value, *NUMBERS])
    return rng.choice(WORDS)


def json_file(value, rng: random.Random) -> bytes:
    """A JSON file of which one to three values are others, or some bytes."""
    if rng.random() < 0.3:
        return mutate_text(json.dumps(value).encode(), rng)
    for _ in range(rng.randint(1, 3)):
        value = mutate_json(value, rng)
    return json.dumps(value).encode()


def mutate_tar(data: bytes, rng: random.Random) -> bytes:
    """Fields of headers, mostly with a checksum that is right."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    copy = bytearray(data)
    headers = [place for place in range(0, len(copy), 512) if copy[place + 257 : place + 262] == b"ustar"]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(headers)
        field, size = rng.choice([(0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)])
        kind = rng.randrange(5)
        if kind == 0:
            value = bytes(rng.randrange(256) for _ in range(size))
        elif kind == 1:  # base 256, as GNU tar writes large numbers
            value = (b"\x80" if rng.random() < 0.7 else b"\xff") + rng.choice(NUMBERS).to_bytes(11, "big")
        elif kind == 2:
            value = b"%0*o" % (max(size - 1, 1), rng.choice(NUMBERS) % 8 ** max(size - 1, 1))
        else:
            value = rng.choice(
                [b"L", b"K", b"x", b"g", b"S", b"1", b"2", b"5", b"6", b"\0", b"V", b"../../x", b".", b"/"]
            )
        copy[at + field : at + field + min(size, len(value))] = value[:size]
        if rng.random() < 0.3:  # what a long name or a PAX record says
            record = rng.choice(
                [b"99999999999 path=x\n", b"12 size=-77\n", b"22 GNU.sparse.major=1\n", b"9 a=b\n", b"x" * 400]
            )
            copy[at + 512 : at + 512 + len(record)] = record
        if rng.random() < 0.85:
            copy[at + 148 : at + 156] = b" " * 8
            copy[at + 148 : at + 156] = b"%06o\0 " % sum(copy[at : at + 512])
    return bytes(copy)


def mutate_jpeg(data: bytes, rng: random.Random, begin: int, end: int, most: int) -> bytes:
    """Some bytes between begin and end are changed, taken away, repeated or replaced by what is special in a JPEG."""
    changed = bytearray(data)
    for _ in range(1 + int(rng.expovariate(0.7))):
        at = rng.randrange(begin, max(end, begin + 1)) if len(changed) > begin else 0
        kind = rng.randrange(8)
        if kind <= 2:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 3 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 4:
            changed[at : at + rng.choice((1, 2, 5, 40))] = b""
        elif kind == 5:
            changed[at:at] = changed[at : at + rng.choice((1, 2, 5, 40))]
        elif kind == 6:
            changed[at : at + 2] = rng.choice(JPEG_SIGNS)
        else:
            del changed[at:]
    return bytes(changed[:most])


def fitted_seek(data: bytes, rng: random.Random) -> bytes:
    """A mutated seek file whose header and table have checksums that fit."""
    copy = bytearray(mutate_bytes(data, rng)).ljust(64, b"\0")
    count = min(struct.unpack_from("<Q", copy, 16)[0], (len(copy) - 72) // 16) if len(copy) > 72 else 0
    if rng.random() < 0.7:
        struct.pack_into("<Q", copy, 24, len(copy))
    end = 72 + 16 * max(count, 0)
    struct.pack_into("<I", copy, 32, zlib.crc32(copy[64:end]))
    struct.pack_into("<I", copy, 36, zlib.crc32(copy[:36]))
    return bytes(copy)


def mutate_beton(data: bytes, rng: random.Random, head: int, rows_end: int) -> tuple[list[tuple[int, bytes]], int]:
    """One to four changes, nearly all of them in tables: what to write where, and where the file ends."""
    table = struct.unpack_from("<Q", data, 16)[0]
    changes: list[tuple[int, bytes]] = []
    for _ in range(rng.randint(1, 4)):
        begin, end = rng.choice([(0, 24), (24, head), (head, rows_end), (table, len(data)), (0, len(data))])
        place, kind = rng.randrange(begin, end), rng.random()
        if kind < 0.3:
            changes.append((place, bytes([data[place] ^ 1 << rng.randrange(8)])))
        elif kind < 0.6:
            value = rng.choice([*NUMBERS, 7, 1 << 21, 1 << 63, (1 << 64) - 24, len(data), table, rows_end])
            changes.append((min(place, len(data) - 8), struct.pack("<Q", value)))
        elif kind < 0.75:
            changes.append((place, bytes([rng.randrange(256)])))
        elif kind < 0.9:
            size = min(rng.randint(1, 64), len(data) - place)
            other = rng.randrange(len(data) - size)
            changes.append((place, data[other : other + size]))
        else:
            return changes, rng.choice([place, len(data) - rng.randint(1, 400)])
    return changes, len(data)
