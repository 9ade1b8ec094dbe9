"""Files of samples: whatever their bytes are, nothing is read outside of them."""

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastload.errors import DataError
from fastload.remote.blocks import Block, nameless_file, read_table, write_table


def packed(sizes):
    """A descriptor of a file with samples of these sizes, and the block that wrote it."""
    lengths = np.array(sizes, np.int64)
    block = Block(np.arange(len(sizes)) * 3, lengths, nameless_file())
    for place, size in enumerate(sizes):
        block.put(place, memoryview(bytes([place % 256]) * size))
    crc32 = np.arange(len(sizes), dtype=np.uint32)
    write_table(block.file.descriptor, block.samples, block.offsets, lengths, crc32)
    return block


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_what_was_written_is_found(sizes):
    block = packed(sizes)
    table = read_table(block.file.descriptor)
    assert table["sample"].tolist() == block.samples.tolist()
    assert table["crc32"].tolist() == list(range(len(sizes)))
    for row, size in enumerate(sizes):
        data = os.pread(block.file.descriptor, int(table["size"][row]), int(table["offset"][row]))
        assert data == bytes([row % 256]) * size
    assert os.fstat(block.file.descriptor).st_size == block.file_bytes


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(0, 600),
)
def test_damage_is_an_error_or_rows_within_the_file(sizes, changes, cut):
    block = packed(sizes)
    descriptor = block.file.descriptor
    for place, value in changes:
        os.pwrite(descriptor, bytes([value]), place)
    os.ftruncate(descriptor, min(cut, os.fstat(descriptor).st_size))
    try:
        table = read_table(descriptor)
    except DataError:
        return
    end = os.fstat(descriptor).st_size
    assert ((table["offset"] >= 0) & (table["offset"] + table["size"] <= end)).all()


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=400))
def test_other_files_are_told_apart(data):
    block = packed([1])
    os.ftruncate(block.file.descriptor, 0)
    os.pwrite(block.file.descriptor, data, 0)
    try:
        table = read_table(block.file.descriptor)
    except DataError:
        return
    assert len(table) <= len(data) // 24
