"""Draws a group of a stored run as an SVG of a few kilobytes: bars of CPU time per image, for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH = 720
_MARGIN = 20
_ROW = 28
_BAR = 18
_NAMES = 250  # width of the column of names
_VALUES = 120  # what the longest bar leaves for the figures behind it
_HEADING = 74
_SECTION = 34
# A card of its own: a page whose theme differs from the reader's system would leave dark text on dark ground.
_STYLE = """
text { font: 15px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: #1f2328; }
.heading { font-size: 18px; font-weight: 600; }
.quiet { fill: #59636e; }
.small { font-size: 13px; }
.ours { font-weight: 600; }
.card { fill: #ffffff; stroke: #d1d9e0; }
.bar { fill: #afb8c1; }
.bar.ours { fill: #12875c; }
.range { stroke: #59636e; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .quiet { fill: #9198a1; }
  .card { fill: #0d1117; stroke: #3d444d; }
  .bar { fill: #565f69; }
  .bar.ours { fill: #2ea67a; }
  .range { stroke: #9198a1; }
}"""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One loader: its median, lowest and highest round, and how many times the reference's median that is."""

    name: str
    ours: bool
    median: float
    low: float
    high: float
    ratio: float | None


def draw(heading: str, subtitle: str, sections: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """The SVG's text.

    Args:
        heading: What the bars are.
        subtitle: The conditions, in one short line.
        sections: (Title, bars); all share one scale that starts at zero.
    """
    longest = max(bar.high for _, bars in sections for bar in bars)
    scale = (_WIDTH - 2 * _MARGIN - _NAMES - _VALUES) / longest
    parts = [_text(_MARGIN, 34, heading, "heading"), _text(_MARGIN, 57, subtitle, "quiet small")]
    y = _HEADING
    for title, bars in sections:
        parts.append(_text(_MARGIN, y + 20, title, "quiet small"))
        y += _SECTION
        for bar in bars:
            parts += _row(bar, y, scale)
            y += _ROW
    height = y + _MARGIN - 8
    card = f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>'
    described = f"{heading}. {subtitle}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img">',
            f"<title>{escape(described)}</title>",
            f"<style>{_STYLE}\n</style>",
            card,
            *parts,
            "</svg>\n",
        ]
    )


def _row(bar: Bar, y: int, scale: float) -> list[str]:
    zero, middle, base = _MARGIN + _NAMES, y + _BAR / 2, y + _BAR - 4
    whose = " ours" if bar.ours else ""
    ends = zero + bar.low * scale, zero + bar.high * scale
    after = f"{bar.median:.2f}"
    if bar.ratio is not None:
        after += f'<tspan class="quiet" dx="10">{bar.ratio:.1f} x</tspan>'
    return [
        _text(zero - 10, base, bar.name, f"name{whose}", ' text-anchor="end"'),
        f'<rect class="bar{whose}" x="{zero}" y="{y}" width="{bar.median * scale:.1f}" height="{_BAR}" rx="2"/>',
        f'<line class="range" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text class="{whose.strip()}" x="{ends[1] + 10:.1f}" y="{base}">{after}</text>',
    ]


def _text(x: float, y: float, text: str, style: str, more: str = "") -> str:
    return f'<text class="{style}" x="{x}" y="{y}"{more}>{escape(text)}</text>'
