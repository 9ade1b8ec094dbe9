"""Boxes, keypoints and masks against torchvision v2's, step by step with the same parameters."""

import dataclasses

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional._geometry import _get_inverse_affine_matrix, _get_perspective_coeffs

from fastload import transforms as T
from fastload.augment import Draws, compile_plan
from fastload.augment.elastic import displacements
from fastload.augment.masks import sample_mask
from fastload.augment.parameters import Warp
from fastload.augment.program import Code, ProgramBuilder
from fastload.augment.targets import TargetRules, converted, map_boxes, map_keypoints, sanitized
from fastload.engine.cpu.programs import run_program
from fastload.errors import ConfigError

N = 20
# torchvision computes in float32: an ulp of 1,000 is 6e-5, and several steps add up.
PIXELS = 1e-3


@pytest.fixture(scope="module")
def scene():
    """Sizes, one set of boxes and keypoints for each sample, and masks."""
    chance = np.random.default_rng(8)
    sizes = chance.integers(60, 500, (N, 2)).astype(np.int32)
    limits = sizes[:, None, ::-1].repeat(2, 1).reshape(N, 1, 4)
    corners = np.sort((chance.random((N, 6, 2, 2)) * sizes[:, None, None, ::-1]), axis=2).reshape(N, 6, 4)
    assert (corners <= limits).all()
    points = np.concatenate((chance.random((N, 6, 5, 2)) * sizes[:, None, None, ::-1], np.full((N, 6, 5, 1), 2.0)), -1)
    masks = [chance.integers(0, 200, size, dtype=np.uint8) for size in sizes]
    return sizes, corners.astype(np.float32), points.astype(np.float32), masks


def as_tensors(scene, i):
    sizes, boxes, points, masks = scene
    size = tuple(sizes[i].tolist())
    return (
        tv_tensors.BoundingBoxes(torch.from_numpy(boxes[i]), format="XYXY", canvas_size=size),
        tv_tensors.KeyPoints(torch.from_numpy(points[i][..., :2].copy()), canvas_size=size),
        tv_tensors.Mask(torch.from_numpy(masks[i])),
    )


def check(scene, draws, size, replay, *, same_mask, pixels=PIXELS, **sampling):
    """Our targets of every sample against what ``replay`` makes of torchvision's."""
    _, boxes, points, masks = scene
    rows = np.repeat(np.arange(N), 6)
    ours = map_boxes(boxes.reshape(-1, 4).astype(np.float64), rows, draws, size).reshape(N, 6, 4)
    places = map_keypoints(points.reshape(-1, 5, 3).astype(np.float64), rows, draws, size).reshape(N, 6, 5, 3)
    seen = 0
    for i in range(N):
        theirs, keypoints, mask = (replay(i, target) for target in as_tensors(scene, i))
        np.testing.assert_allclose(ours[i], theirs.numpy(), atol=pixels, rtol=0)
        visible = places[i, ..., 2] > 0
        np.testing.assert_allclose(places[i, ..., :2][visible], keypoints.numpy()[visible], atol=pixels, rtol=0)
        x, y = keypoints.numpy()[..., 0], keypoints.numpy()[..., 1]
        edge = np.minimum(np.minimum(x, size[1] - x), np.minimum(y, size[0] - y))
        assert not visible[edge < -pixels].any()
        assert (places[i, ..., :2][~visible] == 0).all()
        seen += visible.sum()
        if same_mask:
            share = (sample_mask(masks[i], i, draws, size, **sampling) == mask.numpy()).mean()
            assert share >= same_mask
    assert seen > N / 2


@pytest.mark.parametrize("sampling", ["nearest", "nearest-exact"])
def test_a_random_crop_and_flip(scene, sampling):
    plan = compile_plan([T.RandomResizedCrop((96, 120), scale=(0.05, 1)), T.RandomHorizontalFlip()])
    draws = plan.draw(seed=1, epoch=0, ids=np.arange(N), sizes=scene[0])
    assert 3 < draws.flip.sum() < 17

    def replay(i, target):
        top, left, height, width = draws.box[i].astype(int).tolist()
        # resized_crop takes "nearest" for masks, whatever it is told.
        target = F.resize(F.crop(target, top, left, height, width), [96, 120], interpolation=sampling)
        return F.horizontal_flip(target) if draws.flip[i] else target

    check(scene, draws, (96, 120), replay, same_mask=1, sampling=sampling)


def test_the_middle_with_and_without_padding(scene):
    exact = InterpolationMode.NEAREST_EXACT
    # Where CenterCrop pads by an odd number, torchvision moves boxes and keypoints a pixel further than the image.
    smaller = v2.Compose([v2.Resize(128, interpolation=exact), v2.CenterCrop(100)])
    for chain, reference, pixels in (
        ([T.Resize(128), T.CenterCrop(100)], smaller, PIXELS),
        ([T.CenterCrop((300, 400))], v2.CenterCrop((300, 400)), 1 + PIXELS),
    ):
        plan = compile_plan(chain)
        draws = plan.draw(seed=1, epoch=0, ids=np.arange(N), sizes=scene[0])
        size = plan.output.height, plan.output.width

        def replay(i, target, reference=reference):
            return reference(target)

        check(scene, draws, size, replay, same_mask=1, pixels=pixels)


def whole(sizes, output, **more):
    """Draws that leave the source as it is, in front of maps."""
    box = np.hstack((np.zeros((len(sizes), 2)), sizes.astype(np.float64)))
    window = np.hstack((np.zeros_like(sizes), sizes))
    return Draws(
        ids=np.arange(len(sizes)), box=box, grid=sizes, window=window, flip=np.zeros(len(sizes), np.bool_), **more
    )


def affine_matrix(size, *, angle, translate=(0.0, 0.0), scale=1.0, shear=(0.0, 0.0)):
    """torchvision's map from the output to the input, in pixels counted from the corner."""
    inner = np.eye(3)
    inner[:2] = np.reshape(_get_inverse_affine_matrix([0.0, 0.0], -angle, translate, scale, shear), (2, 3))
    middle = np.eye(3)
    middle[:2, 2] = size[1] / 2, size[0] / 2
    return middle @ inner @ np.linalg.inv(middle)


def test_rotations_that_cut_off_one_after_the_other_and_a_crop(scene):
    sizes = scene[0]
    chance = np.random.default_rng(2)
    angles = chance.uniform(-80, 80, (N, 2))
    shears = chance.uniform(-20, 20, (N, 2))
    crops = (chance.random((N, 2)) * (sizes - 50)).astype(int)
    matrices = np.empty((N, 2, 3, 3))
    for i in range(N):
        first = affine_matrix(sizes[i], angle=angles[i, 0])
        second = affine_matrix(sizes[i], angle=-angles[i, 1], translate=(5.0, 7.0), scale=1.2, shear=shears[i])
        shift = np.eye(3)
        shift[:2, 2] = crops[i, ::-1]
        # The affine map is of the whole rotated image; then 50 x 50 are cut from that.
        matrices[i, 1] = second @ shift
        matrices[i, 0] = first @ matrices[i, 1]
    warp = Warp(
        matrix=matrices,
        size=np.stack((sizes, sizes), axis=1),
        fill=np.zeros((N, 2, 3)),
        active=np.ones(N, np.bool_),
        bilinear=np.ones(N, np.bool_),
    )

    def replay(i, target):
        target = F.rotate(target, angles[i, 0])
        target = F.affine(target, angles[i, 1], [5, 7], 1.2, shears[i].tolist())
        return F.crop(target, *crops[i].tolist(), 50, 50)

    # The affine map's image is clipped once more by the crop, which changes nothing: it cuts what is left.
    # torchvision takes the nearest pixel twice.
    check(scene, whole(sizes, (50, 50), warp=warp), (50, 50), replay, same_mask=0)


def test_a_perspective_and_operations_on_what_came_out(scene):
    sizes = np.full((N, 2), (200, 300), np.int32)
    chance = np.random.default_rng(4)
    start = np.array([[0, 0], [299, 0], [299, 199], [0, 199]])
    scene = (
        sizes,
        (scene[1] / scene[0].max() * 199).astype(np.float32),
        (scene[2] / [scene[0].max() / 199, scene[0].max() / 199, 1]).astype(np.float32),
        [np.kron(chance.integers(0, 200, (20, 30), dtype=np.uint8), np.ones((10, 10), np.uint8)) for _ in range(N)],
    )
    ends = start + chance.integers(-40, 40, (N, 4, 2))
    angles = chance.uniform(-50, 50, N)
    matrices = np.empty((N, 1, 3, 3))
    program = ProgramBuilder(N)
    turned = np.arange(N) % 3 != 0
    values = np.zeros((N, 13))
    for i in range(N):
        matrices[i, 0] = np.append(_get_perspective_coeffs(start.tolist(), ends[i].tolist()), 1.0).reshape(3, 3)
        values[i, 4:] = affine_matrix((200, 300), angle=angles[i]).ravel()
    program.add(Code.INVERT, (), np.ones(N, np.bool_))
    program.add(Code.WARP, values, turned)
    program.add(Code.WARP, values, turned & (np.arange(N) % 2 == 0))
    active = np.arange(N) % 5 != 0
    warp = Warp(
        matrix=matrices,
        size=sizes[:, None],
        fill=np.zeros((N, 1, 3)),
        active=active,
        bilinear=np.zeros(N, np.bool_),
    )

    def replay(i, target):
        if active[i]:
            target = F.perspective(target, start.tolist(), ends[i].tolist(), interpolation=InterpolationMode.NEAREST)
        for _ in range(int(turned[i]) * (1 + (i % 2 == 0))):
            target = F.rotate(target, angles[i])
        return target

    check(scene, whole(sizes, (200, 300), warp=warp, after=program.build()), (200, 300), replay, same_mask=0.98)


def test_left_and_right_change_places_in_a_mirror():
    sizes = np.full((2, 2), (40, 60), np.int32)
    draws = whole(sizes, (40, 60), nudge=np.array([[0.0, 0.0], [0.0, -1.0]]))
    draws.flip[1] = True
    points = np.array([[[1, 2, 2], [10, 20, 1], [30, 5, 2], [0, 0, 0]]], np.float64).repeat(2, axis=0)
    places = map_keypoints(points, np.arange(2), draws, (40, 60), np.array([[1, 2]]))
    assert places[0].tolist() == points[0].tolist()
    assert places[1].tolist() == [[58, 2, 2], [29, 5, 2], [49, 20, 1], [0, 0, 0]]
    # A map that mirrors counts as well; one that turns does not.
    upside_down = np.array([[1.0, 0, 0], [0, -1, 40], [0, 0, 1]])
    half_turn = np.array([[-1.0, 0, 60], [0, -1, 40], [0, 0, 1]])
    warp = Warp(
        matrix=np.stack((upside_down, half_turn))[:, None],
        size=sizes[:, None],
        fill=np.zeros((2, 1, 3)),
        active=np.ones(2, np.bool_),
        bilinear=np.zeros(2, np.bool_),
    )
    places = map_keypoints(points, np.arange(2), whole(sizes, (40, 60), warp=warp), (40, 60), np.array([[1, 2]]))
    assert places[0].tolist() == [[1, 38, 2], [30, 35, 2], [10, 20, 1], [0, 0, 0]]
    assert places[1].tolist() == [[59, 38, 2], [50, 20, 1], [30, 35, 2], [0, 0, 0]]


@pytest.mark.parametrize(("min_size", "min_area"), [(1.0, 1.0), (5.0, 1.0), (2.0, 60.0)])
def test_small_boxes_are_dropped_as_torchvision_drops_them(min_size, min_area):
    chance = np.random.default_rng(1)
    corners = np.sort(chance.integers(0, 30, (500, 2, 2)) / 2, axis=1).reshape(-1, 4)
    boxes = np.vstack((corners, [[0, 0, 15.001, 10], [-0.001, 0, 5, 5], [0, 0, 15, 15]]))
    reference = v2.SanitizeBoundingBoxes(min_size, min_area)
    theirs = reference(
        {
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes).float(), format="XYXY", canvas_size=(15, 15)),
            "labels": torch.arange(len(boxes)),
        }
    )
    kept = sanitized(boxes, (15, 15), TargetRules(min_size=min_size, min_area=min_area))
    assert np.flatnonzero(kept).tolist() == theirs["labels"].tolist()
    assert 0 < kept.sum() < len(boxes)
    assert sanitized(boxes, (15, 15), TargetRules()).all()


@pytest.mark.parametrize("form", ["XYXY", "XYWH", "CXCYWH"])
def test_formats_are_torchvisions(form):
    boxes = np.array([[1, 2, 30.5, 40], [0, 0, 0, 0]])
    theirs = v2.ConvertBoundingBoxFormat(form)(
        tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(50, 50))
    )
    assert converted(boxes, form).tolist() == theirs.tolist()


@pytest.mark.parametrize(("mode", "name"), [(1, "edge"), (2, "reflect"), (3, "symmetric")])
def test_a_mirrored_frame_of_a_mask_is_torchvisions(mode, name):
    inner = np.random.default_rng(0).integers(0, 9, (12, 15), dtype=np.uint8)
    framed = F.pad(tv_tensors.Mask(torch.from_numpy(inner)), [4, 5, 6, 3], padding_mode=name).numpy()
    values = np.full((20, 25), 7, np.uint8)
    values[5:17, 4:19] = inner
    program = ProgramBuilder(1)
    program.add(Code.FRAME, [5, 4, 12, 15, mode], np.ones(1, np.bool_))
    draws = whole(np.array([[20, 25]], np.int32), (20, 25), after=program.build())
    assert (sample_mask(values, 0, draws, (20, 25)) == framed).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_masks_of_any_depth_keep_their_values(dtype):
    top = np.iinfo(dtype).max
    values = np.array([[0, 1], [top - 1, top]], dtype)
    plan = compile_plan([T.CenterCrop(4)])
    draws = plan.draw(seed=0, epoch=0, ids=[0], sizes=np.array([[2, 2]], np.int32))
    mask = sample_mask(values, 0, draws, (4, 4), fill=9)
    assert mask.dtype == dtype
    assert mask[1:3, 1:3].tolist() == values.tolist()
    assert mask[0].tolist() == [9] * 4


def test_what_a_chain_says_of_targets():
    plan = compile_plan([T.RandomResizedCrop(32), T.ConvertBoundingBoxFormat("cxcywh"), T.ClampBoundingBoxes()])
    assert plan.targets == TargetRules(format="CXCYWH")
    plan = compile_plan([T.RandomResizedCrop(32), T.SanitizeBoundingBoxes(2, min_area=5), T.ToDtype("float32")])
    assert plan.targets == TargetRules(min_size=2.0, min_area=5.0)
    assert not plan.needs_boxes
    with pytest.raises(ConfigError, match="behind it"):
        compile_plan([T.SanitizeBoundingBoxes(), T.RandomApply([T.RandomHorizontalFlip()]), T.CenterCrop(3)])
    with pytest.raises(ConfigError, match="min_area"):
        T.SanitizeBoundingBoxes(min_area=0)
    with pytest.raises(ConfigError, match="XYXY, XYWH, CXCYWH"):
        T.ConvertBoundingBoxFormat("XYXYXYXY")
    assert T.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.XYWH).format == "XYWH"


def elastic(alpha, sigma):
    """Draws of an elastic distortion alone."""
    program = ProgramBuilder(1)
    program.add(Code.ELASTIC, [0, 0, 0, 0, *alpha, *sigma, 123456, 4_000_000_000], np.ones(1, np.bool_))
    return program.build()


def test_targets_are_distorted_as_torchvision_distorts_them():
    size = (90, 130)
    program = elastic((60.0, 40.0), (5.0, 4.0))
    draws = whole(np.array([size], np.int32), size, after=program)
    moved = displacements(program.values[0], *size)
    torchvisions = torch.from_numpy(moved / (np.array([size[1], size[0]], np.float32) / 2))[None]
    chance = np.random.default_rng(6)
    boxes = np.sort(chance.random((30, 2, 2)) * (130, 90), axis=1).reshape(-1, 4)
    theirs = F.elastic(tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=size), torchvisions)
    np.testing.assert_allclose(map_boxes(boxes, np.zeros(30, int), draws, size), theirs.numpy(), atol=PIXELS)
    points = np.concatenate((chance.random((30, 2, 2)) * (130, 90), np.full((30, 2, 1), 2)), axis=-1)
    places = map_keypoints(points, np.zeros(30, int), draws, size)
    theirs = F.elastic(tv_tensors.KeyPoints(torch.from_numpy(points[..., :2]), canvas_size=size), torchvisions).numpy()
    visible = places[..., 2] > 0
    assert visible.sum() > 40
    np.testing.assert_allclose(places[..., :2][visible], theirs[visible], atol=PIXELS)
    mask = np.kron(chance.integers(0, 200, (9, 13), dtype=np.uint8), np.ones((10, 10), np.uint8))
    bent = F.elastic(tv_tensors.Mask(torch.from_numpy(mask)), torchvisions).numpy()
    assert (sample_mask(mask, 0, draws, size) == bent).mean() > 0.999
    assert (bent != mask).mean() > 0.05


def test_a_mask_is_distorted_as_its_image():
    mask = np.kron(np.random.default_rng(1).integers(0, 200, (8, 12), dtype=np.uint8), np.ones((10, 10), np.uint8))
    program = elastic((80.0, 80.0), (4.0, 6.0))
    image = run_program(np.repeat(mask[..., None], 3, axis=2), program.code, program.values)[..., 0]
    draws = whole(np.array([mask.shape], np.int32), mask.shape, after=program)
    assert (sample_mask(mask, 0, draws, mask.shape) == image).mean() > 0.999


def test_what_is_moved_before_the_image_is_sampled_moves_targets():
    """As what is done to the source alone, and then the rest of the chain alone: both are compared with torchvision."""
    chance, count, sizes = np.random.default_rng(7), 24, np.array([[60, 81], [47, 40], [90, 70]] * 8, np.int32)
    chain = [T.RandomHorizontalFlip(), T.ElasticTransform(60.0, 4.0), T.TrivialAugmentWide(), T.RandomResizedCrop(50)]
    draws = compile_plan([*chain, T.RandomRotation(20)]).draw(seed=1, epoch=0, ids=np.arange(count), sizes=sizes)
    assert {Code.ELASTIC, Code.WARP} <= set(draws.before.code.tolist())
    rest, rows = dataclasses.replace(draws, before=None), np.arange(count)
    corners = np.sort(chance.random((count, 2, 2)), axis=1) * sizes[:, None, ::-1]
    points = np.concatenate((chance.random((count, 5, 2)) * sizes[:, None, ::-1], np.full((count, 5, 1), 2.0)), axis=-1)
    changed = 0
    for row in rows.tolist():
        size, one = tuple(sizes[row].tolist()), slice(row, row + 1)
        first = whole(sizes[one], size, after=draws.before.rows(one))
        steps = (first, size), (rest.rows(one), (50, 50))
        arguments = np.zeros(1, int), draws.rows(one), (50, 50)
        box, point = corners[row].reshape(1, 4), points[one]
        for where, shape in steps:
            box = map_boxes(box, np.zeros(1, int), where, shape)
            point = map_keypoints(point, np.zeros(1, int), where, shape)
        np.testing.assert_array_equal(map_boxes(corners[row].reshape(1, 4), *arguments, sizes[one]), box)
        np.testing.assert_array_equal(map_keypoints(points[one], *arguments, sources=sizes[one]), point)
        changed += not np.array_equal(map_boxes(corners[row].reshape(1, 4), np.zeros(1, int), *steps[1]), box)
        again = np.random.default_rng(row).integers(0, 9, size, dtype=np.uint8)
        moved = sample_mask(sample_mask(again, 0, *steps[0], fill=7), 0, *steps[1], fill=7)
        assert np.array_equal(sample_mask(again, 0, draws.rows(one), (50, 50), fill=7), moved)
    assert changed > count // 2
