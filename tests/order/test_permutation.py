"""The keyed permutation: a bijection, uniform for tiny lengths, without structure for large ones, and pinned."""

import hashlib
import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastload.errors import ConfigError
from fastload.order import permute, unpermute


def chi_square_excess(counts, expected=None):
    """How many standard deviations a chi-square statistic lies above its mean: about N(0, 1) if the counts are fair."""
    counts = np.asarray(counts, dtype=float).ravel()
    expected = counts.mean() if expected is None else expected
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


@given(n=st.integers(1, 3000), key=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.text(max_size=5)))
@settings(max_examples=60, deadline=None)
def test_is_a_bijection_with_its_inverse(n, key):
    everything = np.arange(n)
    shuffled = permute(everything, n, key)
    assert shuffled.dtype == np.int64
    assert np.array_equal(np.sort(shuffled), everything)
    assert np.array_equal(unpermute(shuffled, n, key), everything)


@given(n=st.integers(1, 2**48), data=st.data())
@settings(max_examples=60, deadline=None)
def test_inverse_for_any_length(n, data):
    indices = data.draw(st.lists(st.integers(0, n - 1), max_size=20))
    shuffled = permute(indices, n, (3, "x"))
    assert all(0 <= index < n for index in shuffled.tolist())
    assert unpermute(shuffled, n, (3, "x")).tolist() == indices


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_orders_of_a_tiny_set_are_equally_likely(n):
    keys = 1500 if n < 5 else 3000
    orders = {order: 0 for order in itertools.permutations(range(n))}
    for key in range(keys):
        orders[tuple(permute(np.arange(n), n, (key, 0, "samples")).tolist())] += 1
    assert chi_square_excess(list(orders.values())) < 4.5


def test_every_place_and_every_pair_of_neighbours_of_ten_is_equally_likely():
    orders = np.array([permute(np.arange(10), 10, (7, epoch, "samples")) for epoch in range(3000)])
    places = np.array([np.bincount(orders[:, place], minlength=10) for place in range(10)])
    assert abs(chi_square_excess(places)) < 4.5
    neighbours = np.zeros((10, 10))
    np.add.at(neighbours, (orders[:, :-1].ravel(), orders[:, 1:].ravel()), 1)
    assert chi_square_excess(neighbours[~np.eye(10, dtype=bool)]) < 4.5
    # The parity of a permutation is what Feistel networks on even domains get wrong.
    inversions = (orders[:, :, None] > orders[:, None, :])[:, np.triu(np.ones((10, 10), dtype=bool), 1)].sum(axis=1)
    assert abs((inversions % 2).mean() - 0.5) < 4.5 * 0.5 / np.sqrt(len(orders))


@pytest.mark.parametrize("n", [65, 4096, 4097, 100_003, 1_281_167, 10**9, 2**48])
def test_large_orders_have_no_structure(n):
    count = min(n // 2, 100_000)
    start = (n - count) // 3
    values = permute(np.arange(start, start + count), n, (7, 0, "samples")) / n
    assert len(np.unique(values)) == count
    # Where a run of positions goes, in 16 equal parts; without replacement the spread is smaller, never larger.
    assert chi_square_excess(np.bincount((values * 16).astype(int), minlength=16)) < 4.5
    side = int(np.ceil(np.sqrt(n)))
    for lag in {1, 2, 3, 64, side, side + side % 2}:
        if lag < count // 2:
            first, second = values[:-lag] - 0.5, values[lag:] - 0.5
            correlation = (first * second).mean() * 12
            assert abs(correlation + 1 / n) < 4.5 / np.sqrt(len(first))
    if n > 50_000:
        joint = np.zeros((16, 16))
        np.add.at(joint, ((values[:-1] * 16).astype(int), (values[1:] * 16).astype(int)), 1)
        assert abs(chi_square_excess(joint)) < 4.5
        rises = (values[1:] > values[:-1]).mean()
        assert abs(rises - 0.5) < 4.5 * np.sqrt(1 / 12 / count)


def test_orders_of_different_keys_are_unrelated():
    n = 50_000
    orders = [permute(np.arange(n), n, (seed, epoch, "samples")) for seed in (0, 1) for epoch in (0, 1, 2)]
    for first, second in itertools.combinations(orders, 2):
        assert (first == second).sum() < 8  # Poisson with mean 1
        correlation = np.corrcoef(first, second)[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(n)


def test_golden_values():
    # A change of these numbers changes the order of every run with a given seed.
    key = (7, 3, "samples")
    assert permute(np.arange(3), 3, key).tolist() == [2, 0, 1]
    assert permute(np.arange(10), 10, key).tolist() == [9, 4, 5, 7, 6, 3, 0, 8, 2, 1]
    assert permute(np.arange(5), 1000, key).tolist() == [396, 540, 353, 77, 963]
    assert permute(np.arange(5), 1281167, key).tolist() == [451852, 8845, 710247, 1051534, 313530]
    assert permute(np.arange(5), 10**9, key).tolist() == [75955079, 469683696, 637553166, 800012734, 14752336]
    assert permute(np.arange(5), 2**48, key).tolist() == [
        111408802466198,
        264455160458465,
        138151669541353,
        127582620037433,
        60467115216303,
    ]


def permute_one(index, n, text, rounds):
    """The same network for one index, in Python's own integers."""
    side_a = max(2, math.isqrt(n - 1) + 1)
    side_a += side_a % 2
    side_b = -(-n // side_a)
    digest = hashlib.shake_128(text).digest(8 * rounds)
    while True:
        sides, (moved, fixed) = [side_a, side_b], divmod(index, side_b)
        for number in range(rounds):
            word = fixed ^ int.from_bytes(digest[8 * number : 8 * number + 8], "little")
            word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
            moved = (moved + ((word >> 32) * sides[0] >> 32)) % sides[0]
            moved, fixed, sides = fixed, moved, sides[::-1]
        index = moved * side_b + fixed
        if index < n:
            return index


@pytest.mark.parametrize(
    ("n", "rounds"), [(1, 32), (2, 32), (10, 32), (64, 32), (65, 16), (4097, 8), (10**9, 8), (2**48, 8)]
)
def test_equals_whole_number_arithmetic(n, rounds):
    indices = sorted({0, n // 3, n // 2, n - 1})
    expected = [permute_one(index, n, b"i7\0i3\0ssamples", rounds) for index in indices]
    assert permute(indices, n, (7, 3, "samples")).tolist() == expected


def test_numpy_integers_are_the_same_key_and_types_are_kept_apart():
    assert permute([5], 99, (np.int64(7), np.uint8(3))) == permute([5], 99, (7, 3))
    assert permute(np.arange(99), 99, (7, "3")).tolist() != permute(np.arange(99), 99, (7, 3)).tolist()


def test_any_shape():
    grid = np.arange(12).reshape(3, 4)
    assert np.array_equal(permute(grid, 50, (1,)), permute(grid.ravel(), 50, (1,)).reshape(3, 4))
    assert int(permute(4, 50, (1,))) == permute([4], 50, (1,))[0]
    assert permute([], 50, (1,)).shape == (0,)


def test_memory_does_not_grow_with_the_length():
    permute(np.arange(256), 10**12, (0,))
    tracemalloc.start()
    permute(np.arange(256), 10**12, (1,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(("indices", "n"), [([0], 0), ([0], -1), ([0], 2**48 + 1), ([5], 5), ([-1], 5)])
def test_refuses_what_is_out_of_range(indices, n):
    with pytest.raises(ConfigError):
        permute(indices, n, (0,))
    with pytest.raises(ConfigError):
        unpermute(indices, n, (0,))
