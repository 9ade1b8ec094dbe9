"""Logarithm, exponential, sine and cosine that give the same bits on every machine, which libraries do not promise."""

from __future__ import annotations

import decimal
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

# ln 2 in two parts; the first has 32 trailing zero bits, so that its product with a small whole number is exact.
_LN2_HIGH: Final = float.fromhex("0x1.62e42feep-1")
_LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
_PER_LN2: Final = float.fromhex("0x1.71547652b82fep+0")
_TERMS: Final = tuple(1.0 / math.factorial(power) for power in range(13, -1, -1))
_SQRT_HALF: Final = float.fromhex("0x1.6a09e667f3bcdp-1")
_DEGREE: Final = float.fromhex("0x1.1df46a2529d39p-6")
_SINE_TERMS: Final = tuple((-1) ** (power // 2) / math.factorial(power) for power in range(17, 0, -2))
_COSINE_TERMS: Final = tuple((-1) ** (power // 2) / math.factorial(power) for power in range(18, -1, -2))
_ATANH_TERMS: Final = tuple(1.0 / power for power in range(23, 0, -2))


def log(value: float) -> float:
    """The natural logarithm, correctly rounded (decimal arithmetic; for constants, not for loops)."""
    with decimal.localcontext() as context:
        context.prec = 40
        return float(decimal.Decimal(value).ln())


def exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """e to the power of each value, |value| < 700, to about one unit in the last place.

    numpy's own takes another path on each kind of processor. This one is a Taylor sum of additions and multiplications,
    which IEEE 754 defines to the bit; the first term left out is below 1e-17 on |rest| <= ln(2) / 2.
    """
    exponent = np.rint(values * _PER_LN2)
    rest = (values - exponent * _LN2_HIGH) - exponent * _LN2_LOW
    total = np.full_like(rest, _TERMS[0])
    for term in _TERMS[1:]:
        total *= rest
        total += term
    return np.ldexp(total, exponent.astype(np.int32))


def ln(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm of each value, finite and above 0, to about one unit in the last place, as :func:`exp`.

    The series of the inverse hyperbolic tangent: with the mantissa in [sqrt(1/2), sqrt(2)) its argument is at most
    0.172, and the first term left out is below 1e-18.
    """
    mantissa, exponent = np.frexp(values)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = (exponent - low).astype(np.float64)
    part = (mantissa - 1.0) / (mantissa + 1.0)
    square = part * part
    total = np.full_like(square, _ATANH_TERMS[0])
    for term in _ATANH_TERMS[1:]:
        total *= square
        total += term
    return exponent * _LN2_HIGH + (2.0 * part * total + exponent * _LN2_LOW)


def sin_cos(degrees: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine of each angle in degrees, |angle| < 1e6, to about one unit in the last place; exact at 90s.

    Taylor sums on at most 45 degrees; the first terms left out are below 1e-19 and 1e-20.
    """
    quarter = np.rint(degrees / 90.0)
    angle = (degrees - quarter * 90.0) * _DEGREE
    square = angle * angle
    sine, cosine = np.full_like(square, _SINE_TERMS[0]), np.full_like(square, _COSINE_TERMS[0])
    for term in _SINE_TERMS[1:]:
        sine = sine * square + term
    for term in _COSINE_TERMS[1:]:
        cosine = cosine * square + term
    sine = sine * angle
    turn = quarter.astype(np.int64) % 4
    odd = turn % 2 == 1
    first, second = np.where(odd, cosine, sine), np.where(odd, sine, cosine)
    # Adding 0 turns a minus zero into zero.
    return np.where(turn >= 2, -first, first) + 0.0, np.where((turn == 1) | (turn == 2), -second, second) + 0.0
