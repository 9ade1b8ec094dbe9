"""The region that is decoded: enough for every tap, no more than the box touches, and the same pixels as the whole."""

import numpy as np
import pytest

from fastload.engine.cpu.kernels.layout import (
    DONE,
    PARAMETERS,
    REGION_TOO_SMALL,
    SLACK,
    flat_slot,
    make_constants,
    make_scratch,
)
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.cpu.region import find_regions
from tests.engine.helpers import make_output


def random_parameters(rng, height, width, output, count):
    """Boxes, grids and windows of every kind, within an image of this size."""
    rows = np.zeros((count, PARAMETERS))
    for row in rows:
        box = rng.uniform(0.5, (height, width)) * rng.uniform(0.05, 1.0)
        start = rng.uniform(0, 1, 2) * ((height, width) - box)
        if rng.random() < 0.5:
            start, box = np.floor(start), np.maximum(np.floor(box), 1)
        grid = rng.integers(1, (3 * output.height, 3 * output.width))
        row[:4] = start[0], start[1], box[0], box[1]
        row[4:6] = grid
        row[6:8] = rng.integers((-output.height // 2, -output.width // 2), grid)
        row[8] = rng.random() < 0.5
    return rows


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "box", "area"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(48, 40), (5, 3)])
def test_a_region_gives_the_pixels_of_the_whole(interpolation, antialias, size):
    output = make_output(size, interpolation=interpolation, antialias=antialias)
    rng = np.random.default_rng(3)
    height, width = 211, 173
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    constants, scratch = make_constants(output), make_scratch(output)
    parameters = random_parameters(rng, height, width, output, 150)
    smaller = 0
    for row, region in zip(parameters, find_regions(parameters, output).tolist(), strict=True):
        top, left, rows, columns = region
        answers = []
        for y, x, h, w in ((0, 0, height, width), (top, left, rows, columns)):
            pixels = np.full(h * w * 3 + SLACK, 77, np.uint8)
            pixels[: h * w * 3] = image[y : y + h, x : x + w].reshape(-1)
            slot = np.full((1, *size, 3), 123, np.uint8)
            assert (
                resample_image(pixels, height, width, y, x, h, w, row, constants, flat_slot(slot), 0, scratch) == DONE
            )
            answers.append(slot)
        np.testing.assert_array_equal(*answers)
        box_top, box_left = int(row[0]), int(row[1])
        assert top >= box_top
        assert left >= box_left
        assert top + rows <= max(np.ceil(row[0] + row[2]), box_top + 1)
        assert left + columns <= max(np.ceil(row[1] + row[3]), box_left + 1)
        smaller += rows * columns < height * width / 2
    assert smaller > 50


def test_a_region_that_does_not_hold_every_tap_is_noticed():
    output = make_output((48, 40))
    pixels = np.zeros(100 * 100 * 3 + SLACK, np.uint8)
    row = np.array([10.0, 10, 60, 60, 48, 40, 0, 0, 0])
    slot, constants, scratch = (
        flat_slot(np.zeros((1, 48, 40, 3), np.uint8)),
        make_constants(output),
        make_scratch(output),
    )
    for region, answer in (
        ((10, 10, 60, 60), DONE),
        ((11, 10, 59, 60), REGION_TOO_SMALL),
        ((10, 10, 60, 59), REGION_TOO_SMALL),
        ((10, 12, 60, 58), REGION_TOO_SMALL),
        ((-1, 10, 60, 60), REGION_TOO_SMALL),
        ((50, 10, 60, 60), REGION_TOO_SMALL),
        ((10, 10, 0, 60), REGION_TOO_SMALL),
    ):
        assert resample_image(pixels, 100, 100, *region, row, constants, slot, 0, scratch) == answer


def test_impossible_boxes_give_some_region():
    output = make_output()
    rows = np.zeros((4, PARAMETERS))
    rows[:, 4:6] = 10
    rows[0, :4] = np.nan
    rows[1, :4] = np.inf
    rows[2, :4] = -5, 1e30, 0, -3
    regions = find_regions(rows, output)
    assert (regions[:, 2:] >= 1).all()
    assert (regions[:, :2] >= 0).all()
