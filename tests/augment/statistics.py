"""Whether two samples of random numbers come from one distribution: bounds that chance passes once in 100,000 times."""

import math

import numpy as np

# Quantile of the normal distribution at 1 - 1e-5.
_SIGMAS = 4.27


def same_shares(ours, theirs):
    """Chi-square test of two lists of whole numbers: each value comes equally often."""
    ours, theirs = np.asarray(ours).ravel(), np.asarray(theirs).ravel()
    values = np.unique(np.concatenate((ours, theirs)))
    first = np.array([(ours == value).sum() for value in values], dtype=np.float64)
    second = np.array([(theirs == value).sum() for value in values], dtype=np.float64)
    ratio = math.sqrt(second.sum() / first.sum())
    statistic = ((first * ratio - second / ratio) ** 2 / (first + second)).sum()
    freedom = max(len(values) - 1, 1)
    # Wilson and Hilferty's approximation of the quantile.
    bound = freedom * (1 - 2 / (9 * freedom) + _SIGMAS * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic <= bound


def same_distribution(ours, theirs):
    """Kolmogorov-Smirnov test of two lists of numbers."""
    ours, theirs = np.sort(np.asarray(ours, np.float64).ravel()), np.sort(np.asarray(theirs, np.float64).ravel())
    places = np.concatenate((ours, theirs))
    first = np.searchsorted(ours, places, side="right") / len(ours)
    second = np.searchsorted(theirs, places, side="right") / len(theirs)
    bound = math.sqrt(-math.log(1e-5 / 2) / 2 * (len(ours) + len(theirs)) / (len(ours) * len(theirs)))
    return np.abs(first - second).max() <= bound


def independent(first, second):
    """Whether the correlation of two lists of numbers is no more than chance gives."""
    return abs(np.corrcoef(first, second)[0, 1]) < _SIGMAS / math.sqrt(len(first))
