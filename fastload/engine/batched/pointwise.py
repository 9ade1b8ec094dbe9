"""Operations that mix the channels of a pixel, on the planes of many images at once.

Float32 in the order of torchvision v2's functions for uint8 tensors, sums rounded once where its are: equal to them and
to the CPU engine bit for bit.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from fastload.engine.batched.arithmetic import as_levels, fma, per_sample, rounded, send
from fastload.engine.batched.tables import FROM_SHARE, TO_SHARE

_RED, _GREEN, _BLUE = (float(np.float32(weight)) for weight in (0.2989, 0.587, 0.114))
_SIXTH: Final = float(np.float32(1.0 / 6.0))
# Of value, falling, rising and floor: which red, green and blue are in each sixth of the circle of hues.
_SIXTHS: Final = ((0, 2, 3), (1, 0, 3), (3, 0, 2), (3, 1, 0), (2, 3, 0), (0, 3, 1))


def find_grey(planes: torch.Tensor) -> torch.Tensor:
    """The grey of each pixel, cut off: uint8 (k, h, w), from planes uint8 (k, 3, h, w)."""
    red, green, blue = planes.unbind(1)
    total = (red.float() * _RED).double()
    # Products of levels and float32 are exact in float64.
    total = rounded(total.add_(green.double(), alpha=_GREEN))
    return total.add_(blue.double(), alpha=_BLUE).float().to(torch.uint8)


def grayscale(planes: torch.Tensor) -> torch.Tensor:
    """Grey in all channels."""
    return find_grey(planes).unsqueeze(1).expand(planes.shape)


def saturation(planes: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """A blend with the grey of each pixel; factor: float64 (k,)."""
    grey = find_grey(planes).unsqueeze(1)
    return as_levels(fma(grey, per_sample(1.0 - factor), planes.float() * per_sample(factor)))


def permute(planes: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Channels in another order; order: float64 (k, 3), which old channel each new one is."""
    return planes.gather(1, order.long().view(-1, 3, 1, 1).expand(planes.shape))


def color_matrix(planes: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """matrix @ (r, g, b, 1), cut off; matrix: float64 (k, 12), row by row."""
    factors = matrix.float().view(-1, 3, 4, 1, 1)
    total = factors[:, :, 3]
    for channel in range(3):
        total = fma(factors[:, :, channel], planes[:, channel : channel + 1], total)
    return as_levels(total)


def hue(planes: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """RGB to HSV, the hue moved by a share of the circle, and back; shift: float64 (k,)."""
    shares = planes.float() * float(TO_SHARE)
    red, green, blue = shares.unbind(1)
    value, least = shares.amax(1), shares.amin(1)
    turn, amount = _find_hue(red, green, blue, value, least)
    turn = (turn - turn.floor()).add_(shift.float().view(-1, 1, 1))
    turn = turn - turn.trunc()
    turn = torch.where(turn < 0.0, turn + 1.0, turn) * 6.0
    sector = turn.floor()
    part = amount * (turn - sector)
    rest = 1.0 - amount
    falling = ((1.0 - part) * value).clamp_(0.0, 1.0)
    rising = ((part + rest) * value).clamp_(0.0, 1.0)
    levels = (torch.stack((value, falling, rising, (rest * value).clamp_(0.0, 1.0)), 1) * float(FROM_SHARE)).byte()
    which = send(np.array(_SIXTHS), planes.device)[sector.long() % 6].permute(0, 3, 1, 2)
    return levels.gather(1, which)


def _find_hue(
    red: torch.Tensor, green: torch.Tensor, blue: torch.Tensor, value: torch.Tensor, least: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The hue, 0 to 1 and 1 more, and the saturation of each pixel."""
    extent = value - least
    is_grey, is_red, is_green = value == least, value == red, value == green
    amount = extent / value.masked_fill(is_grey, 1.0)
    divisor = extent.masked_fill(is_grey, 1.0)
    # Of torchvision's three quotients only two are ever used.
    first = (value - torch.where(is_red, blue, torch.where(is_green, red, green))) / divisor
    second = (value - torch.where(is_red, green, torch.where(is_green, blue, red))) / divisor
    begin = (~is_red).float() * (4.0 - 2.0 * is_green.float())
    return ((first + begin) - second) * _SIXTH + 1.0, amount
