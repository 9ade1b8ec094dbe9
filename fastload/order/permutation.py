"""A keyed permutation of range(n), computed for any positions on demand, in constant memory."""

from __future__ import annotations

import functools
import hashlib
import math
import operator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastload.errors import ConfigError

Key = tuple[int | str, ...]

# The bias of one round is at most side / 2**32, and sides are near sqrt(n).
MAX_LENGTH: Final = 2**48

# Exact enumeration on the smallest grids (2 x 2, 2 x 3): the largest relative deviation of any permutation's
# probability from 1 / n! halves with every round (n = 4) or every two (n = 6). On larger grids what is left of the
# dependence of a pair shrinks about by the shorter side in two rounds. These counts leave less than 1e-4 at n = 6 and
# 1e-6 from n = 65 on. (Length up to, rounds; all even.)
_ROUNDS: Final = ((64, 32), (4096, 16), (MAX_LENGTH, 8))

_MASK64: Final = 2**64 - 1
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_S27: Final = np.uint64(27)
_S30: Final = np.uint64(30)
_S32: Final = np.uint64(32)


def permute(indices: ArrayLike, n: int, key: Key) -> NDArray[np.int64]:
    """Where each of ``indices`` goes under the permutation of range(n) that ``key`` chooses.

    A generalised Feistel network on the grid Z_a x Z_b that is just large enough for n (J. Black and P. Rogaway,
    "Ciphers with Arbitrary Finite Domains", CT-RSA 2002): rounds add a keyed hash of one coordinate to the other, in
    turn; an index that lands outside range(n) is sent through again until it is inside. ``a`` is even, so that odd
    permutations are reached too. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over the
    coordinate xor a round key; round keys come from SHAKE-128 of the key. It is statistically good, not a cipher.

    Args:
        indices: Integers in [0, n), any shape.
        n: Length, 1 <= n <= 2**48.
        key: Any integers and strings, such as ``(seed, epoch, "samples")``.

    Returns:
        int64, shape of indices. All integer arithmetic is exact: equal on every machine.

    Raises:
        ConfigError: n or an index is out of range.
    """
    return _walk(indices, n, key, forward=True)


def unpermute(indices: ArrayLike, n: int, key: Key) -> NDArray[np.int64]:
    """The inverse of :func:`permute`: ``unpermute(permute(i, n, key), n, key) == i``."""
    return _walk(indices, n, key, forward=False)


def _walk(indices: ArrayLike, n: int, key: Key, *, forward: bool) -> NDArray[np.int64]:
    if not 1 <= n <= MAX_LENGTH:
        raise ConfigError(f"a permutation needs a length between 1 and 2**48, but got {n}")
    start = np.asarray(indices, dtype=np.int64)
    if start.size and (start.min() < 0 or start.max() >= n):
        raise ConfigError(f"indices of a permutation of range({n}) must lie in it, but they span {_span(start)}")
    side_a, side_b = _grid(n)
    keys = round_keys(key, next(rounds for length, rounds in _ROUNDS if n <= length))
    network = _forward if forward else _backward
    out = network(start.astype(np.uint64).ravel(), side_a, side_b, keys)
    length = np.uint64(n)
    outside = np.flatnonzero(out >= length)
    while outside.size:  # about sqrt(n) of the a * b cells lie outside: one more pass is rare, two are very rare
        out[outside] = network(out[outside], side_a, side_b, keys)
        outside = outside[out[outside] >= length]
    return out.astype(np.int64).reshape(start.shape)


def _span(values: NDArray[np.int64]) -> str:
    return f"{int(values.min())} to {int(values.max())}"


def _grid(n: int) -> tuple[np.uint64, np.uint64]:
    """Sides of the smallest near-square grid of at least n cells whose first side is even."""
    side_a = max(2, math.isqrt(n - 1) + 1)
    side_a += side_a % 2
    return np.uint64(side_a), np.uint64(-(-n // side_a))


@functools.lru_cache(maxsize=256)
def round_keys(key: Key, count: int) -> tuple[np.uint64, ...]:
    """``count`` independent 64-bit words for ``key``, the same on every machine and version of Python."""
    # Whole numbers of any type (numpy's too) count by their value, and 1 is not "1".
    text = "\0".join(f"s{part}" if isinstance(part, str) else f"i{operator.index(part)}" for part in key)
    digest = hashlib.shake_128(text.encode()).digest(8 * count)
    return tuple(np.uint64(int.from_bytes(digest[i : i + 8], "little") & _MASK64) for i in range(0, 8 * count, 8))


def _hash_below(coordinate: NDArray[np.uint64], key: np.uint64, side: np.uint64) -> NDArray[np.uint64]:
    """A keyed hash of each coordinate, in [0, side)."""
    word = coordinate ^ key
    word ^= word >> _S30
    word *= _MIX_1
    word ^= word >> _S27
    word *= _MIX_2
    word >>= _S32  # the top half is the best mixed; scaling it by multiplication needs no division
    word *= side
    word >>= _S32
    return word


def _forward(
    cells: NDArray[np.uint64], side_a: np.uint64, side_b: np.uint64, keys: tuple[np.uint64, ...]
) -> NDArray[np.uint64]:
    moved, fixed = np.divmod(cells, side_b)
    side_moved, side_fixed = side_a, side_b
    for key in keys:
        moved += _hash_below(fixed, key, side_moved)
        # Unsigned wrap-around: the difference is huge exactly where the sum was below the side.
        np.minimum(moved, moved - side_moved, out=moved)
        moved, fixed = fixed, moved
        side_moved, side_fixed = side_fixed, side_moved
    # The number of rounds is even: the coordinates are back in their places.
    return moved * side_b + fixed


def _backward(
    cells: NDArray[np.uint64], side_a: np.uint64, side_b: np.uint64, keys: tuple[np.uint64, ...]
) -> NDArray[np.uint64]:
    moved, fixed = np.divmod(cells, side_b)
    side_moved, side_fixed = side_a, side_b
    for key in reversed(keys):
        moved, fixed = fixed, moved
        side_moved, side_fixed = side_fixed, side_moved
        moved -= _hash_below(fixed, key, side_moved)
        np.minimum(moved, moved + side_moved, out=moved)
    return moved * side_b + fixed
