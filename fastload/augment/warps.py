"""How rotations, affine and perspective maps and elastic distortions draw."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment.drawing import Drawing
from fastload.augment.maps import ONCE, Matrices, product, scaled, shifted
from fastload.augment.portable import sin_cos
from fastload.augment.program import Code
from fastload.augment.rng import integers, uniform
from fastload.augment.steps import Kind
from fastload.transforms import (
    ElasticTransform,
    Fill,
    Identity,
    RandomAffine,
    RandomPerspective,
    RandomRotation,
    RandomTranslate,
    Transform,
    WarpInterpolation,
)

Numbers = NDArray[np.float64]


def fill_levels(fill: Fill | None) -> tuple[float, float, float]:
    """Levels of what lies outside: red, green and blue; of None those that say that edges fade into black once."""
    if fill is None:
        return ONCE
    return fill if isinstance(fill, tuple) else (fill, fill, fill)


def affine_map(
    angle: Numbers,
    translate: tuple[Numbers, Numbers],
    scale: Numbers,
    shear: tuple[Numbers, Numbers],
    center: tuple[Numbers, Numbers],
    pivot: tuple[Numbers, Numbers] | None = None,
) -> Matrices:
    """From the pixels of the output to those of the input, torchvision's inverse affine matrix, float64 (n, 3, 3).

    Args:
        angle: Degrees, clockwise.
        translate: Shift along x and y in pixels.
        scale: Factor.
        shear: Degrees along x and y.
        center: x and y in the input of what stays where it is.
        pivot: x and y of the same in the output (before the shift), if they are others.
    """
    sine, cosine = sin_cos(angle)
    sine_x, cosine_x = sin_cos(shear[0])
    _, cosine_y = sin_cos(shear[1])
    turned_sine, turned_cosine = sin_cos(angle - shear[1])
    a, c = turned_cosine / cosine_y, turned_sine / cosine_y
    tangent = sine_x / cosine_x
    b, d = -(a * tangent + sine), cosine - c * tangent
    count = len(angle)
    inverse = np.tile(np.eye(3), (count, 1, 1))
    inverse[:, :2, :2] = np.stack((np.stack((d, -b), -1), np.stack((-c, a), -1)), axis=1) / scale[:, None, None]
    x, y = pivot or center
    return product(shifted(*center, count), product(inverse, shifted(-x - translate[0], -y - translate[1], count)))


def _map(
    drawing: Drawing,
    matrix: Matrices,
    where: NDArray[np.bool_],
    fill: Fill | None,
    interpolation: WarpInterpolation,
    sizes: NDArray[np.int64] | None = None,
) -> None:
    """Composes a map with those before it; behind an operation on pixels it is one itself."""
    late = where & drawing.after.touched
    levels, bilinear = fill_levels(fill), interpolation == "bilinear"
    if late.any():
        count = len(late)
        numbers = np.broadcast_to((float(bilinear), *levels), (count, 4))
        drawing.after.add(Code.WARP, np.concatenate((numbers, matrix.reshape(count, 9)), axis=1), late)
    drawing.canvas.map(matrix, where & ~late, levels, bilinear, sizes)


def _center(center: tuple[float, float] | None, drawing: Drawing) -> tuple[Numbers, Numbers]:
    heights, widths = drawing.canvas.heights, drawing.canvas.widths
    if center is None:
        return widths / 2.0, heights / 2.0
    return np.full(len(widths), center[0]), np.full(len(heights), center[1])


def _random_rotation(step: RandomRotation, drawing: Drawing) -> None:
    # torchvision turns the other way here than in an affine map.
    angle = -uniform(drawing.words()[0], *step.degrees)
    zero, sizes = np.zeros_like(angle), None
    center, pivot = _center(step.center, drawing), None
    if step.expand:
        sizes = _expanded(angle, center, drawing.canvas.sizes)
        # The middle of the image is that of the larger one.
        grown = (sizes - drawing.canvas.sizes) / 2.0
        pivot = (center[0] + grown[:, 1], center[1] + grown[:, 0])
    matrix = affine_map(angle, (zero, zero), np.ones_like(angle), (zero, zero), center, pivot)
    _map(drawing, matrix, drawing.active, step.fill, step.interpolation, sizes)


def _expanded(angle: Numbers, center: tuple[Numbers, Numbers], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Height and width that hold all of what was turned, to 1e-4 pixels, as torchvision computes them."""
    sine, cosine = sin_cos(angle)
    half = sizes[:, ::-1] / 2.0
    offset = np.stack(center, axis=-1) - half
    corners = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]]) * half[:, None]
    # The inverse rotation, around the center, in coordinates of the middle.
    x, y = (corners - offset[:, None]).transpose(2, 0, 1)
    across = cosine[:, None] * x + sine[:, None] * y + offset[:, :1] + half[:, :1]
    down = cosine[:, None] * y - sine[:, None] * x + offset[:, 1:] + half[:, 1:]
    result = np.empty_like(sizes)
    for axis, places in ((0, down), (1, across)):
        low, high = (np.trunc(edge(axis=1) * 1e4) * 1e-4 for edge in (places.min, places.max))
        result[:, axis] = np.ceil(high) - np.floor(low)
    return np.maximum(result, 1)


def _shifts(translate: tuple[float, float] | None, drawing: Drawing, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Shifts along x and y in whole pixels, int64 (2, n)."""
    sizes = drawing.canvas.sizes
    if translate is None:
        return np.zeros((2, len(sizes)), np.int64)
    shifts = []
    for share, lengths, word in zip(translate, (sizes[:, 1], sizes[:, 0]), words, strict=True):
        most = share * lengths
        shifts.append(np.rint(uniform(word) * (2.0 * most) - most).astype(np.int64))
    return np.stack(shifts)


def _random_affine(step: RandomAffine, drawing: Drawing) -> None:
    words = np.concatenate((drawing.words(), drawing.words(1)))
    angle = uniform(words[0], *step.degrees)
    shift = _shifts(step.translate, drawing, words[1:3])
    scale = np.ones_like(angle) if step.scale is None else uniform(words[3], *step.scale)
    shear_x, shear_y = np.zeros_like(angle), np.zeros_like(angle)
    if step.shear is not None:
        shear_x = uniform(words[4], *step.shear[:2])
        shear_y = uniform(words[5], *step.shear[2:]) if len(step.shear) == 4 else shear_y
    translate = (shift[0].astype(np.float64), shift[1].astype(np.float64))
    matrix = affine_map(angle, translate, scale, (shear_x, shear_y), _center(step.center, drawing))
    _map(drawing, matrix, drawing.active, step.fill, step.interpolation)


def _random_translate(step: RandomTranslate, drawing: Drawing) -> None:
    shift = _shifts(step.translate, drawing, drawing.words()[:2])
    late = drawing.active & drawing.after.touched
    if late.any():
        x, y = shift.astype(np.float64)
        with drawing.only(late):
            _map(drawing, shifted(-x, -y, len(late)), drawing.active, step.fill, "nearest")
    boxes = np.concatenate((-shift[::-1].T, drawing.canvas.sizes), axis=1)
    # Whole pixels: a crop that reaches beyond the image, which costs nothing.
    levels = np.rint(fill_levels(step.fill))
    drawing.canvas.crop(boxes, drawing.active & ~late, (float(levels[0]), float(levels[1]), float(levels[2])))


def _random_perspective(step: RandomPerspective, drawing: Drawing) -> None:
    sizes = drawing.canvas.sizes
    height, width = sizes.T
    words = np.concatenate([drawing.words(block) for block in (0, 1, 2)])
    where = drawing.active & (uniform(words[8]) < step.p)
    far_y, far_x = ((step.distortion_scale * (side // 2)).astype(np.int64) + 1 for side in (height, width))
    across = [integers(word, far_x) for word in words[0:4]]
    down = [integers(word, far_y) for word in words[4:8]]
    right, below = width - far_x, height - far_y
    corners = (
        (across[0], down[0]),
        (right + across[1], down[1]),
        (right + across[2], below + down[2]),
        (across[3], below + down[3]),
    )
    ends = [(x.astype(np.float64), y.astype(np.float64)) for x, y in corners]
    matrix = _from_quadrilateral(ends, (width - 1).astype(np.float64), (height - 1).astype(np.float64))
    _map(drawing, matrix, where, step.fill, step.interpolation)


def _from_quadrilateral(ends: list[tuple[Numbers, Numbers]], width: Numbers, height: Numbers) -> Matrices:
    """The map that takes four points, clockwise from the upper left, to the corners of a rectangle, float64 (n, 3, 3).

    Heckbert's closed form of the map from the unit square, inverted; no solver, whose bits depend on the machine. Where
    the points are those of no map (an image one pixel wide) it is the identity.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = ends
    right_x, right_y, left_x, left_y = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    rest_x, rest_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = right_x * left_y - left_x * right_y
    with np.errstate(all="ignore"):
        g = (rest_x * left_y - left_x * rest_y) / area
        h = (right_x * rest_y - rest_x * right_y) / area
        a, b, d, e = x1 - x0 + g * x1, x3 - x0 + h * x3, y1 - y0 + g * y1, y3 - y0 + h * y3
        # The adjugate of ((a, b, x0), (d, e, y0), (g, h, 1)).
        matrix = np.stack(
            (
                np.stack((e - y0 * h, x0 * h - b, b * y0 - x0 * e), -1),
                np.stack((y0 * g - d, a - x0 * g, x0 * d - a * y0), -1),
                np.stack((d * h - e * g, b * g - a * h, a * e - b * d), -1),
            ),
            axis=1,
        )
        matrix = product(scaled(width, height, len(width)), matrix)
        matrix = matrix / matrix[:, 2:, 2:]
    good = np.isfinite(matrix).all(axis=(1, 2)) & (np.abs(matrix) < 1e9).all(axis=(1, 2)) & (width > 0) & (height > 0)
    return np.where(good[:, None, None], matrix, np.eye(3))


def _elastic(step: ElasticTransform, drawing: Drawing) -> None:
    count, seeds = len(drawing.ids), drawing.words()[:2].T.astype(np.float64)
    numbers = (float(step.interpolation == "bilinear"), *fill_levels(step.fill), *step.alpha, *step.sigma)
    drawing.add(Code.ELASTIC, np.concatenate((np.broadcast_to(numbers, (count, 8)), seeds), axis=1))


def _identity(_: Identity, __: Drawing) -> None:
    pass


WARPS: Final[dict[type[Transform], Kind]] = {
    ElasticTransform: Kind(_elastic),
    Identity: Kind(_identity, random=False),
    RandomAffine: Kind(_random_affine, geometric=True),
    RandomPerspective: Kind(_random_perspective, geometric=True),
    RandomRotation: Kind(_random_rotation, geometric=True),
    RandomTranslate: Kind(_random_translate, geometric=True),
}
