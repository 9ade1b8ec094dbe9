"""Numbers as people read them: thousands, bytes, shares, and values with their units."""

from __future__ import annotations

import math


def count(number: int, noun: str = "") -> str:
    """``1,281,167``, or with a noun ``1 image`` and ``3 images``."""
    if not noun:
        return f"{number:,}"
    plural = f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def percent(share: float) -> str:
    """``41%``; what is less than a whole percent, or lacks less than one, is not rounded to 0 or 100."""
    if 0 < share < 0.01:
        return "under 1%"
    if 0.99 < share < 1:
        return "over 99%"
    return f"{100 * share:.0f}%"


def size(num_bytes: float) -> str:
    """Decimal units with three digits: ``114 kB``, ``1.38 GB``."""
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    power = min(int(math.log10(num_bytes) / 3 + 1e-12), 5)
    return f"{digits(num_bytes / 1000**power)} {'B kB MB GB TB PB'.split()[power]}"


def digits(value: float, significant: int = 3) -> str:
    """A number with about three digits that count, and thousands set apart: ``0.43``, ``12.5``, ``1,280``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantity(value: float, unit: str) -> str:
    """A value with its unit, as Distribution names it."""
    if unit == "bytes":
        return size(value)
    return f"{digits(value)} {unit}".rstrip()
