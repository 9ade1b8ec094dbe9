"""The plan depends on sizes, shard size and seed alone, and its order is pinned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastload.convert import Options, parse_size
from fastload.convert.plan import make_plan, permutation
from fastload.errors import ConfigError


@given(
    st.lists(st.integers(0, 3_000_000), max_size=60),
    st.integers(1 << 16, 1 << 22),
    st.one_of(st.none(), st.integers(0, (1 << 64) - 1)),
)
def test_every_entry_once_in_parts_that_fit(sizes, shard_size, seed):
    num_bytes = np.array(sizes, np.int64)
    plan = make_plan(num_bytes, shard_size=shard_size, seed=seed, members=2)
    assert sorted(plan.order) == list(range(len(sizes)))
    assert plan.bounds[0] == 0
    assert plan.bounds[-1] == len(sizes)
    stored = [512 * (-(-sizes[entry] // 512) + 3) for entry in plan.order]
    for begin, end in zip(plan.bounds[:-1], plan.bounds[1:], strict=True):
        assert begin < end
        assert sum(stored[begin:end]) <= shard_size or end - begin == 1
        if end < len(sizes):  # and not one sample fewer than fit
            assert sum(stored[begin : end + 1]) > shard_size


def test_order_of_a_seed_is_pinned():
    assert permutation(12, 0).tolist() == [2, 4, 6, 7, 8, 9, 1, 3, 5, 10, 0, 11]
    assert permutation(12, 2**64 - 1).tolist() == [4, 2, 7, 8, 6, 10, 3, 1, 11, 0, 5, 9]
    assert make_plan(np.ones(5, np.int64), shard_size=1 << 20, seed=None, members=2).order.tolist() == [0, 1, 2, 3, 4]


def test_permutations_are_even():
    """Each entry comes to each place about equally often (chi-square, 81 cells, 4,000 seeds)."""
    counts = np.zeros((9, 9))
    for seed in range(4000):
        counts[np.arange(9), permutation(9, seed)] += 1
    expected = 4000 / 9
    assert ((counts - expected) ** 2 / expected).sum() < 110  # 64 degrees of freedom: 99.97%


def test_keys_are_short_and_sorted():
    plan = make_plan(np.ones(3, np.int64), shard_size=1 << 20, seed=None, members=2)
    assert plan.key(2) == "000000002"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("256MiB", 256 << 20),
        ("1GB", 10**9),
        ("64k", 65536),
        ("1.5M", 3 << 19),
        (" 2 TiB ", 2 << 40),
        ("100000", 100_000),
    ],
)
def test_sizes_in_words(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 XB", "1e9", True, None, "1MiBs"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shard_size", 1),
        ("seed", -1),
        ("seed", 1 << 64),
        ("max_side", 0),
        ("quality", 101),
        ("quality", 0),
        ("quality", 9.5),
    ],
)
def test_options_have_ranges(name, value):
    options = {"shard_size": 1 << 20, "seed": None, "max_side": None, "quality": None, "dali_labels": False}
    with pytest.raises(ConfigError, match=name):
        Options(**options | {name: value})
