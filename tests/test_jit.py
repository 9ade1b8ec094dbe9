"""How kernels are called: by each other at an address, and with arrays that do not have them compiled twice."""

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from fastload import jit
from fastload.jpeg import decoder
from fastload.jpeg.index_build import note_tiles
from fastload.jpeg.intrinsics import address_of
from fastload.jpeg.rectangle import decode_rectangle
from tests.child import in_a_child
from tests.engine.helpers import jpeg, picture


@jit.kernel
def last_of(values, shift):
    """What is called by address."""
    return values[values.size - 1] + shift


_call = jit.calls(last_of)


@jit.kernel
def last_of_both(first, second, address):
    """Calls it."""
    return _call(address, (first, np.int64(1))) * 1000 + _call(address, (second, np.int64(2)))


def test_kernels_call_each_other_whatever_else_python_called_them_with():
    values, fixed = np.arange(5), np.arange(7)
    fixed.flags.writeable = False
    assert last_of(fixed, 1) == 7
    assert last_of(fixed, np.float32(1.5)) == 7.5
    assert last_of(values, 1) == 5
    assert last_of(values, np.int32(1)) == 5
    assert len(last_of.overloads) >= 3
    assert last_of_both(values, np.arange(3), jit.entry(last_of)) == 5004


def test_bytes_become_arrays_that_may_be_written_and_memory_that_may_be_is_not_copied():
    fixed, free = bytes(range(9)), bytearray(range(9))
    assert jit.writable(fixed).tobytes() == fixed
    assert jit.writable(fixed).flags.writeable
    view = jit.writable(free)
    view[0] = 77
    assert free[0] == 77


def test_the_decoder_is_compiled_once_whatever_holds_the_bytes():
    file = jpeg(picture(40, 60))
    kernels = (decode_rectangle, note_tiles)
    decoder.decode(file, index=decoder.build_index(file))
    before = [set(kernel.overloads) for kernel in kernels]
    for data in (bytearray(file), memoryview(file), np.frombuffer(file, np.uint8)):
        assert np.array_equal(decoder.decode(data, index=decoder.build_index(data)), decoder.decode(file))
    assert [set(kernel.overloads) for kernel in kernels] == before
    assert all(any(signature[0].mutable for signature in kernel.signatures) for kernel in kernels)


class Pair(NamedTuple):
    table: np.ndarray
    rows: tuple[np.ndarray, np.ndarray]
    number: int


@jit.kernel
def _freeze(pair, frame):
    return jit.freeze(pair, address_of(frame), frame.size * 8)


_thaw = jit.thaws(_freeze)


@jit.kernel
def _add_frozen(frame):
    pair = _thaw(address_of(frame))
    first, second = pair.rows
    for place in range(pair.table.shape[1]):
        pair.table[1, place] = first[place] + second[place] + pair.number
    return pair.table.shape[0]


def test_frozen_arguments_are_those_that_were_given_and_nothing_is_written_where_there_is_no_room():
    table, row = np.zeros((2, 5)), np.arange(5.0)
    pair = Pair(table, (row, row[::-1].copy()), 7)
    frame = np.full(64, -1, np.int64)
    needed = _freeze(pair, frame)
    assert 0 < needed < frame.nbytes
    assert (frame[needed // 8 :] == -1).all()
    references = sys.getrefcount(row)
    for _ in range(3):
        assert _add_frozen(frame) == 2
    assert table.tolist() == [[0.0] * 5, [11.0] * 5]
    assert sys.getrefcount(row) == references
    small = np.full(needed // 8 - 1, -1, np.int64)
    assert _freeze(pair, small) == needed
    assert (small == -1).all()


def compile_a_group():
    """What was said, how many kernels came from the cache, and where that is."""
    said = []
    logging.getLogger("fastload").addFilter(lambda record: said.append(record.getMessage()))

    def warm_up():
        time.sleep(0.5)
        assert last_of(np.arange(5), 1) == 5

    jit.compile_once("test", warm_up)
    return said, sum(last_of.stats.cache_hits.values()), str(jit.kernel_cache_directory())


def test_a_group_is_compiled_once_even_with_a_read_only_home_and_several_first_processes(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder can be made below this")
    monkeypatch.setenv("FASTLOAD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # which serves in its place
    with ThreadPoolExecutor(3) as pool:
        said, hits, folders = zip(*pool.map(in_a_child, [compile_a_group] * 3), strict=True)
    (line,) = [line for lines in said for line in lines]  # the others wait for the first one
    assert "compiling fastload's test kernels" in line
    assert sorted(hits) == [0, 1, 1]
    assert len(set(folders)) == 1
    assert folders[0].startswith(str(tmp_path / "fastload-"))
    assert in_a_child(compile_a_group) == [[], 1, folders[0]]
