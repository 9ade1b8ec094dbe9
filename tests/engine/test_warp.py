"""The kernel of composed maps against torchvision v2, against float64, and against numbers that no map has."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.functional import _get_perspective_coeffs
from torchvision.transforms.v2.functional._geometry import _compute_affine_output_size, _get_inverse_affine_matrix

from fastload.engine.cpu.kernels.warp import warp_levels
from tests.jpeg.guarded import Guarded

MODES = ["nearest", "bilinear"]


def warped(image, size, matrices, sizes=None, fills=None, bilinear=1, slack=2):
    matrices = np.asarray(matrices, np.float64).reshape(-1, 9)
    count = len(matrices)
    sizes = np.zeros((count, 2)) if sizes is None else sizes
    fills = np.zeros((count, 3)) if fills is None else fills
    source = np.concatenate([image.reshape(-1), np.full(slack, 0x5A, np.uint8)])
    target = np.full(size[0] * size[1] * 3, 0xA5, np.uint8)
    done = warp_levels(
        source, *image.shape[:2], target, *size, matrices.reshape(-1), np.asarray(sizes, np.int64).reshape(-1),
        np.asarray(fills, np.float64).reshape(-1), count, bilinear,
    )  # fmt: skip
    assert done
    return target.reshape(*size, 3)


def moved(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def centred(six, size, new_size):
    """torchvision's map, which counts from the middles of the images, from their corners."""
    matrix = np.vstack([np.reshape(six, (2, 3)), [0, 0, 1]])
    return moved(size[1] / 2, size[0] / 2) @ matrix @ moved(-new_size[1] / 2, -new_size[0] / 2)


def positions(matrix, size):
    """x and y in the source of the middle of each pixel."""
    y, x = np.indices(size) + 0.5
    points = np.stack([x, y, np.ones_like(x)], -1) @ np.asarray(matrix).reshape(3, 3).T
    return points[..., :2] / points[..., 2:]


def compare(ours, theirs, matrix, size, bilinear):
    """Bilinear: within one level. Nearest: equal, but for positions within a thousandth of a pixel of a border."""
    difference = np.abs(ours.astype(int) - theirs).max(axis=-1)
    if bilinear:
        assert difference.max() <= 1
        return
    place = positions(matrix, size)
    sure = (np.abs(place - np.rint(place)) > 1e-3).all(axis=-1)
    assert sure.mean() > 0.98
    assert not difference[sure].any()


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)


def array(image):
    return image.permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def photographs(coco128):
    files = sorted(coco128.rglob("*.jpg"))[:50]
    assert len(files) == 50
    return [np.asarray(Image.open(file).convert("RGB")).copy() for file in files]


@pytest.mark.parametrize("mode", MODES)
def test_affine_maps_are_torchvisions(photographs, mode):
    rng = np.random.default_rng(1)
    for image in photographs:
        height, width = image.shape[:2]
        fill = rng.integers(0, 256, 3).astype(float).tolist()
        centre = rng.uniform(0, (width, height)).tolist() if rng.random() < 0.5 else None
        parameters = {
            "angle": rng.uniform(-180, 180),
            "translate": rng.integers(-80, 80, 2).tolist(),
            "scale": rng.uniform(0.4, 2.5),
            "shear": rng.uniform(-40, 40, 2).tolist(),
        }
        theirs = v2.functional.affine(
            tensor(image), **parameters, interpolation=InterpolationMode(mode), fill=fill, center=centre
        )
        offset = [0, 0] if centre is None else [centre[0] - width / 2, centre[1] - height / 2]
        six = _get_inverse_affine_matrix(
            offset, *(parameters[name] for name in ("angle", "translate", "scale", "shear"))
        )
        matrix = centred(six, image.shape, image.shape)
        bilinear = int(mode == "bilinear")
        ours = warped(image, image.shape[:2], matrix, fills=fill, bilinear=bilinear)
        compare(ours, array(theirs), matrix, image.shape[:2], bilinear)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distortion", [0.3, 0.6, 0.95])
def test_perspective_maps_are_torchvisions(photographs, mode, distortion):
    rng = np.random.default_rng(2)
    for image in photographs[::2]:
        height, width = image.shape[:2]
        far_y, far_x = int(distortion * (height // 2)) + 1, int(distortion * (width // 2)) + 1
        left, right = rng.integers(0, far_x, 2), rng.integers(width - far_x, width, 2)
        top, bottom = rng.integers(0, far_y, 2), rng.integers(height - far_y, height, 2)
        ends = [[left[0], top[0]], [right[0], top[1]], [right[1], bottom[0]], [left[1], bottom[1]]]
        starts = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
        eight = _get_perspective_coeffs(starts, [[int(x), int(y)] for x, y in ends])
        matrix = np.reshape([*eight, 1.0], (3, 3))
        fill = rng.integers(0, 256, 3).astype(float).tolist()
        theirs = array(
            v2.functional.perspective(
                tensor(image), None, None, coefficients=eight, interpolation=InterpolationMode(mode), fill=fill
            )
        )
        bilinear = int(mode == "bilinear")
        ours = warped(image, image.shape[:2], matrix, fills=fill, bilinear=bilinear)
        # torchvision computes in float32: where it divides by next to nothing its own positions are off by pixels.
        y, x = np.indices(image.shape[:2]) + 0.5
        steep = np.abs(matrix[2, 0] * x + matrix[2, 1] * y + 1) < 0.05
        assert steep.mean() < 0.2
        difference = np.where(steep[..., None], 0, np.abs(ours.astype(int) - theirs))
        compare(difference, 0, matrix, image.shape[:2], bilinear)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("angle", [0, 90, 180, 270, 31.5, -100])
def test_rotations_are_torchvisions(photographs, mode, expand, angle):
    image = photographs[0][:300, :300] if angle % 90 == 0 and not expand else photographs[0]
    theirs = v2.functional.rotate(tensor(image), angle, InterpolationMode(mode), expand=expand, fill=[10.0, 20.0, 30.0])
    six = _get_inverse_affine_matrix([0, 0], -angle, [0, 0], 1.0, [0, 0])
    size = image.shape[:2]
    if expand:
        size = _compute_affine_output_size(six, size[1], size[0])[::-1]
    matrix = centred(six, image.shape, size)
    bilinear = int(mode == "bilinear")
    ours = warped(image, size, matrix, fills=[10, 20, 30], bilinear=bilinear)
    assert ours.shape == array(theirs).shape
    compare(ours, array(theirs), matrix, size, bilinear)


def reference(image, size, matrices, sizes, fills, bilinear):
    """The definition in augment.parameters.Warp, in float64."""
    height, width = image.shape[:2]
    place = positions(matrices[0], size)
    source = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)

    def at(row, column):
        outside = (row < 0) | (column < 0) | (row >= height) | (column >= width)
        levels = source[np.clip(row, -1, height) + 1, np.clip(column, -1, width) + 1]
        return np.where(outside[..., None], 0, levels), ~outside

    if bilinear:
        corner = np.floor(place - 0.5).astype(int)
        right, below = np.moveaxis(place - 0.5 - corner, -1, 0)
        total, mask = 0.0, 0.0
        for down in (0, 1):
            for across in (0, 1):
                weight = (below if down else 1 - below) * (right if across else 1 - right)
                levels, inside = at(corner[..., 1] + down, corner[..., 0] + across)
                total, mask = total + weight[..., None] * levels, mask + weight * inside
        result = mask[..., None] * (total - fills[0]) + fills[0]
    else:
        column, row = np.moveaxis(np.floor(place).astype(int), -1, 0)
        levels, inside = at(row, column)
        result = np.where(inside[..., None], levels, fills[0])
    for matrix, (rows, columns), fill in zip(matrices[1:], sizes[1:], fills[1:], strict=True):
        x, y = np.moveaxis(positions(matrix, size), -1, 0)
        outside = (x < 0) | (y < 0) | (x >= columns) | (y >= rows)
        result = np.where(outside[..., None], fill, result)
    return np.rint(result)


@pytest.mark.parametrize("bilinear", [0, 1])
@pytest.mark.parametrize("seed", range(12))
def test_maps_between_cut_and_paint(seed, bilinear):
    """Two or three images, whose edges cross the output; affine, then perspective ones."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (int(rng.integers(1, 60)), int(rng.integers(1, 60)), 3), np.uint8)
    size = tuple(int(side) for side in rng.integers(1, 70, 2))
    count = int(rng.integers(2, 4))
    sizes = np.vstack([image.shape[:2], rng.integers(10, 80, (count - 1, 2))])
    matrices = []
    for _ in range(count):
        angle, scale = rng.uniform(-math.pi, math.pi), rng.uniform(0.4, 1.5)
        six = [math.cos(angle), -math.sin(angle), rng.uniform(-9, 9), math.sin(angle), math.cos(angle), 0]
        matrix = centred(scale * np.array(six), sizes[len(matrices)], size)
        if seed % 2:
            matrix[2, :2] = rng.uniform(-0.3, 0.3, 2) / max(size)
        matrices.append(matrix)
    fills = rng.integers(0, 256, (count, 3)).astype(float)
    ours = warped(image, size, matrices, sizes, fills, bilinear)
    theirs = reference(image, size, matrices, sizes, fills, bilinear)
    assert np.abs(ours - theirs).max() <= bilinear


@pytest.mark.parametrize("bilinear", [0, 1])
def test_the_identity_changes_nothing(photographs, bilinear):
    image = photographs[3]
    for slack in (0, 2):
        assert np.array_equal(warped(image, image.shape[:2], np.eye(3), bilinear=bilinear, slack=slack), image)
        twice = warped(image, image.shape[:2], 2 * np.eye(3), bilinear=bilinear, slack=slack)
        assert np.array_equal(twice, image)
    for x, y in ((-100, -5), (-100, 500), (1e6, 1e6)):  # beside the image in both directions
        assert (warped(image, (20, 30), moved(x, y), fills=[1, 2, 3], bilinear=bilinear) == (1, 2, 3)).all()
    away = warped(image, (20, 30), moved(1e6, 0), fills=[1, 2, 3], bilinear=bilinear)
    assert (away == (1, 2, 3)).all()


SOURCE, TARGET = Guarded(3 * 40 * 40), Guarded(3 * 40 * 40)
NUMBERS = st.one_of(
    st.floats(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e-300, 5e-324, 1e12, -1e12, 1e9, 2.0**31, -(2.0**63), 1e300, math.nan, math.inf]),
)


@given(
    matrix=st.lists(NUMBERS, min_size=18, max_size=18),
    affine=st.booleans(),
    sides=st.tuples(*[st.integers(1, 40)] * 4),
    sizes=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4),
    count=st.integers(1, 2),
    bilinear=st.integers(-1, 2),
    fills=st.lists(st.floats(), min_size=6, max_size=6),
)
@example(
    matrix=[1.0, 0, -100, 0, 1, -50, 0, 0, 1] * 2,
    affine=True,
    sides=(40, 40, 3, 5),
    sizes=[40] * 4,
    count=1,
    bilinear=1,
    fills=[0.0] * 6,
)
@settings(max_examples=1500, deadline=None)
def test_no_number_leads_outside_of_the_arrays(matrix, affine, sides, sizes, count, bilinear, fills):
    """The arrays end where unmapped pages begin, and begin where they end: a byte too far kills the process."""
    height, width, out_height, out_width = sides
    if affine:
        matrix[6:9] = matrix[15:18] = [0.0, 0.0, 1.0]
    arguments = np.array(matrix), np.array(sizes, np.int64), np.array(fills), count, bilinear
    results = []
    for at_end in (True, False):
        source, target = (
            memory.empty(3 * rows * columns, at_end)
            for memory, rows, columns in ((SOURCE, height, width), (TARGET, out_height, out_width))
        )
        source[:], target[:] = 7, 0xA5
        assert warp_levels(source, height, width, target, out_height, out_width, *arguments)
        results.append(target.copy())
    assert np.array_equal(*results)


def test_what_does_not_fit_is_left_alone():
    source, target, matrix, sizes, fills = (
        np.zeros(27, np.uint8),
        np.full(12, 9, np.uint8),
        np.eye(3),
        [2, 2],
        [0.0] * 3,
    )
    rest = (matrix.reshape(-1), np.array(sizes), np.array(fills))
    assert warp_levels(source, 3, 3, target, 2, 2, *rest, 1, 1)
    target[:] = 9
    for height, width, rows, columns, count in [
        (3, 4, 2, 2, 1), (4, 3, 2, 2, 1), (0, 3, 2, 2, 1), (3, -1, 2, 2, 1), (3, 3, 2, 3, 1), (3, 3, 0, 2, 1),
        (3, 3, 2, 2, 0), (3, 3, 2, 2, 2), (2**62, 2**62, 2, 2, 1), (3, 3, 2**62, 2**62, 1), (-3, -3, 2, 2, 1),
        (1, (2**64 + 2) // 3, 2, 2, 1), (3, 3, 1, (2**64 + 2) // 3, 1),
    ]:  # fmt: skip
        assert not warp_levels(source, height, width, target, rows, columns, *rest, count, 1)
    assert (target == 9).all()
