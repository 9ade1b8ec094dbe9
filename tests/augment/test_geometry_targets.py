"""Boxes, keypoints and masks through composed geometry, against the same steps one by one as torchvision takes them."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.canvas import Canvas
from fastload.augment.drawing import Boxes
from fastload.augment.masks import sample_mask
from fastload.augment.targets import map_boxes, map_keypoints

SIZE = (180, 240)
COUNT = 60


def record_canvas(monkeypatch):
    """What is done to the canvas, in order, as (name, arguments)."""
    calls = []
    for name in ("flip", "resize", "crop", "map"):
        method = getattr(Canvas, name)

        def wrapped(self, *args, _name=name, _method=method):
            calls.append((_name, tuple(arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args)))
            return _method(self, *args)

        monkeypatch.setattr(Canvas, name, wrapped)
    return calls


def replayed(calls, i, boxes):
    """Boxes of sample i, step by step; maps as torchvision has them: the box around four corners, cut off."""
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=SIZE)
    for name, args in calls:
        where = args[0] if name == "flip" else args[1]
        if not where[i]:
            continue
        if name == "flip":
            boxes = F.horizontal_flip(boxes) if len(args) == 1 or args[1] == 1 else F.vertical_flip(boxes)
        elif name == "resize":
            boxes = F.resize(boxes, np.broadcast_to(args[0], (len(where), 2))[i].tolist())
        elif name == "crop":
            boxes = F.crop(boxes, *args[0][i].tolist())
        else:
            height, width = boxes.canvas_size if len(args) < 5 or args[4] is None else args[4][i].tolist()
            corners = boxes.numpy()[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
            points = np.concatenate((corners, np.ones((*corners.shape[:2], 1))), -1) @ np.linalg.inv(args[0][i]).T
            points = points[..., :2] / points[..., 2:]
            around = np.concatenate((points.min(1), points.max(1)), 1).clip(0, (width, height) * 2)
            boxes = tv_tensors.BoundingBoxes(torch.from_numpy(around), format="XYXY", canvas_size=(height, width))
    return boxes


CHAINS = {
    "upside down": [T.RandomVerticalFlip(), T.RandomHorizontalFlip(), T.RandomCrop((150, 200))],
    "detection": [T.RandomZoomOut(9, (1, 2), 0.7), T.RandomIoUCrop(), T.RandomHorizontalFlip(), T.Resize((96, 96))],
    "turned, then cropped": [T.RandomVerticalFlip(), T.RandomRotation(30), T.RandomResizedCrop(64, (0.3, 0.9))],
    "turned, then cropped for boxes": [
        T.RandomRotation(30, expand=True),
        T.RandomIoUCrop(0.4),
        T.RandomPerspective(0.3, 0.5),
        T.RandomVerticalFlip(),
        T.Resize((50, 90)),
    ],
}


@pytest.mark.parametrize("name", CHAINS)
def test_boxes_go_step_by_step(name, monkeypatch):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, (SIZE[1], SIZE[0]), (COUNT, 5, 2, 2))
    boxes = np.concatenate((corners.min(2), corners.max(2)), -1)
    given = Boxes(start=np.arange(COUNT + 1) * 5, xyxy=boxes.reshape(-1, 4))
    calls = record_canvas(monkeypatch)
    plan = compile_plan(CHAINS[name])
    sizes = np.broadcast_to(np.array(SIZE, np.int32), (COUNT, 2))
    draws = plan.draw(seed=4, epoch=0, ids=np.arange(COUNT), sizes=sizes, boxes=given)
    size = (plan.output.height, plan.output.width)
    ours = map_boxes(given.xyxy, np.repeat(np.arange(COUNT), 5), draws, size).reshape(COUNT, 5, 4)
    removed = np.zeros((COUNT, 5), bool) if draws.removed is None else draws.removed.flags.reshape(COUNT, 5)
    assert removed.any() == any(isinstance(step, T.RandomIoUCrop) for step in CHAINS[name])
    for i in range(COUNT):
        theirs = replayed(calls, i, boxes[i])
        assert theirs.canvas_size == size
        assert np.abs(ours[i] - theirs.numpy())[~removed[i]].max(initial=0) < 1e-4
        assert not ours[i][removed[i]].any()
        part = draws.rows(slice(i, i + 1))
        assert np.array_equal(map_boxes(boxes[i], np.zeros(5, int), part, size), ours[i])


def test_keypoints_and_masks_turn_upside_down():
    plan = compile_plan([T.CenterCrop(SIZE), T.RandomVerticalFlip(), T.RandomHorizontalFlip()])
    sizes = np.broadcast_to(np.array(SIZE, np.int32), (20, 2))
    draws = plan.draw(seed=4, epoch=0, ids=np.arange(20), sizes=sizes)
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.integers(0, (SIZE[1], SIZE[0]), (20, 7, 2)), np.ones((20, 7, 1))), -1)
    ours = map_keypoints(points, np.arange(20), draws, SIZE)
    mask = rng.integers(0, 9, SIZE, dtype=np.uint8)
    seen = set()
    for i in range(20):
        theirs = tv_tensors.KeyPoints(torch.from_numpy(points[i, :, :2]), canvas_size=SIZE)
        turned = mask
        vertical, horizontal = bool(draws.flip_vertical[i]), bool(draws.flip[i])
        seen.add((vertical, horizontal))
        if vertical:
            theirs, turned = F.vertical_flip(theirs), turned[::-1]
        if horizontal:
            theirs, turned = F.horizontal_flip(theirs), turned[:, ::-1]
        assert np.array_equal(ours[i, :, :2], theirs.numpy())
        assert np.array_equal(sample_mask(mask, i, draws, SIZE), turned)
    assert len(seen) == 4


def test_masks_of_what_was_turned_and_cropped():
    """A window that is only a part, of a coarse mask: but for the borders of its blocks as if turned, then cropped."""
    plan = compile_plan([T.RandomRotation((25, 25), "bilinear"), T.RandomCrop(80)])
    sizes = np.broadcast_to(np.array(SIZE, np.int32), (20, 2))
    draws = plan.draw(seed=1, epoch=0, ids=np.arange(20), sizes=sizes)
    assert draws.warp.part.any()
    mask = np.kron(np.random.default_rng(0).integers(1, 9, (18, 24), dtype=np.uint8), np.ones((10, 10), np.uint8))
    whole = F.rotate(torch.from_numpy(mask)[None], 25, InterpolationMode.NEAREST, fill=0)[0].numpy()
    again = compile_plan([T.CenterCrop(SIZE), T.RandomRotation((25, 25)), T.Identity()])
    alone = again.draw(seed=1, epoch=0, ids=[0], sizes=sizes[:1])
    assert (sample_mask(mask, 0, alone, SIZE) == whole).mean() > 0.999
    for i in range(20):
        # The crop's corner, from the map of its first pixel.
        inverse = np.linalg.inv(alone.warp.matrix[0, 0])
        shift = draws.window[i, 1::-1] if draws.warp.part[i] else (0, 0)
        x, y, w = inverse @ (*(draws.warp.matrix[i, 0] @ (0, 0, 1))[:2] + shift, 1)
        left, top = round(x / w), round(y / w)
        expected = whole[top : top + 80, left : left + 80]
        assert (sample_mask(mask, i, draws, (80, 80)) == expected).mean() > 0.99
