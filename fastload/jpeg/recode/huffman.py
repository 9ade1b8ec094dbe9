"""The Huffman tables that code given symbols in the fewest bits, by Annex K.2 of the JPEG standard."""

from __future__ import annotations

import numpy as np

from fastload.jit import inlined, kernel
from fastload.jpeg.intrinsics import Word


@inlined
def _assign(sizes: Word, numbers: Word, lengths: Word, symbols: Word, codes: Word) -> Word:
    """Gives codes to the symbols, the shortest to those whose ``sizes`` are least; returns how many there are."""
    count = np.int64(0)
    for size in range(1, 257):
        for symbol in range(256):
            if sizes[symbol] == size:
                symbols[count] = symbol
                count += 1
    codes[:] = 0
    code, number = np.int64(0), np.int64(0)
    for length in range(1, 17):
        lengths[length - 1] = numbers[length]
        for _ in range(numbers[length]):
            codes[np.int64(symbols[number])] = code << 5 | length
            code += 1
            number += 1
        code <<= 1
    return count


@kernel
def make_table(counts: Word, lengths: Word, symbols: Word, codes: Word) -> Word:
    """Makes the best table whose codes have at most 16 bits, none of them all ones.

    Args:
        counts: int64 (257,), how often each symbol occurs; overwritten.
        lengths: uint8 (16,), out: codes of 1 to 16 bits.
        symbols: uint8 (256,), out: the symbols in the order of their codes.
        codes: int64 (256,), out: code << 5 | bits of each symbol that occurs, 0 for the others.

    Returns:
        How many symbols there are; -1 for arrays of other sizes.
    """
    if counts.size != 257 or lengths.size != 16 or symbols.size != 256 or codes.size != 256:
        return np.int64(-1)
    sizes = np.zeros(257, np.int64)
    others = np.full(257, -1, np.int64)
    counts[256] = 1  # takes the code of all ones, the last one, and is left out
    while True:
        least, second = np.int64(-1), np.int64(-1)
        for i in range(257):
            if counts[i] > 0:
                if least < 0 or counts[i] <= counts[least]:
                    least, second = i, least
                elif second < 0 or counts[i] <= counts[second]:
                    second = i
        if second < 0:
            break
        counts[least] += counts[second]
        counts[second] = 0
        at = least
        sizes[at] += 1
        while others[at] >= 0:
            at = others[at]
            sizes[at] += 1
        others[at] = second
        at = second
        sizes[at] += 1
        while others[at] >= 0:
            at = others[at]
            sizes[at] += 1
    numbers = np.zeros(258, np.int64)
    for i in range(257):
        numbers[sizes[i]] += 1
    longest = np.int64(257)
    while longest > 16:
        if numbers[longest] == 0:
            longest -= 1
            continue
        # Two codes that are too long become one that is a bit shorter, and another one gives way to two.
        shorter = longest - 2
        while numbers[shorter] == 0:
            shorter -= 1
        numbers[longest] -= 2
        numbers[longest - 1] += 1
        numbers[shorter + 1] += 2
        numbers[shorter] -= 1
    while numbers[longest] == 0:
        longest -= 1
    numbers[longest] -= 1
    return _assign(sizes, numbers, lengths, symbols, codes)
