"""Requests cover what is wanted, each piece once, and no more than they may."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastload.remote.ranges import plan_ranges

pieces = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5_000), st.integers(1, 700)), min_size=0, max_size=60)


def columns(found):
    return np.array(found, np.int64).reshape(-1, 3).T


@settings(deadline=None)  # the machine may be busy
@given(pieces, st.integers(0, 900), st.integers(1, 3_000))
def test_ranges_cover_every_piece_once_and_nothing_in_vain(found, gap, longest):
    files, offsets, sizes = columns(found)
    ranges = plan_ranges(files, offsets, sizes, gap=gap, longest=longest)
    assert sorted(item for entry in ranges for item in entry.items.tolist()) == list(range(len(found)))
    for entry in ranges:
        begins, ends = offsets[entry.items], offsets[entry.items] + sizes[entry.items]
        assert (files[entry.items] == entry.file).all()
        assert (entry.start, entry.stop) == (begins.min(), ends.max())
        assert len(entry.items) == 1 or entry.stop - entry.start <= longest
        wanted = np.zeros(entry.stop - entry.start + 1, bool)
        for begin, end in zip(begins, ends, strict=True):
            wanted[begin - entry.start : end - entry.start] = True
        unwanted = 0
        for byte in wanted[:-1]:
            unwanted = 0 if byte else unwanted + 1
            assert unwanted <= gap
    firsts = [int(entry.items.min()) for entry in ranges]
    assert firsts == sorted(firsts)


@settings(deadline=None)  # the machine may be busy
@given(pieces, st.integers(0, 900))
def test_neighbours_within_the_gap_share_a_request(found, gap):
    files, offsets, sizes = columns(found)
    ranges = sorted(plan_ranges(files, offsets, sizes, gap=gap, longest=1 << 40), key=lambda r: (r.file, r.start))
    for one, other in itertools.pairwise(ranges):
        assert one.file < other.file or other.start > one.stop + gap


def test_a_shard_that_is_read_in_order_is_read_in_long_pieces():
    sizes = np.full(1000, 100_000, np.int64)
    offsets = np.arange(1000, dtype=np.int64) * 101_000
    ranges = plan_ranges(np.zeros(1000, np.int64), offsets, sizes, gap=64 << 10, longest=4 << 20)
    assert len(ranges) == -(-1000 // (((4 << 20) - 100_000) // 101_000 + 1))
