"""Random numbers as a pure function of (seed, epoch, sample, transform, draw): Philox4x32-10 over arrays."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastload.errors import ConfigError

_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
_ROUNDS: Final = 10
_MASK32: Final = 0xFFFFFFFF


def philox4x32(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).

    Args:
        counter: uint64 (4, ...), four 32-bit words each.
        key: Two 32-bit words.

    Returns:
        uint64 (4, ...): four random 32-bit words for each counter. Integer arithmetic only: equal on every machine.
    """
    # Words 0 and 2 are multiplied, words 1 and 3 are not: as two arrays of two, half as many calls of numpy.
    column = (2,) + (1,) * (counter.ndim - 1)
    multipliers = np.array(_MULTIPLIERS, dtype=np.uint64).reshape(column)
    keys = np.array(_round_keys(key), dtype=np.uint64).reshape(_ROUNDS, *column)
    mask, shift = np.uint64(_MASK32), np.uint64(32)
    even, odd = counter[0::2], counter[1::2]
    for round_key in keys:
        product = even * multipliers
        high = product >> shift
        even = high[::-1] ^ odd
        even ^= round_key
        product &= mask
        odd = product[::-1]
    return np.stack((even[0], odd[0], even[1], odd[1]))


def _round_keys(key: tuple[int, int]) -> list[tuple[int, int]]:
    return [((key[0] + i * _KEY_STEPS[0]) & _MASK32, (key[1] + i * _KEY_STEPS[1]) & _MASK32) for i in range(_ROUNDS)]


def check_stream(seed: int, epoch: int) -> None:
    """Raises ConfigError unless 0 <= seed < 2**64 and 0 <= epoch < 2**32."""
    if not 0 <= seed < 2**64:
        raise ConfigError(f"a seed must lie between 0 and 2**64 - 1, but got {seed}")
    if not 0 <= epoch < 2**32:
        raise ConfigError(f"an epoch must lie between 0 and 2**32 - 1, but got {epoch}")


def random_words(
    ids: NDArray[np.int64], *, seed: int, epoch: int, transform: ArrayLike, block: ArrayLike = 0
) -> NDArray[np.uint64]:
    """Four random 32-bit words for each sample.

    The seed is Philox's key; sample id (64 bits), epoch (32), transform (16) and block (16) fill its counter, so that
    no two of them share a stream.

    Args:
        ids: Sample numbers, any shape.
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        transform: Number of the random transform in its chain, below 2**16; any shape that broadcasts with ids.
        block: Number of the draw, below 2**16; any shape that broadcasts with ids.

    Returns:
        uint64 (4, ...), each below 2**32.

    Raises:
        ConfigError: seed or epoch is out of range.
    """
    check_stream(seed, epoch)
    samples = np.asarray(ids).astype(np.uint64)
    streams = (np.asarray(transform, dtype=np.uint64) << np.uint64(16)) | np.asarray(block, dtype=np.uint64)
    counter = np.empty((4, *np.broadcast_shapes(samples.shape, streams.shape)), dtype=np.uint64)
    counter[0] = samples & np.uint64(_MASK32)
    counter[1] = samples >> np.uint64(32)
    counter[2] = epoch
    counter[3] = streams
    return philox4x32(counter, (int(seed) & _MASK32, int(seed) >> 32))


def streams(ids: NDArray[np.int64], repeats: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Numbers that draws belong to, in place of sample numbers (below 2**48) where samples come several times."""
    return ids if repeats is None else ids + (repeats << 48)


def uniform(words: NDArray[np.uint64], low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
    """Numbers in [low, high) with 32 random bits each (torchvision's have 24), from words of :func:`random_words`."""
    return low + (high - low) * (words.astype(np.float64) * 2.0**-32)


def integers(words: NDArray[np.uint64], high: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers in [0, high) from words of :func:`random_words`, 1 <= high <= 2**32.

    By multiplication (Lemire, "Fast Random Integer Generation in an Interval", 2019) without rejection: no value is
    more likely than another by more than a share of high / 2**32, which is 1.5e-5 for an image 65,535 pixels wide.
    """
    bound: NDArray[np.uint64] = np.asarray(high).astype(np.uint64)
    scaled: NDArray[np.uint64] = np.asarray(words * bound >> np.uint64(32))
    return scaled.astype(np.int64)
