"""Composed geometry against torchvision v2 itself: sizes, offsets, padding, flips, boxes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fastload import transforms as T
from fastload.augment import compile_plan

RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
}

sides = st.integers(1, 90)


def draw_one(chain, height, width, *, seed=7, epoch=0, sample=0):
    plan = compile_plan(chain)
    return plan, plan.draw(seed=seed, epoch=epoch, ids=[sample], sizes=np.array([[height, width]], dtype=np.int32))


def render(plan, draws, image, row=0):
    """One row of draws carried out with Pillow, as the contract in parameters.py words it."""
    top, left, height, width = draws.box[row].tolist()
    outer = (math.floor(left), math.floor(top), math.ceil(left + width), math.ceil(top + height))
    box = (left - outer[0], top - outer[1], left + width - outer[0], top + height - outer[1])
    grid_size = (int(draws.grid[row, 1]), int(draws.grid[row, 0]))
    grid = image.crop(outer).resize(grid_size, RESAMPLE[plan.output.interpolation], box)
    top, left, height, width = draws.window[row].tolist()
    assert (height, width) == (plan.output.height, plan.output.width)
    # Pillow's crop fills with 0 what lies outside.
    out = grid.crop((left, top, left + width, top + height))
    return out.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.flip[row] else out


def to_torchvision(step):
    arguments = {name: value for name, value in vars(step).items() if value is not None or name == "size"}
    return getattr(v2, type(step).__name__)(**arguments)


def photo(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    size=st.one_of(st.integers(1, 600), st.tuples(sides, sides), st.none()),
    longest=st.one_of(st.none(), st.integers(1, 900)),
)
@settings(max_examples=300, deadline=None)
def test_resize_gives_the_sizes_of_torchvision(height, width, size, longest):
    if (size is None and longest is None) or isinstance(size, tuple):
        longest = None if isinstance(size, tuple) else 77
    elif size is not None and longest is not None:
        longest += size
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0, 0, 1, 1]]), format="XYXY", canvas_size=(height, width))
    try:
        expected = F.resize(boxes, size if size is None else list(np.atleast_1d(size)), max_size=longest).canvas_size
    except ZeroDivisionError:
        return
    step = T.Resize(size, max_size=longest)
    # A crop to one pixel fixes the size, and leaves the grid as Resize made it.
    _, draws = draw_one([step, T.CenterCrop(1)], height, width)
    assert draws.grid[0].tolist() == [max(1, side) for side in expected]
    assert draws.box[0].tolist() == [0, 0, height, width]


@given(
    height=sides,
    width=sides,
    crop=st.tuples(sides, sides),
    flips=st.lists(st.sampled_from([0, 1]), min_size=2, max_size=2),
    shrink=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
@settings(max_examples=300, deadline=None)
def test_center_crops_and_flips_equal_torchvision_pixel_by_pixel(height, width, crop, flips, shrink):
    smaller = tuple(max(1, side - less) for side, less in zip(crop, shrink, strict=True))
    chain = [
        T.RandomHorizontalFlip(flips[0]),
        T.CenterCrop(crop),
        T.RandomHorizontalFlip(flips[1]),
        T.CenterCrop(smaller),
    ]
    image = photo(height, width)
    plan, draws = draw_one(chain, height, width)
    expected = v2.Compose([to_torchvision(step) for step in chain])(image)
    assert np.array_equal(np.asarray(render(plan, draws, image)), np.asarray(expected))


@given(
    height=sides,
    width=sides,
    size=st.one_of(st.integers(1, 60), st.tuples(sides, sides)),
    crop=st.tuples(sides, sides),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "box"]),
    flip=st.sampled_from([0, 1]),
)
@settings(max_examples=200, deadline=None)
def test_resize_and_center_crop_equal_torchvision_pixel_by_pixel(height, width, size, crop, interpolation, flip):
    chain = [T.Resize(size, interpolation), T.CenterCrop(crop), T.RandomHorizontalFlip(flip)]
    image = photo(height, width)
    plan, draws = draw_one(chain, height, width)
    expected = v2.Compose([to_torchvision(step) for step in chain])(image)
    assert np.array_equal(np.asarray(render(plan, draws, image)), np.asarray(expected))


@pytest.mark.parametrize("step", [T.Resize((37, 53)), T.Resize((37, 53), "bicubic")])
def test_resize_alone_equals_torchvision(step):
    image = photo(80, 61)
    plan, draws = draw_one([step], 80, 61)
    assert np.array_equal(np.asarray(render(plan, draws, image)), np.asarray(to_torchvision(step)(image)))


@given(height=st.integers(2, 90), width=st.integers(2, 90), sample=st.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_random_crop_equals_torchvision_for_the_same_box(height, width, sample):
    image = photo(height, width)
    plan, draws = draw_one([T.RandomResizedCrop((20, 30)), T.RandomHorizontalFlip()], height, width, sample=sample)
    top, left, tall, wide = draws.box[0]
    assert all(value == int(value) for value in draws.box[0])
    expected = F.resized_crop(image, int(top), int(left), int(tall), int(wide), [20, 30])
    expected = F.horizontal_flip(expected) if draws.flip[0] else expected
    assert np.array_equal(np.asarray(render(plan, draws, image)), np.asarray(expected))


def ramp(height, width):
    """An image whose pixels hold their own coordinates: float, channel 0 is y, channel 1 is x."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    return torch.from_numpy(np.stack((y, x)))


def source_coordinates(plan, draws):
    """Where in the source the centre of each output pixel lies, by the contract: (2, H, W)."""
    axes = []
    for axis in (0, 1):
        start, extent = draws.box[0, axis], draws.box[0, 2 + axis]
        places = np.arange(draws.window[0, 2 + axis]) + draws.window[0, axis] + 0.5
        axes.append(start + places * extent / draws.grid[0, axis])
    y, x = np.meshgrid(*axes, indexing="ij")
    coordinates = np.stack((y, x))
    return coordinates[:, :, ::-1] if draws.flip[0] else coordinates


@given(
    height=st.integers(60, 200),
    width=st.integers(60, 200),
    first=st.integers(60, 150),
    crop=st.tuples(st.integers(30, 60), st.integers(30, 60)),
    last=st.tuples(st.integers(10, 80), st.integers(10, 80)),
    flips=st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])),
)
@settings(max_examples=100, deadline=None)
def test_one_sampling_looks_where_several_look(height, width, first, crop, last, flips):
    chain = [
        T.RandomHorizontalFlip(flips[0]),
        T.Resize(first),
        T.CenterCrop(crop),
        T.RandomHorizontalFlip(flips[1]),
        T.Resize(last),
    ]
    plan, draws = draw_one(chain, height, width)
    assert (draws.box >= 0).all()
    assert (draws.box[0, :2] + draws.box[0, 2:] <= (height, width)).all()
    expected = v2.Compose([to_torchvision(step) for step in chain])(tv_tensors.Image(ramp(height, width)))
    ours = source_coordinates(plan, draws)
    # Near an edge torchvision's filter is cut off and its ramp bends; the middle half is straight but for the filter's
    # own unevenness, a tenth of the coarser pitch at most. A crop or flip that is off by one is off by a whole pitch.
    rows, columns = (slice(side // 4, -(side // 4)) for side in last)
    error = (ours - expected.numpy())[:, rows, columns]
    assert np.abs(error.mean(axis=(1, 2))).max() < 0.1 * min(height, width) / first
    assert np.abs(error).max() < 0.15 * (draws.box[0, 2:] / draws.grid[0]).max() + 0.15 * min(height, width) / first


@given(height=st.integers(30, 200), width=st.integers(30, 200), sample=st.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_random_crop_after_resize_and_crop_is_a_whole_crop_of_what_it_sees(height, width, sample):
    before = [T.RandomHorizontalFlip(1), T.Resize(70), T.CenterCrop((64, 50))]
    plan, draws = draw_one([*before, T.RandomResizedCrop((24, 20))], height, width, sample=sample)
    _, seen = draw_one(before, height, width)
    pitch = seen.box[0, 2:] / seen.grid[0]
    crop_at, crop_size = draws.box[0, :2] / pitch - seen.window[0, :2], draws.box[0, 2:] / pitch
    assert np.allclose(crop_at, np.rint(crop_at), atol=1e-9)
    assert np.allclose(crop_size, np.rint(crop_size), atol=1e-9)
    (top, left), (tall, wide) = np.rint(crop_at).astype(int).tolist(), np.rint(crop_size).astype(int).tolist()
    assert 0 <= top <= 64 - tall
    assert 0 <= left <= 50 - wide
    image = v2.Compose([to_torchvision(step) for step in before])(tv_tensors.Image(ramp(height, width)))
    # The window of the source was flipped before the crop was drawn, so the crop lies mirrored in it.
    expected = F.resized_crop(image, top, 50 - left - wide, tall, wide, [24, 20]).numpy()
    error = (source_coordinates(plan, draws) - expected)[:, 6:-6, 5:-5]
    assert np.abs(error.mean(axis=(1, 2))).max() < 0.1 * pitch.max()
    assert np.abs(error).max() < 0.3 * pitch.max()


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (1, 65_535), (65_535, 1), (65_535, 65_535)])
@pytest.mark.parametrize(
    "chain",
    [
        [T.RandomResizedCrop(224), T.RandomHorizontalFlip()],
        [T.Resize(256), T.CenterCrop(224)],
        [T.Resize(32_768), T.CenterCrop(224)],
        [T.Resize(256, max_size=300), T.CenterCrop(224)],
        [T.Resize(256), T.RandomResizedCrop(224)],
        [T.Resize(256), T.CenterCrop(224), T.Resize(64), T.RandomResizedCrop(32)],
        [T.RandomResizedCrop(224, ratio=(5.0, 6.0))],
        [T.RandomResizedCrop(224, scale=(0.0, 1e6), ratio=(1e-6, 1e6))],
        [T.CenterCrop(224)],
    ],
)
def test_odd_sources_give_geometry_that_an_engine_can_trust(chain, size):
    plan = compile_plan(chain)
    draws = plan.draw(seed=0, epoch=0, ids=np.arange(50), sizes=np.tile(np.array(size, dtype=np.int32), (50, 1)))
    height, width = np.maximum(size, 1)
    assert (draws.box[:, :2] >= 0).all()
    assert (draws.box[:, 2:] > 0).all()
    assert (draws.box[:, 0] + draws.box[:, 2] <= height).all()
    assert (draws.box[:, 1] + draws.box[:, 3] <= width).all()
    assert (draws.grid >= 1).all()
    assert (draws.window[:, 2:] == (plan.output.height, plan.output.width)).all()
    types = [draws.ids.dtype, draws.box.dtype, draws.grid.dtype, draws.window.dtype, draws.flip.dtype]
    assert types == [np.int64, np.float64, np.int32, np.int32, np.bool_]


def test_real_photographs_through_the_evaluation_chain(imagenet_sample):
    chain = [T.Resize(256), T.CenterCrop(224)]
    reference = v2.Compose([to_torchvision(step) for step in chain])
    paths = sorted(imagenet_sample.rglob("*.[jJ][pP]*[gG]"))[::40]
    assert len(paths) >= 10
    for path in paths:
        image = Image.open(path).convert("RGB")
        plan, draws = draw_one(chain, image.height, image.width)
        assert np.array_equal(np.asarray(render(plan, draws, image)), np.asarray(reference(image)))
