"""Charts as XML, and numbers as people read them."""

from xml.etree import ElementTree

import numpy as np
import pytest

from fastload.inspect.charts import bars, class_curve, escape, histogram
from fastload.inspect.distribution import describe
from fastload.inspect.numbers import count, digits, percent, quantity, size


def test_bars_of_a_histogram_are_as_high_as_their_counts():
    values = np.random.default_rng(1).normal(500, 80, 3000)
    shown = describe(values, "px", exact=True)
    svg = ElementTree.fromstring(histogram("Width", shown))
    rectangles = [node for node in svg if node.get("class") == "bar"]
    heights = np.array([float(node.get("height")) for node in rectangles])
    counts = np.array([number for number in shown.counts if number])
    assert len(heights) == len(counts)
    tall = counts > 0.02 * counts.max()  # the lowest are one unit high, so that they are seen
    assert heights[tall] / heights.max() == pytest.approx(counts[tall] / counts.max(), abs=0.01)
    texts = [node.text for node in svg if node.tag == "text"]
    assert any(text.endswith(" px") for text in texts)
    assert f"median {quantity(shown.median, 'px')}" in texts
    assert "3,000 images" in svg.get("aria-label")


def test_what_is_the_same_for_all_is_said_and_not_drawn():
    text = histogram("Width", describe([224] * 7, "px", exact=True))
    assert "224 px in 7 images" in text
    assert "<svg" not in text


def test_the_curve_of_classes_falls_from_the_largest_to_the_smallest():
    svg = ElementTree.fromstring(class_curve([5, 100, 20, 20]))
    polygon = next(node for node in svg if node.get("class") == "bar")
    heights = [float(point.split(",")[1]) for point in polygon.get("points").split()]
    assert heights[1:-1] == sorted(heights[1:-1])
    assert svg.get("aria-label").endswith("from 100 down to 5")


def test_bars_are_shares_of_the_whole():
    rows = ElementTree.fromstring(bars([("<a>", 30), ("b", 10), ("none", 0)], 40))
    texts = ["".join(row.itertext()) for row in rows]
    assert texts == ["<a>30 75%", "b10 25%", "none0 0%"]
    assert 'width:75.00%"' in bars([("<a>", 30)], 40)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (size(999), "999 B"),
        (size(114_000), "114 kB"),
        (size(1.381e9), "1.38 GB"),
        (digits(0.4339), "0.434"),
        (digits(1280), "1,280"),
        (digits(12.0), "12"),
        (digits(0), "0"),
        (percent(0.004), "under 1%"),
        (percent(0.999), "over 99%"),
        (percent(0.41), "41%"),
        (count(1, "image"), "1 image"),
        (count(2000, "box"), "2,000 boxes"),
        (quantity(2.5, ""), "2.5"),
        (quantity(2500, "bytes"), "2.5 kB"),
    ],
)
def test_numbers(shown, expected):
    assert shown == expected


def test_names_that_are_no_unicode_can_be_written():
    assert escape("caf\udce9 <b>").encode("utf-8") == b"caf\\udce9 &lt;b&gt;"
