"""Boxes, keypoints and masks follow the pixels: where what was drawn for an image takes what is marked in it.

Coordinates are those of torchvision v2: pixels, x to the right and y down, the upper left corner of an image at (0, 0).
Boxes are mapped step by step as ``tv_tensors.BoundingBoxes`` are: a crop cuts them off at its edges, and a map that
turns them makes the smallest upright box around their four corners of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastload.augment.elastic import displacements
from fastload.augment.parameters import Draws
from fastload.augment.program import VALUES, Code, Program
from fastload.augment.registry import KINDS
from fastload.errors import ConfigError
from fastload.transforms import Container, Transform
from fastload.transforms.targets import BoxFormat, ConvertBoundingBoxFormat, SanitizeBoundingBoxes, TargetTransform

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TargetRules:
    """What a chain of transforms says about targets.

    Attributes:
        format: Of the boxes that are put out.
        min_size: Width and height in pixels below which a box is dropped with all that belongs to it; None drops none.
        min_area: Likewise, width times height.
    """

    format: BoxFormat = "XYXY"
    min_size: float | None = None
    min_area: float = 1.0


def split_rules(chain: Sequence[Transform]) -> tuple[list[Transform], TargetRules]:
    """The steps on images, and what the others say about targets.

    Raises:
        ConfigError: Geometry follows a SanitizeBoundingBoxes.
    """
    rules, images = TargetRules(), []
    for step in chain:
        if isinstance(step, ConvertBoundingBoxFormat):
            rules = replace(rules, format=step.format)
        elif isinstance(step, SanitizeBoundingBoxes):
            rules = replace(rules, min_size=step.min_size, min_area=step.min_area)
        elif not isinstance(step, TargetTransform):
            if rules.min_size is not None and _moves(step):
                raise ConfigError(f"{step} moves boxes: put SanitizeBoundingBoxes behind it")
            images.append(step)
    return images, rules


def _moves(step: Transform) -> bool:
    """Whether a step is geometric, or a container that holds one that is."""
    if isinstance(step, Container):
        return any(map(_moves, step.transforms))
    return type(step) in KINDS and KINDS[type(step)].geometric


@dataclass(frozen=True)
class _Map:
    """One projective map of the samples ``where``: to points of the image after it from those of the image before."""

    matrix: NDArray[np.float64]  # (n, 3, 3)
    sizes: NDArray[np.float64]  # (n, 2), height and width of the image after it
    where: NDArray[np.bool_]

    def move(self, x: Points, y: Points, rows: NDArray[np.int64], *, corners: bool) -> tuple[Points, Points]:
        """Points (m, k) of the samples ``rows``."""
        return _apply(self.matrix[rows, None], x, y)

    def mirrors(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether left and right change places, bool (m,)."""
        return np.asarray(self.where[rows] & (np.linalg.det(self.matrix[rows]) < 0.0))


@dataclass(frozen=True)
class _Bend:
    """The elastic distortion of the samples ``where``; as torchvision turns it round, which is nearly right."""

    values: NDArray[np.float64]  # (n, VALUES), of a Code.ELASTIC
    sizes: NDArray[np.float64]
    where: NDArray[np.bool_]

    def move(self, x: Points, y: Points, rows: NDArray[np.int64], *, corners: bool) -> tuple[Points, Points]:
        new = np.stack((x, y), axis=-1)
        for row in np.unique(rows[self.where[rows]]).tolist():
            height, width = self.sizes[row].astype(int).tolist()
            moved, mine = displacements(self.values[row], height, width), rows == row
            # torchvision looks at one pixel for each point: of boxes it rounds up, of keypoints down.
            whole = np.ceil(new[mine]) if corners else np.trunc(new[mine])
            places = whole.clip(0, (width - 1, height - 1)).astype(np.int64)
            new[mine] = places - moved[places[..., 1], places[..., 0]]
        return new[..., 0], new[..., 1]

    def mirrors(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.zeros(len(rows), np.bool_)


def map_boxes(
    boxes: Points,
    rows: NDArray[np.int64],
    draws: Draws,
    size: tuple[int, int],
    sources: NDArray[np.int32] | None = None,
) -> Points:
    """Boxes in pixels of the output, float64 (m, 4), cut off at its edges; empty ones have an edge of no length.

    Args:
        boxes: XYXY in pixels of the sources, float64 (m, 4).
        rows: Which sample of ``draws`` each belongs to, int64 (m,).
        draws: What was drawn for n samples.
        size: Height and width of the output.
        sources: Height and width of the sources, (n, 2); only where ``draws.before`` moves pixels.
    """
    boxes = _boxes_through(boxes, rows, _maps_before(draws, sources))
    box = draws.box[rows]
    pitch, shift, sizes = _canvas(draws, rows)
    source = np.stack((box[:, 0], box[:, 1], box[:, 0] + box[:, 2], box[:, 1] + box[:, 3]))
    ends, whole = [], _is_part(draws)[rows]
    for side in (0, 1):  # the two x, then the two y
        axis = 1 - side
        low, high = source[axis][:, None], source[axis + 2][:, None]
        places = (np.clip(boxes[:, side::2], low, high) - low) / pitch[:, axis, None] - shift[:, axis, None]
        edge = np.where(whole, np.inf, sizes[:, axis])[:, None]
        ends.append(np.clip(places, np.where(whole, -np.inf, 0.0)[:, None], edge))
    for side, flip in ((0, draws.flip), (1, draws.flip_vertical)):
        if flip is not None:
            flipped = sizes[:, 1 - side, None] - ends[side][:, ::-1]
            ends[side] = np.where(flip[rows, None], flipped, ends[side])
    mapped = np.stack((ends[0][:, 0], ends[1][:, 0], ends[0][:, 1], ends[1][:, 1]), axis=1)
    mapped = _boxes_through(mapped, rows, _maps(draws, size))
    if draws.removed is not None and len(rows):
        # All boxes of a sample come together, and in the order of the data set.
        place = draws.removed.start[rows] + np.arange(len(rows)) - np.searchsorted(rows, rows)
        mapped[draws.removed.flags[place]] = 0.0
    return mapped


def _boxes_through(boxes: Points, rows: NDArray[np.int64], steps: Iterable[_Map | _Bend]) -> Points:
    """Boxes after one map and the next: upright ones around the four corners of each."""
    for step in steps:
        height, width = step.sizes[rows, 0], step.sizes[rows, 1]
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        x, y = step.move(corners[..., 0], corners[..., 1], rows, corners=True)
        around = np.stack(
            (
                x.min(axis=1).clip(0.0, width),
                y.min(axis=1).clip(0.0, height),
                x.max(axis=1).clip(0.0, width),
                y.max(axis=1).clip(0.0, height),
            ),
            axis=1,
        )
        boxes = np.where(step.where[rows, None], around, boxes)
    return boxes


def map_keypoints(
    points: Points,
    rows: NDArray[np.int64],
    draws: Draws,
    size: tuple[int, int],
    pairs: NDArray[np.int64] | None = None,
    sources: NDArray[np.int32] | None = None,
) -> Points:
    """Keypoints in pixels of the output, float64 (m, k, 3).

    x and y count as torchvision counts those of ``tv_tensors.KeyPoints``: a flip sends x to width - 1 - x. A point that
    has left the image, in between or in the end, gets visibility 0; all points of visibility 0 lie at (0, 0), as in
    COCO's files.

    Args:
        points: x, y and visibility, in pixels of the sources, float64 (m, k, 3).
        rows: Which sample of ``draws`` each object belongs to, int64 (m,).
        draws: What was drawn for n samples.
        size: Height and width of the output.
        pairs: Keypoints that change places where the image is seen in a mirror (left and right), int64 (p, 2).
        sources: As for :func:`map_boxes`.
    """
    box, flip = draws.box[rows], draws.flip[rows]
    pitch, shift, sizes = _canvas(draws, rows)
    x, y, inside, _ = _points_through(points[..., 0], points[..., 1], rows, _maps_before(draws, sources))
    inside &= (x >= box[:, 1, None]) & (x < (box[:, 1] + box[:, 3])[:, None])
    inside &= (y >= box[:, 0, None]) & (y < (box[:, 0] + box[:, 2])[:, None])
    x = (x - box[:, 1, None]) / pitch[:, 1, None] - shift[:, 1, None]
    y = (y - box[:, 0, None]) / pitch[:, 0, None] - shift[:, 0, None]
    x = np.where(flip[:, None], sizes[:, 1, None] - x, x)
    mirrored = flip.copy()
    if draws.flip_vertical is not None:
        y = np.where(draws.flip_vertical[rows, None], sizes[:, 0, None] - y, y)
        mirrored ^= draws.flip_vertical[rows]
    inside &= _within(x, y, sizes) | _is_part(draws)[rows, None]
    x, y, stays, turned = _points_through(x, y, rows, _maps(draws, size))
    inside, mirrored = inside & stays, mirrored ^ turned
    if draws.nudge is not None:
        y, x = y + draws.nudge[rows, :1], x + draws.nudge[rows, 1:]
        inside &= (x >= 0.0) & (x < size[1]) & (y >= 0.0) & (y < size[0])
    seen = np.where(inside, points[..., 2], 0.0)
    mapped = np.where(seen[..., None] > 0.0, np.stack((x, y, seen), axis=-1), 0.0)
    if pairs is not None and len(pairs) and len(points):
        order = np.arange(points.shape[1])
        order[pairs[:, 0]], order[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
        mapped = np.where(mirrored[:, None, None], mapped[:, order], mapped)
    return mapped


def _points_through(
    x: Points, y: Points, rows: NDArray[np.int64], steps: Iterable[_Map | _Bend]
) -> tuple[Points, Points, NDArray[np.bool_], NDArray[np.bool_]]:
    """Points (m, k) after one map and the next, which of them no image has lost, and who (m,) is seen in a mirror."""
    inside, mirrored = np.ones(x.shape, np.bool_), np.zeros(len(rows), np.bool_)
    for step in steps:
        where = step.where[rows, None]
        new_x, new_y = step.move(x, y, rows, corners=False)
        x, y = np.where(where, new_x, x), np.where(where, new_y, y)
        inside &= ~where | _within(x, y, step.sizes[rows])
        mirrored ^= step.mirrors(rows)
    return x, y, inside, mirrored


def sanitized(boxes: Points, size: tuple[int, int], rules: TargetRules) -> NDArray[np.bool_]:
    """Which of the boxes stay, bool (m,), as torchvision's SanitizeBoundingBoxes says.

    Args:
        boxes: XYXY, as :func:`map_boxes` gives them.
        size: Height and width of the output.
        rules: What was asked for.
    """
    if rules.min_size is None:
        return np.ones(len(boxes), np.bool_)
    stored = boxes.astype(np.float32)  # as torchvision, in the numbers that are put out
    extent = stored[:, 2:] - stored[:, :2]
    keep: NDArray[np.bool_] = (extent >= np.float32(rules.min_size)).all(axis=1)
    keep &= extent[:, 0] * extent[:, 1] >= np.float32(rules.min_area)
    return keep & (stored >= 0.0).all(axis=1) & (stored <= (size[1], size[0]) * 2).all(axis=1)


def converted(boxes: Points, form: BoxFormat) -> Points:
    """XYXY boxes (m, 4) as XYXY, XYWH or CXCYWH."""
    if form == "XYXY":
        return boxes
    extent = boxes[:, 2:] - boxes[:, :2]
    return np.hstack((boxes[:, :2] if form == "XYWH" else (boxes[:, :2] + boxes[:, 2:]) / 2.0, extent))


def _canvas(draws: Draws, rows: NDArray[np.int64]) -> tuple[Points, Points, Points]:
    """Source pixels for each of the grid, offset and size of the window; vertical first, (m, 2) each."""
    window = draws.window[rows].astype(np.float64)
    return draws.box[rows, 2:] / draws.grid[rows], window[:, :2], window[:, 2:]


def _is_part(draws: Draws) -> NDArray[np.bool_]:
    """Samples whose window is a part of an image of a step, not one, bool (n,): nothing is cut off at its edges."""
    if draws.warp is None or draws.warp.part is None:
        return np.zeros(len(draws.ids), np.bool_)
    return draws.warp.active & draws.warp.part


def _apply(matrix: NDArray[np.float64], x: Points, y: Points) -> tuple[Points, Points]:
    """x and y through matrices (..., 3, 3)."""
    below = matrix[..., 2, 0] * x + matrix[..., 2, 1] * y + matrix[..., 2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):  # a point on the horizon of a perspective
        new_x = (matrix[..., 0, 0] * x + matrix[..., 0, 1] * y + matrix[..., 0, 2]) / below
        new_y = (matrix[..., 1, 0] * x + matrix[..., 1, 1] * y + matrix[..., 1, 2]) / below
    return np.nan_to_num(new_x), np.nan_to_num(new_y)


def _within(x: Points, y: Points, sizes: Points) -> NDArray[np.bool_]:
    return np.asarray((x >= 0.0) & (x < sizes[:, 1, None]) & (y >= 0.0) & (y < sizes[:, 0, None]))


def _maps(draws: Draws, size: tuple[int, int]) -> Iterator[_Map | _Bend]:
    """The maps of ``warp``, from each of its images to the next and at last to the output, and those of ``after``."""
    warp, whole = draws.warp, np.broadcast_to(np.array(size, np.float64), (len(draws.ids), 2))
    if warp is not None:
        back, count = warp.matrix, warp.matrix.shape[1]
        forth = np.linalg.inv(np.where(warp.active[:, None, None, None], back, np.eye(3)))
        for j in range(1, count):
            yield _Map(back[:, j] @ forth[:, j - 1], warp.size[:, j].astype(np.float64), warp.active)
        yield _Map(forth[:, count - 1], whole, warp.active)
    if draws.after is not None:
        yield from _program_maps(draws.after, whole)


def _maps_before(draws: Draws, sources: NDArray[np.int32] | None) -> Iterator[_Map | _Bend]:
    """The maps of ``before``, of the sources onto themselves."""
    if draws.before is not None and np.isin(draws.before.code, (Code.WARP, Code.ELASTIC)).any():
        assert sources is not None, "what is moved before an image is sampled goes by the size of its source"
        yield from _program_maps(draws.before, sources.astype(np.float64))


def _program_maps(program: Program, sizes: NDArray[np.float64]) -> Iterator[_Map | _Bend]:
    """WARPs and ELASTICs of the programs: the first of each sample, then the second, and so on."""
    places = np.flatnonzero((program.code == Code.WARP) | (program.code == Code.ELASTIC))
    samples = np.searchsorted(program.start, places, side="right") - 1
    # Which of its sample's each is.
    turns = np.arange(len(places)) - np.searchsorted(samples, samples, side="left")
    for turn in range(int(turns.max(initial=-1)) + 1):
        bent = (turns == turn) & (program.code[places] == Code.ELASTIC)
        if bent.any():
            values, where = np.zeros((len(sizes), VALUES)), np.zeros(len(sizes), np.bool_)
            values[samples[bent]], where[samples[bent]] = program.values[places[bent]], True
            yield _Bend(values, sizes, where)
        now = (turns == turn) & ~bent
        matrix = np.broadcast_to(np.eye(3), (len(sizes), 3, 3)).copy()
        where = np.zeros(len(sizes), np.bool_)
        matrix[samples[now]] = np.linalg.inv(program.values[places[now], 4:13].reshape(-1, 3, 3))
        where[samples[now]] = True
        yield _Map(matrix, sizes, where)
