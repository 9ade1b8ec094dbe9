"""Philox against the published vectors and Python's own integers; streams that do not meet; portable functions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastload.augment import portable
from fastload.augment.rng import integers, philox4x32, random_words, uniform
from fastload.errors import ConfigError

# From kat_vectors of the Random123 distribution, lines "philox4x32 10": counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


def philox_one(counter, key):
    """Philox4x32-10 as the paper writes it, in Python's own integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for number in range(10):
        if number:
            k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_published_vectors(counter, key, result):
    assert philox_one(words(counter), words(key)) == words(result)
    array = np.array(words(counter), dtype=np.uint64)
    assert philox4x32(array, tuple(words(key))).tolist() == words(result)
    assert philox4x32(np.tile(array[:, None, None], (1, 2, 3)), tuple(words(key)))[:, 1, 2].tolist() == words(result)


@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    ids=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5),
    transform=st.integers(0, 2**16 - 1),
    block=st.integers(0, 2**16 - 1),
)
def test_words_are_philox_of_seed_sample_epoch_and_draw(seed, epoch, ids, transform, block):
    ours = random_words(np.array(ids), seed=seed, epoch=epoch, transform=transform, block=block)
    for column, sample in enumerate(ids):
        counter = [sample % 2**32, sample >> 32, epoch, transform << 16 | block]
        assert ours[:, column].tolist() == philox_one(counter, [seed % 2**32, seed >> 32])


def test_shapes_broadcast():
    ids = np.arange(4)
    grid = random_words(ids, seed=1, epoch=2, transform=np.arange(3)[:, None])
    assert grid.shape == (4, 3, 4)
    assert np.array_equal(grid[:, 2], random_words(ids, seed=1, epoch=2, transform=2))
    blocks = random_words(ids[:, None], seed=1, epoch=2, transform=0, block=np.arange(5))
    assert np.array_equal(blocks[:, :, 3], random_words(ids, seed=1, epoch=2, transform=0, block=3))
    assert random_words(ids[:0], seed=1, epoch=2, transform=0).shape == (4, 0)


def test_golden_values():
    # A change of these numbers changes the augmentation of every run with a given seed.
    ours = random_words(np.array([0, 1_281_166, 2**40]), seed=7, epoch=3, transform=1, block=2)
    assert ours.tolist() == [
        [2380728523, 3546916607, 2461275577],
        [4163023574, 87381711, 2749402533],
        [864993271, 2143682640, 606864140],
        [3691223268, 1423970258, 3348763555],
    ]


def test_uniform_covers_its_range_evenly_and_excludes_the_top():
    ids = np.arange(50_000)
    for word in random_words(ids, seed=0, epoch=0, transform=0):
        counts = np.bincount((uniform(word) * 50).astype(int), minlength=50)
        assert ((counts - 1000) ** 2 / 1000).sum() < 49 + 4.5 * np.sqrt(98)
    ends = np.array([0, 2**32 - 1], dtype=np.uint64)
    assert uniform(ends).tolist() == [0.0, 1 - 2**-32]
    assert uniform(ends, -2.0, 3.0).tolist() == [-2.0, 3.0 - 5 * 2**-32]


def test_integers_are_even_and_stay_below():
    word = random_words(np.arange(60_000), seed=0, epoch=0, transform=0)[0]
    counts = np.bincount(integers(word, 6), minlength=6)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 5 + 4.5 * np.sqrt(10)
    ends = np.array([0, 2**32 - 1], dtype=np.uint64)
    for high in (1, 7, 65_535, 2**32):
        assert integers(ends, high).tolist() == [0, high - 1]
    assert integers(ends, np.array([5, 9])).tolist() == [0, 8]


def test_neighbouring_streams_are_unrelated():
    ids = np.arange(20_000)
    base = {"seed": 0, "epoch": 0, "transform": 0, "block": 0}
    first = random_words(ids, **base)
    others = [random_words(ids, **(base | {name: 1})) for name in base]
    others += [random_words(ids + 1, **base), first[::-1]]
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert abs(np.corrcoef(one.astype(float), two.astype(float))[0, 1]) < 4.5 / np.sqrt(len(ids))
            assert (one == two).sum() == 0


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**32)])
def test_refuses_what_does_not_fit_into_the_counter(seed, epoch):
    with pytest.raises(ConfigError):
        random_words(np.arange(2), seed=seed, epoch=epoch, transform=0)


@given(st.floats(-30, 30))
def test_exp_is_within_two_units_in_the_last_place(value):
    ours, exact = float(portable.exp(np.array([value]))[0]), math.exp(value)
    assert abs(ours - exact) <= 2 * math.ulp(exact)


@given(st.floats(1e-6, 1e6))
def test_log_is_within_one_unit_in_the_last_place(value):
    assert abs(portable.log(value) - math.log(value)) <= math.ulp(math.log(value))


def test_exp_golden_bits():
    values = portable.exp(np.array([-0.2876820724517809, 0.1, 0.2876820724517809, 5.0]))
    assert [value.hex() for value in values.tolist()] == [
        "0x1.8000000000000p-1",
        "0x1.1aec7b35a00d4p+0",
        "0x1.5555555555555p+0",
        "0x1.28d389970338fp+7",
    ]
