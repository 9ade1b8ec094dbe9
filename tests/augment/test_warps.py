"""What rotations, maps, borders and crops draw: torchvision's distributions, and golden values."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from fastload import transforms as T
from fastload.augment import compile_plan, warps
from fastload.augment.canvas import Canvas
from fastload.augment.drawing import Boxes
from fastload.augment.maps import REPEATS
from fastload.augment.program import Code
from fastload.augment.targets import map_boxes
from fastload.errors import ConfigError
from tests.augment.statistics import independent, same_distribution, same_shares

OURS = 100_000
SIZE = (96, 123)
# So many of torchvision's, which draws one by one: more where there is time.
THEIRS = [5_000, pytest.param(100_000, marks=pytest.mark.slow)]


def drawn(step, count=OURS, *, size=SIZE, seed=1, boxes=None, fixed=(64, 64)):
    """Draws of one step, on images of one size; a CenterCrop makes the size known."""
    plan = compile_plan([T.CenterCrop(size), step, T.CenterCrop(fixed)])
    sizes = np.broadcast_to(np.array(size, np.int32), (count, 2))
    return plan.draw(seed=seed, epoch=0, ids=np.arange(count), sizes=sizes, boxes=boxes)


def record(monkeypatch, name):
    calls = []
    function = getattr(warps, name)
    monkeypatch.setattr(warps, name, lambda *args: calls.append(args) or function(*args))
    return calls


def parameters(transform, count, size=SIZE, *more):
    """What torchvision draws, by name."""
    torch.manual_seed(0)
    inputs = [torch.zeros(3, *size), *more]
    rows = [transform.make_params(inputs) for _ in range(count)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("count", THEIRS)
def test_rotations_are_torchvisions(monkeypatch, count):
    calls = record(monkeypatch, "affine_map")
    drawn(T.RandomRotation((-20, 50)))
    theirs = parameters(v2.RandomRotation((-20, 50)), count)
    # Ours are told as the angle of an affine map, which turns the other way.
    assert same_distribution(-calls[0][0], theirs["angle"])


@pytest.mark.parametrize("count", THEIRS)
def test_affine_maps_are_torchvisions(monkeypatch, count):
    calls = record(monkeypatch, "affine_map")
    arguments = (15, (0.1, 0.3), (0.5, 1.5), (-10, 20, 5, 30))
    drawn(T.RandomAffine(*arguments))
    theirs = parameters(v2.RandomAffine(*arguments), count)
    angle, (x, y), scale, (shear_x, shear_y) = calls[0][:4]
    assert same_distribution(angle, theirs["angle"])
    assert same_distribution(scale, theirs["scale"])
    assert same_distribution(shear_x, theirs["shear"][:, 0])
    assert same_distribution(shear_y, theirs["shear"][:, 1])
    assert same_shares(x, theirs["translate"][:, 0])
    assert same_shares(y, theirs["translate"][:, 1])
    for first in range(5):
        for second in range(first + 1, 6):
            every = (angle, x, y, scale, shear_x, shear_y)
            assert independent(every[first], every[second])


def test_what_an_affine_map_leaves_out_stays(monkeypatch):
    calls = record(monkeypatch, "affine_map")
    drawn(T.RandomAffine(0, shear=10), 1000)
    angle, shift, scale, (shear_x, shear_y) = calls[0][:4]
    assert not np.any(angle)
    assert not np.any(shift)
    assert (scale == 1).all()
    assert not np.any(shear_y)
    assert len(np.unique(shear_x)) > 990


@pytest.mark.parametrize("count", THEIRS)
def test_perspectives_are_torchvisions(monkeypatch, count):
    calls = record(monkeypatch, "_from_quadrilateral")
    draws = drawn(T.RandomPerspective(0.4, 0.3))
    assert abs(draws.warp.active.mean() - 0.3) < 4.5 * np.sqrt(0.21 / OURS)
    ends = []
    module = "torchvision.transforms.v2._geometry._get_perspective_coeffs"
    monkeypatch.setattr(module, lambda starts, corners: ends.append(corners) or [0.0] * 8)
    parameters(v2.RandomPerspective(0.4), count)
    theirs = np.array(ends)
    for corner in range(4):
        for axis in range(2):
            assert same_shares(calls[0][0][corner][axis], theirs[:, corner, axis])
            assert independent(calls[0][0][corner][axis], calls[0][0][(corner + 1) % 4][axis])


@pytest.mark.parametrize("distortion", [0.0, 0.5, 1.0])
def test_perspectives_have_torchvisions_coefficients(monkeypatch, distortion):
    calls = record(monkeypatch, "_from_quadrilateral")
    draws = drawn(T.RandomPerspective(distortion, 1), 500, fixed=SIZE)
    height, width = SIZE
    starts = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    wrong = 0
    for i in range(500):
        ends = [[int(x[i]), int(y[i])] for x, y in calls[0][0]]
        theirs = np.array([*v2.functional._geometry._get_perspective_coeffs(starts, ends), 1.0]).reshape(3, 3)
        wrong += not np.allclose(warps._from_quadrilateral(*calls[0])[i], theirs, rtol=1e-4, atol=1e-5)
    # Corners that lie on a line, at full distortion, are the corners of nothing.
    assert wrong <= (5 if distortion == 1.0 else 0)
    assert np.isfinite(draws.warp.matrix).all()


def test_perspective_of_an_image_of_a_pixel_is_the_image():
    draws = drawn(T.RandomPerspective(1, 1), 50, size=(1, 7), fixed=(1, 7))
    assert np.array_equal(draws.warp.matrix[:, 0], np.broadcast_to(np.eye(3), (50, 3, 3)))


@pytest.mark.parametrize("count", THEIRS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"size": (70, 60)},
        {"size": (70, 60), "padding": (3, 5, 7, 9)},
        {"size": (110, 130), "pad_if_needed": True},
        {"size": (110, 60), "padding": 4, "pad_if_needed": True},
    ],
)
def test_random_crops_are_torchvisions(arguments, count):
    draws = drawn(T.RandomCrop(**arguments), fixed=arguments["size"])
    theirs = parameters(v2.RandomCrop(**arguments), count)
    left, top = theirs["padding"][:, 0], theirs["padding"][:, 1]
    assert same_shares(draws.window[:, 0], theirs["top"] - top)
    assert same_shares(draws.window[:, 1], theirs["left"] - left)
    assert independent(draws.window[:, 0], draws.window[:, 1]) or len(np.unique(draws.window[:, 0])) == 1


@pytest.mark.parametrize("count", THEIRS)
def test_zoom_out_is_torchvisions(count):
    plan = compile_plan([T.CenterCrop(SIZE), T.RandomZoomOut(side_range=(1.5, 3), p=0.7), T.RandomCrop((1, 1), 0)])
    calls = []
    crop = Canvas.crop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Canvas, "crop", lambda self, *args: calls.append(args) or crop(self, *args))
        sizes = np.broadcast_to(np.array(SIZE, np.int32), (OURS, 2))
        plan.draw(seed=1, epoch=0, ids=np.arange(OURS), sizes=sizes)
    boxes, zoomed = calls[1][:2]
    assert abs(zoomed.mean() - 0.7) < 4.5 * np.sqrt(0.21 / OURS)
    theirs = parameters(v2.RandomZoomOut(side_range=(1.5, 3)), count)["padding"]
    assert same_distribution(-boxes[zoomed, 1], theirs[:, 0])
    assert same_distribution(-boxes[zoomed, 0], theirs[:, 1])
    assert same_distribution(boxes[zoomed, 3], SIZE[1] + theirs[:, 0] + theirs[:, 2])
    assert same_distribution(boxes[zoomed, 2], SIZE[0] + theirs[:, 1] + theirs[:, 3])


SCALING = [
    ("ScaleJitter", {"target_size": (100, 80), "scale_range": (0.5, 1.5)}),
    ("RandomShortestSize", {"min_size": [40, 60, 80]}),
    ("RandomShortestSize", {"min_size": [40, 60, 80], "max_size": 90}),
    ("RandomResize", {"min_size": 20, "max_size": 50}),
]


@pytest.mark.parametrize("count", THEIRS)
@pytest.mark.parametrize(("name", "arguments"), SCALING)
def test_random_sizes_are_torchvisions(name, arguments, count):
    draws = drawn(getattr(T, name)(**arguments), fixed=(1, 1))
    theirs = parameters(getattr(v2, name)(**arguments), count)["size"]
    if name == "RandomResize":  # the shorter side, which is the height
        assert same_shares(draws.grid[:, 0], theirs[:, 0])
        assert np.array_equal(draws.grid[:, 1], draws.grid[:, 0].astype(np.int64) * SIZE[1] // SIZE[0])
        return
    assert same_distribution(draws.grid[:, 0], theirs[:, 0])
    assert same_distribution(draws.grid[:, 1], theirs[:, 1])
    if name == "RandomShortestSize":
        assert {tuple(row) for row in draws.grid.tolist()} == {tuple(row) for row in theirs.tolist()}


# ---------------------------------------------------------------------------------------------------- IoU crops

BOXES = np.array([[5.0, 10, 60, 70], [70, 20, 120, 95], [0, 0, 20, 15]])


def iou_crops(step, count, boxes=BOXES, seed=1):
    start = np.arange(count + 1) * len(boxes)
    given = Boxes(start=start, xyxy=np.tile(boxes, (count, 1)))
    plan = compile_plan([step, T.Resize((32, 32))])
    sizes = np.broadcast_to(np.array(SIZE, np.int32), (count, 2))
    return plan.draw(seed=seed, epoch=0, ids=np.arange(count), sizes=sizes, boxes=given)


@pytest.mark.parametrize("count", [700, pytest.param(30_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arguments", [{}, {"sampler_options": [0.3], "min_scale": 0.5}, {"trials": 3, "max_aspect_ratio": 1.2}]
)
def test_iou_crops_are_torchvisions(arguments, count):
    draws = iou_crops(T.RandomIoUCrop(**arguments), 20_000)
    torch.manual_seed(0)
    inputs = [torch.zeros(3, *SIZE), tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=SIZE)]
    transform = v2.RandomIoUCrop(**arguments)
    rows = [transform.make_params(inputs) for _ in range(count)]
    whole = np.array([not row for row in rows])
    names = ("top", "left", "height", "width")
    theirs = np.array([[0, 0, *SIZE] if not row else [row[name] for name in names] for row in rows])
    stays = (draws.box == (0, 0, *SIZE)).all(axis=1)
    share = whole.mean()
    assert abs(stays.mean() - share) < 4.5 * np.sqrt(max(share * (1 - share), 1e-3) * (1 / count + 1 / len(stays)))
    for column in range(4):
        assert same_distribution(draws.box[:, column], theirs[:, column])
    # Boxes whose middle was cut away, as torchvision says it.
    kept = np.array([row["is_within_crop_area"].numpy() if row else np.ones(3, bool) for row in rows])
    removed = draws.removed.flags.reshape(-1, 3)
    for box in range(3):
        assert abs(removed[:, box].mean() - (~kept[:, box]).mean()) < 4.5 * np.sqrt(0.25 * (1 / count + 1 / 20_000))


def test_iou_crops_keep_their_word():
    draws = iou_crops(T.RandomIoUCrop(sampler_options=[0.5]), 2_000)
    top, left, height, width = draws.box.T[:, :, None]
    shared_x = np.minimum(BOXES[:, 2], left + width) - np.maximum(BOXES[:, 0], left)
    shared_y = np.minimum(BOXES[:, 3], top + height) - np.maximum(BOXES[:, 1], top)
    shared = shared_x.clip(0) * shared_y.clip(0)
    overlap = shared / ((BOXES[:, 2:] - BOXES[:, :2]).prod(axis=1) + height * width - shared)
    x, y = (BOXES[:, :2] + BOXES[:, 2:]).T / 2
    within = (left < x) & (x < left + width) & (top < y) & (y < top + height)
    assert (np.where(within, overlap, 0).max(axis=1) >= 0.5).all()
    assert np.array_equal(draws.removed.flags.reshape(-1, 3), ~within)
    part = draws.rows(slice(10, 20)).removed
    assert np.array_equal(part.flags.reshape(-1, 3), ~within[10:20])


def test_iou_crops_of_images_without_boxes_end():
    draws = iou_crops(T.RandomIoUCrop(sampler_options=[0.5]), 30, boxes=np.zeros((0, 4)))
    assert (draws.box == (0, 0, *SIZE)).all()
    plan = compile_plan([T.RandomIoUCrop(), T.Resize((9, 9))])
    assert plan.needs_boxes
    with pytest.raises(ConfigError, match="the data set has none"):
        plan.draw(seed=0, epoch=0, ids=[0], sizes=np.array([SIZE], np.int32))


def test_iou_crops_see_boxes_where_earlier_steps_have_put_them():
    """After a mirror image, a border and a resize of twice the size a crop of the very box is found around it."""
    chain = [T.RandomHorizontalFlip(1), T.RandomVerticalFlip(1), T.Pad(10), T.RandomRotation((90, 90), expand=True)]
    step = T.RandomIoUCrop(0.1, 0.6, sampler_options=[0.6], trials=1000)
    plan = compile_plan([*chain, step, T.Resize((20, 20))])
    box = np.array([[100.0, 60, 120, 90]])
    boxes = Boxes(start=np.arange(201), xyxy=np.repeat(box, 200, axis=0))
    sizes = np.broadcast_to(np.array(SIZE, np.int32), (200, 2))
    draws = plan.draw(seed=0, epoch=0, ids=np.arange(200), sizes=sizes, boxes=boxes)
    assert not draws.removed.flags.any()
    # The middle of the box, x = 110 and y = 75, is in each of the outputs.
    middle = draws.warp.matrix[:, -1] @ (10, 10, 1)
    assert np.isfinite(middle).all()
    places = map_boxes(boxes.xyxy, np.arange(200), draws, (20, 20))
    areas = (places[:, 2:] - places[:, :2]).prod(axis=1) / 400
    assert (areas > 0.59).all()


# ---------------------------------------------------------------------------------------------------- what is drawn


def test_active_samples_only():
    """Choices within a chain touch the samples that they were drawn for, and leave the draws of others as they are."""
    one, other = T.RandomRotation(30, "bilinear"), T.RandomCrop(40)
    choice = compile_plan([T.CenterCrop(SIZE), T.RandomChoice([one, other]), T.Resize((32, 32))])
    sizes = np.broadcast_to(np.array(SIZE, np.int32), (500, 2))
    draws = choice.draw(seed=3, epoch=0, ids=np.arange(500), sizes=sizes)
    turned = draws.warp.active
    assert 180 < turned.sum() < 320
    assert (draws.box[turned] == (0, 0, *SIZE)).all()
    assert (draws.box[~turned, 2:] == 40).all()
    assert (draws.window[~turned, 2:] == 32).all()
    identity = np.broadcast_to(np.eye(3), draws.warp.matrix[~turned].shape)
    assert np.array_equal(draws.warp.matrix[~turned], identity)
    alone = compile_plan([T.CenterCrop(SIZE), T.RandomChoice([one, T.Identity()]), T.Resize((32, 32))])
    again = alone.draw(seed=3, epoch=0, ids=np.arange(500), sizes=sizes)
    assert np.array_equal(again.warp.active, turned)
    assert np.array_equal(again.warp.matrix[turned], draws.warp.matrix[turned])


CHAIN = [
    T.RandomZoomOut(7, (1, 2)),
    T.RandomVerticalFlip(),
    T.RandomApply([T.RandomRotation(30, "bilinear", expand=True, fill=9)]),
    T.RandomPerspective(0.4, interpolation="nearest"),
    T.RandomResizedCrop(64),
    T.RandomAffine(10, (0.1, 0.1)),
    T.RandomTranslate((0.2, 0.2)),
    T.RandomSolarize(100),
    T.RandomRotation(5),
    T.ElasticTransform(20.0),
    T.RandomHorizontalFlip(),
]


def of_sample(draws, row):
    """All that engines read of a sample."""
    parts = [draws.box[row], draws.grid[row], draws.window[row], draws.flip[row]]
    parts.append(draws.flip_vertical[row] if draws.flip_vertical is not None else False)
    parts.append(draws.pad[row] if draws.pad is not None else np.zeros(3))
    warp = draws.warp
    if warp is not None and warp.active[row]:
        count = next(k for k in range(1, 9) if warp.matrix.shape[1] == k or is_unused(warp, row, k))
        parts += [warp.matrix[row, :count], warp.size[row, :count], warp.fill[row, :count], warp.bilinear[row]]
    for program in (draws.before, draws.after):
        if program is not None:
            rows = slice(program.start[row], program.start[row + 1])
            parts += [program.code[rows], program.values[rows]]
    return [np.asarray(part).tolist() for part in parts if np.asarray(part).size]


def is_unused(warp, row, place):
    return all(
        np.array_equal(warp.matrix[row, k], np.eye(3)) and not warp.fill[row, k].any()
        for k in range(place, warp.matrix.shape[1])
    )


def test_a_sample_does_not_depend_on_its_batch():
    rng = np.random.default_rng(0)
    ids = rng.permutation(10_000)[:300]
    sizes = rng.integers(1, 400, (300, 2)).astype(np.int32)
    plan = compile_plan(CHAIN)
    whole = plan.draw(seed=9, epoch=2, ids=ids, sizes=sizes)
    for row in range(0, 300, 3):
        alone = plan.draw(seed=9, epoch=2, ids=ids[row : row + 1], sizes=sizes[row : row + 1])
        assert of_sample(alone, 0) == of_sample(whole, row)
        assert of_sample(whole.rows(slice(row, row + 1)), 0) == of_sample(whole, row)


def test_numbers_are_sound_whatever_the_size():
    """Images of a pixel, of next to no height, and unreadable ones: maps are finite, windows of a sensible size."""
    sizes = np.array([[1, 1], [1, 60_000], [60_000, 1], [0, 0], [2, 3], [3000, 4000]] * 50, np.int32)
    draws = compile_plan(CHAIN).draw(seed=0, epoch=0, ids=np.arange(300), sizes=sizes)
    assert np.isfinite(draws.warp.matrix).all()
    assert (draws.window[:, 2:] >= 1).all()
    assert (draws.window[:, 2:] <= 16_384).all()
    assert (draws.grid >= 1).all()
    assert ((draws.warp.fill >= 0) | (draws.warp.fill == REPEATS)).all()


def test_golden_values():
    # A change of these numbers changes the augmentation of every run with a given seed.
    sizes = np.broadcast_to(np.array((200, 300), np.int32), (4, 2))
    plan = compile_plan(CHAIN)
    draws = plan.draw(seed=7, epoch=1, ids=np.array([0, 1, 1_281_166, 2**40]), sizes=sizes)
    numbers = [
        np.round(np.concatenate((draws.box.sum(1), draws.warp.matrix.sum((1, 2, 3)))), 9).tolist(),
        draws.grid.tolist(),
        draws.window.tolist(),
        draws.after.code.tolist(),
        np.round(draws.after.values.sum(1), 6).tolist(),
    ]
    assert numbers == GOLDEN


def test_elastic_distortions_are_operations():
    plan = compile_plan([T.CenterCrop(40), T.ElasticTransform((10, 20), (3, 4), "nearest", (1, 2, 3))])
    sizes = np.broadcast_to(np.array(SIZE, np.int32), (1000, 2))
    program = plan.draw(seed=0, epoch=0, ids=np.arange(1000), sizes=sizes).after
    assert (program.code == Code.ELASTIC).all()
    assert (program.values[:, :8] == (0, 1, 2, 3, 10, 20, 3, 4)).all()
    assert len(np.unique(program.values[:, 8:10])) > 1990


GOLDEN = [
    [218.0, 500.0, 500.0, 500.0, 125.747254732, 499.015299185, 50.72680856, 90.791057655],
    [[64, 64], [66, 131], [24, 32], [57, 102]],
    [[0, 0, 64, 64], [1, 0, 65, 95], [-7, -21, 46, 60], [0, 0, 57, 83]],
    [8, 17, 18, 18, 18, 18],
    [100.0, 3.07347, 6035383275.0, 4820995540.0, 4618739805.0, 4666527964.0],
]
