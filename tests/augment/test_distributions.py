"""Distributions against Python's statistics and numpy's generator; their bits are pinned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fastload.augment.distributions import beta, dirichlet, normal
from fastload.augment.portable import ln
from fastload.augment.rng import random_words

_IDS = np.arange(100_000, dtype=np.int64)


def _words(epoch: int = 0) -> Callable[[int], NDArray[np.uint64]]:
    return lambda block: random_words(_IDS, seed=11, epoch=epoch, transform=0, block=block)


def _largest_gap(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Kolmogorov's and Smirnov's statistic of two samples."""
    points = np.sort(np.concatenate((ours, theirs)))
    shares = [np.searchsorted(np.sort(side), points, side="right") / len(side) for side in (ours, theirs)]
    return float(np.abs(shares[0] - shares[1]).max())


def test_ln_is_within_two_units_of_the_last_place() -> None:
    values = np.concatenate((2.0 ** np.linspace(-1000, 1000, 4001), np.linspace(0.5, 2.0, 4001)))
    expected = np.array([math.log(value) for value in values])
    assert np.abs(ln(values) - expected).max(initial=0, where=expected != 0) <= 1e-15 * np.abs(expected).max()
    relative = np.abs(ln(values) - expected) / np.maximum(np.abs(expected), 1e-3)
    assert relative.max() < 5e-16


def test_normal_inverts_the_distribution_function() -> None:
    words = np.linspace(0, 2**32 - 1, 20_001).astype(np.uint64)
    expected = [statistics.NormalDist().inv_cdf((int(word) + 0.5) * 2.0**-32) for word in words]
    np.testing.assert_allclose(normal(words), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.8, 1.0, 2.5])
def test_beta_is_distributed_as_numpys(alpha: float) -> None:
    theirs = np.random.default_rng(3).beta(alpha, alpha, len(_IDS))
    # Equal distributions stay below this in 999 of 1,000 cases.
    assert _largest_gap(beta(alpha, alpha, _words()), theirs) < 1.95 * math.sqrt(2 / len(_IDS))


def test_an_uneven_beta_and_a_dirichlet_are_distributed_as_numpys() -> None:
    limit = 1.95 * math.sqrt(2 / len(_IDS))
    theirs = np.random.default_rng(4)
    assert _largest_gap(beta(0.3, 2.0, _words(1)), theirs.beta(0.3, 2.0, len(_IDS))) < limit
    ours, other = dirichlet((1.0, 1.0, 1.0), _words(2)), theirs.dirichlet((1.0, 1.0, 1.0), len(_IDS)).T
    np.testing.assert_allclose(ours.sum(axis=0), 1.0, rtol=1e-15)
    for j in range(3):
        assert _largest_gap(ours[j], other[j]) < limit
    assert abs(np.corrcoef(ours[0], ours[1])[0, 1] + 0.5) < 0.01


def test_tiny_parameters_give_numbers() -> None:
    values = beta(1e-3, 1e-3, _words())
    assert np.isfinite(values).all()
    assert ((values >= 0) & (values <= 1)).all()


def test_draws_are_what_they_were() -> None:
    values = beta(0.2, 0.2, lambda block: random_words(np.arange(3), seed=7, epoch=2, transform=1, block=block))
    assert [value.hex() for value in values.tolist()] == [
        "0x1.42d364893e064p-1",
        "0x1.85a0c4f90c2b2p-9",
        "0x1.492842db6a607p-1",
    ]
