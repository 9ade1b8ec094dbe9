"""Charts as inline SVG and HTML: histograms with axes and units, a curve over classes, bars of shares."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Final

from fastload.inspect.distribution import Distribution, round_step
from fastload.inspect.numbers import count, digits, percent, quantity, size

_WIDTH: Final = 340
_HEIGHT: Final = 190
_LEFT: Final = 44
_RIGHT: Final = 14
_TOP: Final = 22
_BOTTOM: Final = 26


def escape(text: object) -> str:
    """Any text as HTML, in an element or in a quoted attribute; what is no character of Unicode is spelt out."""
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode(), quote=True)


def histogram(title: str, values: Distribution, noun: str = "image") -> str:
    """How many images, or what ``noun`` says, have which value, with a line at the median.

    It scales with its box; text is 11 pixels at 340.
    """
    if values.minimum == values.maximum:
        all_of_them = f"{quantity(values.median, values.unit)} in {count(values.images, noun)}"
        return f'<p class="same">{escape(all_of_them)}<small>all the same</small></p>'
    low, high = values.edges[0], values.edges[-1]
    most = max(values.counts)
    across = _Axis(low, high, _LEFT, _WIDTH - _RIGHT)
    down = _Axis(0, most, _HEIGHT - _BOTTOM, _TOP)
    parts = [*_grid(down, most), *_ticks(across, values.unit)]
    for number, (begin, end) in zip(values.counts, zip(values.edges, values.edges[1:], strict=False), strict=True):
        if number:
            left, right, top = across(begin), across(end), min(down(number), _HEIGHT - _BOTTOM - 1.0)
            last = values.open_end and end == high
            span = f"from {quantity(begin, values.unit)}" + ("" if last else f" to {quantity(end, values.unit)}")
            parts.append(
                f'<rect class="bar" x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(right - left - 1, 1):.1f}" '
                f'height="{_HEIGHT - _BOTTOM - top:.1f}"><title>{escape(span)}: {count(number, noun)}</title></rect>'
            )
    middle = across(min(max(values.median, low), high))
    anchor = "end" if middle > _WIDTH * 0.6 else "start"
    shift = -4 if anchor == "end" else 4
    parts.append(
        f'<line class="median" x1="{middle:.1f}" x2="{middle:.1f}" y1="{_TOP - 8}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="strong" x="{middle + shift:.1f}" y="{_TOP - 8}" text-anchor="{anchor}">'
        f"median {escape(quantity(values.median, values.unit))}</text>"
    )
    extremes = f"{quantity(values.minimum, values.unit)} to {quantity(values.maximum, values.unit)}"
    label = f"{title} of {count(values.images, noun)}: {extremes}, median {quantity(values.median, values.unit)}"
    return _svg(label, parts)


def class_curve(counts: Sequence[int]) -> str:
    """Samples of each class, the largest class first, as a filled curve."""
    ordered = sorted(counts, reverse=True)
    across = _Axis(0, len(ordered), _LEFT, _WIDTH - _RIGHT)
    down = _Axis(0, max(ordered[0], 1), _HEIGHT - _BOTTOM, _TOP)
    points = [f"{across(0):.1f},{_HEIGHT - _BOTTOM}"]
    # A step where the number changes: a curve of 1,000 equal classes is four points.
    for place, number in enumerate(ordered):
        if place == 0 or number != ordered[place - 1]:
            if place:
                points.append(f"{across(place):.1f},{down(ordered[place - 1]):.1f}")
            points.append(f"{across(place):.1f},{down(number):.1f}")
    points += [f"{across(len(ordered)):.1f},{down(ordered[-1]):.1f}", f"{_WIDTH - _RIGHT},{_HEIGHT - _BOTTOM}"]
    parts = [*_grid(down, max(ordered[0], 1)), f'<polygon class="bar" points="{" ".join(points)}"/>']
    parts += _ticks(across, "")
    label = f"Samples of {len(ordered):,} classes, largest first: from {ordered[0]:,} down to {ordered[-1]:,}"
    return _svg(label, parts)


def bars(rows: Sequence[tuple[str, int]], whole: int | None = None, *, most: int | None = None) -> str:
    """Horizontal bars, each with its name and number; with ``whole`` also its share of that.

    The longest bar is ``whole``, or ``most``, or the largest number.
    """
    longest = whole or most or max((number for _, number in rows), default=1) or 1
    items = []
    for name, number in rows:
        share = f" <small>{percent(number / whole)}</small>" if whole else ""
        width = f'<span style="width:{100 * number / longest:.2f}%"></span>' if number else ""
        items.append(
            f'<li><span class="name">{escape(name)}</span><span class="track" aria-hidden="true">{width}</span>'
            f'<span class="value">{number:,}{share}</span></li>'
        )
    return f'<ul class="bars">{"".join(items)}</ul>'


def shares(counts: Mapping[str, int], names: Mapping[str, str] | None = None) -> str:
    """Bars of a counter whose numbers add up to the whole."""
    return bars([((names or {}).get(name, name), number) for name, number in counts.items()], sum(counts.values()))


class _Axis:
    """From values to positions."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1
        self._begin, self._scale = begin, (end - begin) / (self.high - low)

    def __call__(self, value: float) -> float:
        return self._begin + (value - self.low) * self._scale


def _grid(down: _Axis, most: int) -> list[str]:
    """Lines at about four round numbers of images."""
    step = max(round_step(most / 4), 1.0)
    lines = []
    for number in range(int(most // step) + 1):
        y = down(number * step)
        name = "axis" if number == 0 else "grid"
        lines.append(f'<line class="{name}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = _brief(number * step)
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return lines


def _ticks(across: _Axis, unit: str) -> list[str]:
    """Four or so round values below the axis, the last one with the unit."""
    step = round_step((across.high - across.low) / 4)
    first = math.ceil(across.low / step - 1e-9)
    values = [number * step for number in range(first, math.floor(across.high / step + 1e-9) + 1)]
    texts = []
    for place, value in enumerate(values):
        last = place == len(values) - 1
        text = (
            "0"
            if not value
            else size(value)
            if unit == "bytes"
            else digits(value) + (f" {unit}" if last and unit else "")
        )
        x = across(value)
        anchor = "end" if x > _WIDTH - 2 * _RIGHT else "middle"
        x = min(x, _WIDTH - 2.0)
        texts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{escape(text)}</text>')
    return texts


def _brief(number: float) -> str:
    return (
        f"{digits(number / 1e6)}M"
        if number >= 1e6
        else f"{digits(number / 1e3)}k"
        if number >= 1e4
        else f"{number:,.0f}"
    )


def _svg(label: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
