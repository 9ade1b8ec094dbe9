"""Seek files: what is written is read again, and no damage ever yields an index that was not written."""

import os
import random
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastload.errors import DataError
from fastload.jpeg.seek_file import SeekFile, index_sizes, table_end, write_seek_file


def example() -> tuple[list[bytes], np.ndarray]:
    rng = random.Random(0)
    indexes = [rng.randbytes(rng.randint(1, 90)) if number % 5 else b"" for number in range(23)]
    crcs = np.array([zlib.crc32(b"image %d" % number) for number in range(23)], np.uint32)
    return indexes, crcs


def test_reads_what_was_written(tmp_path):
    indexes, crcs = example()
    path = str(tmp_path / "shard-000000.seek")
    size = write_seek_file(path, iter(indexes), crcs.tolist())
    assert os.path.getsize(path) == size
    assert os.listdir(tmp_path) == ["shard-000000.seek"]
    with SeekFile(path, crcs) as file:
        assert len(file) == 23
        assert [file.index(number).tobytes() for number in range(23)] == indexes
        begins, sizes = file.find(np.array([4, 0, 7]))
        assert sizes.tolist() == [len(indexes[4]), 0, len(indexes[7])]
        assert file.data[begins[2] : begins[2] + sizes[2]].tobytes() == indexes[7]
    again = str(tmp_path / "again")
    write_seek_file(again, indexes, crcs.tolist())
    assert Path(again).read_bytes() == Path(path).read_bytes()


def test_an_index_of_a_changed_image_is_not_used(tmp_path):
    indexes, crcs = example()
    path = str(tmp_path / "a.seek")
    write_seek_file(path, indexes, crcs.tolist())
    crcs[6] ^= 1
    with SeekFile(path, crcs) as file:
        assert file.index(6).size == 0
        assert file.index(7).tobytes() == indexes[7]


def test_no_samples(tmp_path):
    path = str(tmp_path / "a.seek")
    write_seek_file(path, [], [])
    with SeekFile(path, np.zeros(0, np.uint32)) as file:
        assert len(file) == 0


def test_every_changed_byte_is_noticed(tmp_path):
    indexes, crcs = example()
    path = str(tmp_path / "a.seek")
    write_seek_file(path, indexes, crcs.tolist())
    good = Path(path).read_bytes()
    table_end = 64 + 8 * 24 + 8 * 23
    refused = 0
    for at in range(len(good)):
        with open(path, "wb") as file:
            file.write(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            seek = SeekFile(path, crcs)
        except DataError:
            refused += 1
            continue
        with seek:
            found = [seek.index(number).tobytes() for number in range(23)]
        changed = [number for number in range(23) if found[number] != indexes[number]]
        # Padding of the header may change unseen; behind the table exactly the index that holds the byte is dropped.
        assert [found[number] for number in changed] == [b""] * len(changed)
        assert len(changed) == (at >= table_end)
    assert refused >= table_end - 24


def test_files_of_another_size_are_refused(tmp_path):
    indexes, crcs = example()
    path = str(tmp_path / "a.seek")
    write_seek_file(path, indexes, crcs.tolist())
    good = Path(path).read_bytes()
    for content in (b"", good[:10], good[:64], good[:300], good[:-1], good + b"x"):
        with open(path, "wb") as file:
            file.write(content)
        with pytest.raises(DataError, match="seek file"):
            SeekFile(path, crcs)
    with open(path, "wb") as file:
        file.write(good)
    for other in (crcs[:-1], np.append(crcs, crcs[:1])):
        with pytest.raises(DataError, match="samples"):
            SeekFile(path, other)


def test_the_table_alone_says_how_large_indexes_are(tmp_path):
    indexes, crcs = example()
    path = str(tmp_path / "x.seek")
    size = write_seek_file(path, iter(indexes), crcs.tolist())
    head = Path(path).read_bytes()[: table_end(23)]
    assert index_sizes(head, size, crcs).tolist() == list(map(len, indexes))
    other = crcs.copy()
    other[7] += 1
    expected = [0 if number == 7 else len(index) for number, index in enumerate(indexes)]
    assert index_sizes(head, size, other).tolist() == expected
    for length in range(len(head)):
        with pytest.raises(DataError):
            index_sizes(head[:length], size, crcs)
    for wrong in (head.replace(b"fl", b"FL", 1), head[:-1] + b"?"):
        with pytest.raises(DataError):
            index_sizes(wrong, size, crcs)
    for wrong_size in (size - 1, size + 1, 0):
        with pytest.raises(DataError):
            index_sizes(head, wrong_size, crcs)


def test_nothing_half_written_stands_under_the_name(tmp_path):
    indexes, crcs = example()
    path = str(tmp_path / "a.seek")

    def failing():
        yield indexes[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_seek_file(path, failing(), crcs.tolist())
    for wrong in (indexes[:-1], [*indexes, b""]):
        with pytest.raises(ValueError, match="one index"):
            write_seek_file(path, wrong, crcs.tolist())
    assert os.listdir(tmp_path) == []
