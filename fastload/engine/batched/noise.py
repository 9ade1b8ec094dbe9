"""Random numbers for each pixel, from a counter and the two words that were drawn for an operation: the CPU engine's.

Integer arithmetic and float32 rounded once (see ``arithmetic.fma``), in the order of engine/cpu/kernels/noise.py, so
that every device finds the same numbers. (One sum in 2**28 may round another way: a noise of whole levels shows none.)
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from fastload.engine.batched.arithmetic import fma, per_sample, rounded

# Pixels of a plane are numbered over blocks of so many.
_BLOCK: Final = 64
_LOG_2_HIGH, _LOG_2_LOW, _QUARTER_TURN = (
    float(np.float32(number)) for number in (0.693359375, -2.12194440e-4, 1.5707963267948966)
)
_LOG, _SINE, _COSINE = (
    tuple(float(np.float32(number)) for number in numbers)
    for numbers in (
        (
            7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
            -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
        ),
        (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
        (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
    )
)  # fmt: skip
# Bits of the square root of a half.
_ROOT_HALF: Final = 0x3F3504F3

Keys = tuple[torch.Tensor, torch.Tensor]


def keys_of(words: torch.Tensor) -> Keys:
    """The two words of each sample, float64 (k, 2), as ``shares`` takes them: int32 (k,)."""
    first, second = words.long().to(torch.int32).unbind(1)
    return first, second


def shares(counters: torch.Tensor, keys: Keys) -> torch.Tensor:
    """Numbers of streams, multiples of 2**-24 above 0 and up to 1, float32.

    Args:
        counters: int32, which numbers (mod 2**32).
        keys: int32, of a shape that broadcasts with them.
    """
    number = counters
    for key in keys:
        number = number + key
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - (1 << 32))):
            number = (number ^ _shifted(number, shift)).mul_(factor)
        number = number ^ _shifted(number, 16)
    return _shifted(number, 8).add_(1).float().mul_(2.0**-24)


def _shifted(number: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 as if without a sign, divided by 2**bits."""
    return (number >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def normal_pairs(counters: torch.Tensor, keys: Keys) -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent normal numbers each, float32, from numbers 2 * counter and 2 * counter + 1 of streams."""
    # In float64, because torch's square root of float32 is off by a unit now and then (with MKL).
    radius = (_log(shares(2 * counters, keys)) * -2.0).double().sqrt_().float()
    turn = shares(2 * counters + 1, keys).mul_(4.0)
    quadrant = turn.round()
    x = (turn - quadrant) * _QUARTER_TURN
    z = x * x
    sine = fma(_polynomial(_SINE, z) * z, x, x)
    cosine = fma(_polynomial(_COSINE, z) * z, z, 1.0 - 0.5 * z)
    is_odd = (quadrant == 1.0) | (quadrant == 3.0)
    first, second = torch.where(is_odd, sine, cosine), torch.where(is_odd, cosine, sine)
    first = torch.where((quadrant == 1.0) | (quadrant == 2.0), -first, first)
    second = torch.where((quadrant == 2.0) | (quadrant == 3.0), -second, second)
    return first.mul_(radius), second.mul_(radius)


def _polynomial(factors: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    """By Horner, each step rounded once."""
    wide = x.double()
    total = torch.full_like(wide, factors[0])
    for factor in factors[1:]:
        total = rounded(total.mul_(wide).add_(factor))
    return total.float()


def _log(value: torch.Tensor) -> torch.Tensor:
    """The natural logarithm of float32 values above 0, as Cephes has it."""
    bits = value.view(torch.int32)
    exponent = (bits - _ROOT_HALF) >> 23
    f = (bits - (exponent << 23)).view(torch.float32) - 1.0
    e = exponent.float()
    square = f * f
    low = (e.double() * _LOG_2_LOW).add_((_polynomial(_LOG, f) * f * square).double()).float()
    # These products are exact in float32.
    return (f + (low - 0.5 * square)) + e * _LOG_2_HIGH


def add_noise(planes: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Planes, uint8 (k, 3, h, w), with normal noise, cut off to whole levels before; numbers: of Code.NOISE.

    The second number of a pair is for the pixel half a plane further on.
    """
    pixels = planes[0, 0].numel()
    half = -(-pixels // _BLOCK) * _BLOCK // 2
    counters = torch.arange(3 * half, dtype=torch.int32, device=planes.device).view(1, 3, half)
    key, key_2 = keys_of(numbers[:, 3:5])
    pair = normal_pairs(counters, (key.view(-1, 1, 1), key_2.view(-1, 1, 1)))
    normal = torch.cat(pair, 2)[:, :, :pixels].reshape(planes.shape)
    noise = fma(normal, per_sample(numbers[:, 1] * 255.0), per_sample(numbers[:, 0] * 255.0))
    total = noise.clamp_(-32767.0, 32767.0).trunc_().add_(planes)
    clip = numbers[:, 2].view(-1, 1, 1, 1) != 0.0
    return torch.where(clip, total.clamp(0.0, 255.0), total.remainder(256.0)).to(torch.uint8)
