"""Normal, gamma, beta and Dirichlet distributed numbers from random words, the same bits on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.portable import exp, ln

# From the number of a block to four random 32-bit words for each sample, uint64 (4, n): Drawing.words is one.
Words = Callable[[int], NDArray[np.uint64]]

# Blocks that one gamma variate may take. A try is turned down in less than 5 of 100 cases (Marsaglia and Tsang,
# table 1), so that 16 in a row are not seen in the lifetime of anybody; the mode is taken then.
GAMMA_BLOCKS: Final = 16

# Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics 37 (1988): the
# rational functions of PPND16 for the middle, the shoulders and the tails; highest power first.
_MIDDLE: Final = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.387132872796366608,
    ),
    (
        5226.495278852545925,
        28729.085735721942674,
        39307.89580009271061,
        21213.794301586595867,
        5394.1960214247511077,
        687.1870074920579083,
        42.313330701600911252,
        1.0,
    ),
)
_SHOULDER: Final = (
    (
        7.7454501427834140764e-4,
        0.0227238449892691845833,
        0.24178072517745061177,
        1.27045825245236838258,
        3.64784832476320460504,
        5.7694972214606914055,
        4.6303378461565452959,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.475938084995344946e-4,
        0.0151986665636164571966,
        0.14810397642748007459,
        0.68976733498510000455,
        1.6763848301838038494,
        2.05319162663775882187,
        1.0,
    ),
)
_TAIL: Final = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        0.0012426609473880784386,
        0.026532189526576123093,
        0.29656057182850489123,
        1.7848265399172913358,
        5.4637849111641143699,
        6.6579046435011037772,
    ),
    (
        2.04426310338993978564e-15,
        1.4215117583164458887e-7,
        1.8463183175100546818e-5,
        7.868691311456132591e-4,
        0.0148753612908506148525,
        0.13692988092273580531,
        0.59983220655588793769,
        1.0,
    ),
)


def normal(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Standard normal numbers, |x| <= 6.34, one for each 32-bit word; by inversion, so that one word is enough."""
    share = _open_uniform(words)
    from_middle = share - 0.5
    inner = 0.180625 - from_middle * from_middle
    depth = np.sqrt(-ln(np.minimum(share, 1.0 - share)))
    outer = np.where(depth <= 5.0, _ratio(_SHOULDER, depth - 1.6), _ratio(_TAIL, depth - 5.0))
    return np.where(inner >= 0.0, from_middle * _ratio(_MIDDLE, inner), np.copysign(outer, from_middle))


def beta(a: float, b: float, words: Words, first_block: int = 0) -> NDArray[np.float64]:
    """Numbers of the beta distribution, float64 (n,), in [0, 1]; as :func:`dirichlet` of (a, b), its first weights."""
    first: NDArray[np.float64] = dirichlet((a, b), words, first_block)[0]
    return first


def dirichlet(alphas: Sequence[float], words: Words, first_block: int = 0) -> NDArray[np.float64]:
    """Weights that add up to 1, float64 (k, n).

    Args:
        alphas: Parameters, k of them, each above 0.
        words: Random words of a block.
        first_block: Weight j takes blocks ``first_block + j * GAMMA_BLOCKS`` to ``... + GAMMA_BLOCKS - 1``.
    """
    logs = np.stack([_log_gamma(alpha, words, first_block + j * GAMMA_BLOCKS) for j, alpha in enumerate(alphas)])
    # Of small parameters the variates themselves may be below any float: their ratios are not.
    weights = exp(np.maximum(logs - logs.max(axis=0), -700.0))
    total = weights[0]
    for weight in weights[1:]:  # one after the other: how numpy's sum groups its terms depends on the machine
        total = total + weight
    return np.asarray(weights / total)


def _log_gamma(alpha: float, words: Words, first_block: int) -> NDArray[np.float64]:
    """Natural logarithms of gamma variates of shape ``alpha`` and scale 1.

    Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", ACM TOMS 26 (2000); each try takes a block:
    words 0 and 1 are its normal and its uniform number, word 2 raises a shape below 1 (their section 6).
    """
    shape = alpha if alpha >= 1.0 else alpha + 1.0
    middle = shape - 1.0 / 3.0
    spread = 1.0 / float(np.sqrt(9.0 * middle))
    block = words(first_block)
    boost = ln(_open_uniform(block[2])) / alpha if alpha < 1.0 else 0.0
    logs = np.zeros(block.shape[1])  # of the mode
    waiting = np.ones(block.shape[1], np.bool_)
    for number in range(GAMMA_BLOCKS):
        if number:
            block = words(first_block + number)
        x = normal(block[0])
        root = 1.0 + spread * x
        log_cube = 3.0 * ln(np.maximum(root, 1e-300))
        bound = 0.5 * x * x + middle * (1.0 - root * root * root + log_cube)
        taken = waiting & (root > 0.0) & (ln(_open_uniform(block[1])) < bound)
        logs = np.where(taken, log_cube, logs)
        waiting &= ~taken
        if not waiting.any():
            break
    constant = ln(np.array([middle]))[0]
    return np.asarray(logs + constant + boost)


def _open_uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """In (0, 1): the middle of each of 2**32 equal parts."""
    return np.asarray((words.astype(np.float64) + 0.5) * 2.0**-32)


def _ratio(terms: tuple[tuple[float, ...], tuple[float, ...]], values: NDArray[np.float64]) -> NDArray[np.float64]:
    above, below = (np.full_like(values, part[0]) for part in terms)
    for over, under in zip(terms[0][1:], terms[1][1:], strict=True):
        above = above * values + over
        below = below * values + under
    return np.asarray(above / below)
