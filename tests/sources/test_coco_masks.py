"""Polygons and run lengths become the very pixels that pycocotools makes of them."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fastload.errors import DataError
from fastload.sources.coco_masks import instance_mask

# pycocotools 2.0.11 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def polygons(seed, height, width):
    """Outlines as people draw them and as nobody should: whole, broken, beyond the edges, without an area."""
    rng = np.random.default_rng(seed)
    for corners in (3, 4, 7, 40):
        yield (rng.random((corners, 2)) * [width, height]).round(2).ravel().tolist()
        yield (rng.random((corners, 2)) * [width, height] * 1.5 - 0.25 * height).round(1).ravel().tolist()
        yield rng.integers(0, min(height, width), 2 * corners).tolist()
    yield [5.0, 5.0] * 3
    yield [1, 1, 30, 1, 1, 1]
    yield [0, 0, width, 0, width, height, 0, height]
    yield [-9.5, -9.5, -3, -9.5, -3, -3]


@pytest.mark.parametrize(("height", "width"), [(37, 53), (64, 48), (1, 9), (200, 3)])
def test_polygons_as_pycocotools_fills_them(height, width):
    mask = pytest.importorskip("pycocotools.mask")
    filled = 0
    for seed in range(25):
        for polygon in polygons(seed, height, width):
            expected = mask.decode(mask.frPyObjects([polygon], height, width))[:, :, 0]
            found = instance_mask([[polygon]], [1.0], height, width)
            assert found.dtype == np.uint8
            assert np.array_equal(found, expected), polygon
            filled += int(expected.sum())
    assert filled > 100


def test_run_lengths_as_pycocotools_reads_them():
    mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(3)
    for density in (0.0, 0.01, 0.5, 1.0):
        for height, width in ((31, 17), (400, 300), (1, 1)):
            values = np.asfortranarray(rng.random((height, width)) < density, np.uint8)
            compressed = mask.encode(values)["counts"].decode()
            runs = uncompressed(values)
            assert (
                mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"].decode()
                == compressed
            )
            for counts in (compressed, runs):
                segmentation = {"size": [height, width], "counts": counts}
                assert np.array_equal(instance_mask([segmentation], [1.0], height, width), values)


def uncompressed(values):
    """Run lengths down the columns, zeros first."""
    flat = np.concatenate([[0], values.ravel(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat)) if flat[1] == 0 else np.flatnonzero(np.diff(flat[1:])) + 1
    runs = np.diff(np.concatenate([[0], edges])).tolist()
    return runs if flat[1] == 0 else [0, *runs]


def test_a_polygon_is_where_pillow_draws_it():
    """Without pycocotools: the same area but for the pixels of the outline."""
    polygon = [10.5, 8.0, 90.0, 20.0, 70.5, 75.0, 20.0, 60.0]
    drawn = Image.new("L", (100, 80))
    ImageDraw.Draw(drawn).polygon([tuple(polygon[i : i + 2]) for i in range(0, 8, 2)], fill=1)
    found = instance_mask([[polygon]], [1.0], 80, 100)
    assert 0 < np.count_nonzero(found != np.array(drawn)) < 250
    assert found.sum() > 3000


@pytest.mark.parametrize("counts", [[2, 2, 1, 1], "221O"])
def test_known_runs_without_pycocotools(counts):
    """Down the columns: two zeros, two ones, a zero, a one; as a string the last is one less than the last but one."""
    mask = instance_mask([{"size": [2, 3], "counts": counts}], [1], 2, 3)
    assert mask.tolist() == [[0, 1, 0], [0, 1, 1]]


def test_the_smaller_object_is_in_front_and_parts_are_one():
    big, small = [0, 0, 20, 0, 20, 20, 0, 20], [5, 5, 10, 5, 10, 10, 5, 10]
    for areas, front in (((400, 25), 2), ((25, 400), 1), ((1, 1), 2)):
        mask = instance_mask([[big], [small]], areas, 20, 20)
        assert mask[7, 7] == front
        assert mask[0, 0] == 1
    assert set(np.unique(instance_mask([[small, [12, 12, 18, 12, 18, 18]]], [1], 20, 20))) == {0, 1}


def test_more_than_255_objects_take_16_bits():
    squares = [[[x, 0, x + 1, 0, x + 1, 4, x, 4]] for x in range(300)]
    mask = instance_mask(squares, [4] * 300, 4, 300)
    assert mask.dtype == np.uint16
    assert mask[2].tolist() == list(range(1, 301))
    with pytest.raises(DataError, match="65,535"):
        instance_mask([[]] * 65_536, [1] * 65_536, 4, 4)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        "text",
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, "6"]],
        [[0, 0, 2e9, 2e9, 0, 2e9]],
        [5],
        {"size": [4, 5], "counts": [20]},
        {"size": [4, 4], "counts": [15]},
        {"size": [4, 4], "counts": [20]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": []},
        {"size": [4, 4], "counts": None},
        {"size": [4, 4], "counts": [16.0]},
        {"size": [4, 4], "counts": [True] * 16},
        {"size": [4, 4], "counts": ""},
        {"size": [4, 4], "counts": "oooooooooooooooooooo"},
        {"size": [4, 4], "counts": "o"},
        {"size": [4, 4], "counts": "é"},
        {"size": [4, 4], "counts": "\0"},
        {"size": [4, 4], "counts": "00"},
        {"counts": [16]},
        {},
    ],
)
def test_what_is_no_segmentation(segmentation):
    with pytest.raises(DataError):
        instance_mask([segmentation], [1.0], 4, 4)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner)
)
strings = st.text(st.sampled_from([chr(48 + number) for number in range(64)]), max_size=12)


@settings(deadline=None)
@given(
    anything
    | st.lists(st.lists(st.floats(-50, 50) | st.integers(-(2**40), 2**40), max_size=12), max_size=3)
    | st.builds(lambda counts: {"size": [9, 7], "counts": counts}, strings | st.lists(st.integers(-3, 70), max_size=6))
)
def test_anything_is_a_mask_or_one_clear_error(segmentation):
    with contextlib.suppress(DataError):
        mask = instance_mask([segmentation], [1.0], 9, 7)
        assert mask.shape == (9, 7)
        assert mask.max() <= 1
