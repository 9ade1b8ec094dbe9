"""Geometric transforms through the CPU engine: each as torchvision v2 does it, and chains as their steps one by one."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from fastload import transforms as T
from fastload.augment import compile_plan, warps
from fastload.augment.canvas import Canvas
from fastload.errors import ConfigError
from tests.augment.executor import execute, operations
from tests.engine.helpers import DiskDataset, MemoryDataset, jpeg
from tests.engine.test_programs_engine import deliver, png

SIZE = (240, 320)
COUNT = 50
FILL = (200.0, 10.0, 60.0)


@pytest.fixture(scope="module")
def photographs(coco128):
    """The middles of 50 photographs, and the same as files."""
    pixels = []
    for file in sorted(coco128.rglob("*.jpg")):
        image = torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).copy()).permute(2, 0, 1)
        if image.shape[1] >= SIZE[0] and image.shape[2] >= SIZE[1]:
            pixels.append(F.center_crop(image, SIZE))
    assert len(pixels) >= COUNT
    return pixels[:COUNT], MemoryDataset([png(image.permute(1, 2, 0).numpy()) for image in pixels[:COUNT]])


def drawn(chain, dataset, seed=3):
    ids = np.arange(len(dataset))
    plan = compile_plan([T.CenterCrop(SIZE), *chain])
    return plan, plan.draw(seed=seed, epoch=0, ids=ids, sizes=dataset.sizes(ids))


def results(chain, dataset):
    """Draws, and output images as 3 x H x W."""
    plan, draws = drawn(chain, dataset)
    return draws, torch.from_numpy(deliver(dataset, plan.output, draws)).permute(0, 3, 1, 2)


def record(monkeypatch, name):
    """Arguments with which a function of warps.py is called."""
    calls = []
    function = getattr(warps, name)
    monkeypatch.setattr(warps, name, lambda *args: calls.append(args) or function(*args))
    return calls


def assert_close(ours, theirs, mode, unsure=0.0):
    """Bilinear: within one level. Nearest: equal but for the share of pixels that lie on a border of two."""
    difference = (ours.int() - theirs.int()).abs().amax(dim=-3)
    if mode == "bilinear":
        assert difference.max() <= 1
    else:
        assert (difference > 0).double().mean() <= unsure


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("center", "fill"), [(None, FILL), ((30.0, 200.0), FILL), (None, None)])
def test_rotation(photographs, monkeypatch, mode, center, fill):
    images, dataset = photographs
    calls = record(monkeypatch, "affine_map")
    _, ours = results([T.RandomRotation(180, mode, center=center, fill=fill)], dataset)
    for i, image in enumerate(images):
        levels = None if fill is None else list(fill)
        theirs = F.rotate(image, -calls[0][0][i], InterpolationMode(mode), center=center, fill=levels)
        assert_close(ours[i], theirs, mode, 1e-3)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("angle", [90, 180, 270, 17])
def test_rotation_into_a_larger_image(photographs, mode, angle):
    images, dataset = photographs
    size = F.rotate(images[0], angle, expand=True).shape[-2:]
    _, ours = results([T.RandomRotation((angle, angle), mode, expand=True, fill=FILL), T.CenterCrop(size)], dataset)
    for i, image in enumerate(images[:20]):
        theirs = F.rotate(image, angle, InterpolationMode(mode), expand=True, fill=list(FILL))
        assert_close(ours[i], theirs, mode, 1e-3)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("center", [None, (100.0, 50.0)])
def test_affine(photographs, monkeypatch, mode, center):
    images, dataset = photographs
    calls = record(monkeypatch, "affine_map")
    _, ours = results([T.RandomAffine(60, (0.2, 0.3), (0.5, 2.0), (-20, 20, -10, 30), mode, FILL, center)], dataset)
    angle, translate, scale, shear = calls[0][:4]
    for i, image in enumerate(images):
        theirs = F.affine(
            image,
            float(angle[i]),
            [int(translate[0][i]), int(translate[1][i])],
            float(scale[i]),
            [float(shear[0][i]), float(shear[1][i])],
            InterpolationMode(mode),
            list(FILL),
            center,
        )
        assert_close(ours[i], theirs, mode, 1e-3)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_perspective(photographs, monkeypatch, mode):
    images, dataset = photographs
    calls = record(monkeypatch, "_from_quadrilateral")
    draws, ours = results([T.RandomPerspective(0.5, 0.8, mode, FILL)], dataset)
    height, width = SIZE
    starts = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    assert 5 < (~draws.warp.active).sum() < 20
    for i, image in enumerate(images):
        ends = [[int(x[i]), int(y[i])] for x, y in calls[0][0]]
        theirs = F.perspective(image, starts, ends, InterpolationMode(mode), list(FILL))
        assert_close(ours[i], theirs if draws.warp.active[i] else image, mode, 2e-3)


def test_translation_costs_no_map(photographs, monkeypatch):
    images, dataset = photographs
    draws, ours = results([T.RandomTranslate((0.3, 0.6), FILL)], dataset)
    assert draws.warp is None
    top, left = draws.window[:, :2].T
    assert len(set(top)) > 10
    assert len(set(left)) > 10
    for i, image in enumerate(images):
        theirs = F.affine(image, 0.0, [-int(left[i]), -int(top[i])], 1.0, [0.0, 0.0], fill=list(FILL))
        assert torch.equal(ours[i], theirs)


def test_vertical_flips_are_rows_in_another_order(photographs):
    images, dataset = photographs
    draws, ours = results([T.RandomVerticalFlip(), T.RandomHorizontalFlip()], dataset)
    assert draws.plain
    flips = np.stack((draws.flip_vertical, draws.flip), 1)
    assert len(np.unique(flips, axis=0)) == 4
    for i, image in enumerate(images):
        axes = [axis for axis, flip in zip((-2, -1), flips[i], strict=True) if flip]
        assert torch.equal(ours[i], image.flip(axes))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic", "box", "area"])
@pytest.mark.parametrize("size", [(90, 110), (20, 9), (500, 640)])
def test_vertical_flips_of_every_resampler(photographs, interpolation, size):
    """The blocks of the fast resampler, and the exact one: the same pixels, upside down."""
    dataset = MemoryDataset(photographs[1].files[:8])
    upright = results([T.RandomResizedCrop(size, interpolation=interpolation), T.RandomVerticalFlip(0)], dataset)[1]
    chain = [T.RandomResizedCrop(size, interpolation=interpolation), T.RandomVerticalFlip(1)]
    turned = results(chain, dataset)[1]
    assert torch.equal(turned.flip(-2), upright)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_random_crop_with_a_border(photographs, mode):
    images, dataset = photographs
    fill = FILL if mode == "constant" else 0
    draws, ours = results([T.RandomCrop((200, 300), (30, 20, 10, 40), fill=fill, padding_mode=mode)], dataset)
    assert draws.warp is None
    for i, image in enumerate(images):
        padded = F.pad(image, [30, 20, 10, 40], list(FILL) if mode == "constant" else 0, mode)
        top, left = draws.window[i, :2] + (20, 30)
        theirs = F.crop(padded, int(top), int(left), 200, 300)
        steps = operations(draws.after, i)
        assert bool(steps) == (mode != "constant" and not torch.equal(theirs, F.crop(image, *draws.window[i].tolist())))
        assert torch.equal(ours[i], theirs)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_pad(photographs, mode):
    images, dataset = photographs
    _, ours = results([T.Pad((7, 20), fill=9, padding_mode=mode), T.RandomHorizontalFlip(1)], dataset)
    for i, image in enumerate(images[:20]):
        assert torch.equal(ours[i], F.hflip(F.pad(image, [7, 20], 9, mode)))


def test_random_crop_of_what_is_too_small(photographs):
    images, dataset = photographs
    draws, ours = results([T.RandomCrop((300, 310), pad_if_needed=True, fill=FILL)], dataset)
    assert len(set(draws.window[:, 0])) > 10
    assert draws.window[:, 0].max() <= 0
    for i, image in enumerate(images):
        padded = F.pad(image, [0, 60, 0, 60], list(FILL))
        assert torch.equal(ours[i], F.crop(padded, int(draws.window[i, 0]) + 60, int(draws.window[i, 1]), 300, 310))
    with pytest.raises(ConfigError, match="sample 0 has 240 x 320 pixels there"):
        drawn([T.RandomCrop((300, 310))], dataset)


def test_zoom_out_and_what_follows_it(photographs):
    images, dataset = photographs
    draws, ours = results([T.RandomZoomOut(FILL, (1, 2), 1), T.RandomCrop(SIZE)], dataset)
    assert draws.warp is None
    for i, image in enumerate(images):
        padded = F.pad(image, [320, 240], list(FILL))
        top, left = draws.window[i, :2].tolist()
        assert torch.equal(ours[i], F.crop(padded, top + 240, left + 320, *SIZE))


# ---------------------------------------------------------------------------------------------------- chains


def waves(x, y):
    """A picture that is the same however finely it is sampled."""
    x, y = np.asarray(x)[..., None], np.asarray(y)[..., None]
    colour = np.arange(3)
    return 127 + 55 * np.sin(x / 40 + colour) + 55 * np.cos(y / 33 - colour)


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


def one_by_one(calls, i, height, width):
    """Source coordinates of each output pixel, step after step in float64, and whether it shows the source at all."""
    y, x = np.indices((height, width)) + 0.5
    image = torch.from_numpy(np.stack((x, y, np.ones_like(x))))
    for name, args in calls:
        if name == "flip":
            where, axis = args if len(args) == 2 else (*args, 1)
            image = image.flip(axis + 1) if where[i] else image
        elif name == "resize":
            sizes, where = args[:2]
            if where[i]:
                size = np.broadcast_to(sizes, (len(where), 2))[i].tolist()
                image = F.resize_image(image, size, InterpolationMode.BILINEAR, antialias=True)
        elif name == "crop":
            boxes, where = args[:2]
            if where[i]:
                image = F.crop_image(image, *boxes[i].tolist())
        else:
            matrix, where = args[:2]
            sizes = args[4] if len(args) > 4 else None
            if where[i]:
                size = image.shape[1:] if sizes is None else sizes[i].tolist()
                image = sampled(image, matrix[i], size)
    x, y, seen = image.numpy()
    return x, y, seen


def sampled(image, matrix, size):
    """Bilinear, 0 outside."""
    y, x = np.indices(tuple(size)) + 0.5
    places = np.stack((x, y, np.ones_like(x)), -1) @ matrix.T
    places = places[..., :2] / places[..., 2:]
    grid = torch.from_numpy(2 * places / (image.shape[2], image.shape[1]) - 1)
    return torch.nn.functional.grid_sample(image[None], grid[None], align_corners=False)[0]


AFFINE = T.RandomAffine(30, (0.1, 0.1), (0.8, 1.3), 10, "bilinear", 255)
CHAINS = {
    "rotated, then cropped": [T.RandomRotation(40, "bilinear", fill=255), T.RandomResizedCrop(96, (0.2, 0.8))],
    "rotated, then resized": [T.RandomRotation(40, "bilinear", fill=255), T.Resize(100), T.CenterCrop(90)],
    "cropped, then rotated": [T.RandomResizedCrop(96), T.RandomRotation(40, "bilinear", fill=255)],
    "larger": [T.RandomRotation(40, "bilinear", fill=255), T.Resize((400, 500))],
    "all": [
        T.RandomHorizontalFlip(),
        T.RandomVerticalFlip(),
        T.RandomRotation(20, "bilinear", expand=True, fill=255),
        T.RandomHorizontalFlip(),
        AFFINE,
        T.RandomCrop(230, pad_if_needed=True, fill=255),
        T.RandomPerspective(0.3, 0.7, fill=255),
        T.RandomVerticalFlip(),
        T.Resize((100, 120)),
        T.RandomRotation(10, fill=255, interpolation="bilinear"),
    ],
    "a border, then resized": [T.RandomZoomOut(255, (1, 2.5), 0.8), T.RandomHorizontalFlip(), T.Resize((100, 100))],
    "two borders": [
        T.Pad(10, 255),
        T.RandomCrop((200, 220)),
        T.Pad((3, 9), 254),
        T.RandomResizedCrop(80, (0.5, 1.0)),
        T.Pad(5, 253),
    ],
    "one of": [
        T.RandomChoice(
            [T.RandomRotation(30, "bilinear", fill=255), T.RandomCrop(200), T.RandomVerticalFlip(1), AFFINE]
        ),
        T.RandomApply([T.RandomZoomOut(255, (1, 2), 1), T.RandomPerspective(0.4, 1, fill=255)]),
        T.RandomResizedCrop((70, 90), (0.3, 1.0)),
    ],
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("lossless", [True, False])
def test_a_chain_shows_what_its_steps_show_one_by_one(name, lossless, monkeypatch):
    """A picture of waves of which every output pixel is known: composed to one sampling it lies where it should."""
    rng = np.random.default_rng(1)
    sizes = [tuple(int(side) for side in rng.integers(240, 420, 2)) for _ in range(24)]
    pixels = [np.rint(waves(*(np.indices(size)[::-1] + 0.5))).astype(np.uint8) for size in sizes]
    if lossless:
        dataset = MemoryDataset([png(image) for image in pixels])
    else:  # decoded in part, by the kernel
        dataset = DiskDataset([jpeg(image, quality=100, subsampling=0) for image in pixels])
    calls = record_canvas(monkeypatch)
    plan = compile_plan(CHAINS[name])
    draws = plan.draw(seed=5, epoch=0, ids=np.arange(24), sizes=np.array(sizes, np.int32))
    ours = deliver(dataset, plan.output, draws)
    inside = 0.0
    for i, size in enumerate(sizes):
        x, y, seen = one_by_one(calls, i, *size)
        # Within a pixel of the source's edge a step's own image may have a border that the composed map has not.
        sure = (seen > 0.9999) & (x > 1) & (y > 1) & (x < size[1] - 1) & (y < size[0] - 1)
        inside += sure.mean() / 24
        expected = waves(x, y)
        assert np.abs(ours[i] - expected)[sure].max(initial=0) <= (2.0 if lossless else 5.0)
        # What shows nothing of the source is filled: 255, which waves never are.
        assert (ours[i][seen < 1e-9] > 250).all()
        assert (ours[i][sure] < 250).all()
    assert inside > 0.3


def test_behind_an_operation_maps_are_operations(photographs, monkeypatch):
    """Rotated, mirrored and framed after colours were changed: each as torchvision does it to the finished image."""
    images, dataset = photographs
    calls = record(monkeypatch, "affine_map")
    chain = [
        T.RandomHorizontalFlip(0),
        T.RandomSolarize(100, 1),
        T.RandomRotation(30, fill=9),
        T.RandomHorizontalFlip(1),
        T.RandomVerticalFlip(1),
        T.RandomAffine(20, (0.1, 0.2), interpolation="nearest", fill=5),
    ]
    draws, ours = results(chain, dataset)
    assert draws.warp is None
    for i, image in enumerate(images):
        theirs = F.rotate(F.solarize(image, 100), -calls[0][0][i], fill=9)
        angle, translate = calls[1][0][i], [int(shift[i]) for shift in calls[1][1]]
        theirs = F.affine(F.vflip(F.hflip(theirs)), float(angle), translate, 1.0, [0.0, 0.0], fill=5)
        assert_close(ours[i], theirs, "nearest", 4e-3)
        assert torch.equal(execute(images[0], []), images[0])


def test_windows_are_as_small_as_maps_need():
    """A large source of which a turned part is shown small: little of it is resampled, or decoded."""
    sizes = np.full((50, 2), (1200, 1600), np.int32)
    plan = compile_plan([T.RandomRotation(20, "bilinear"), T.RandomResizedCrop(64, (0.05, 0.2))])
    draws = plan.draw(seed=0, epoch=0, ids=np.arange(50), sizes=sizes)
    assert draws.warp.active.all()
    assert (draws.window[:, 2:] <= 130).all()
    assert (draws.grid < sizes // 2).all()
    # About a pixel of the output for each of the window.
    steps = np.abs(np.linalg.det(draws.warp.matrix[:, 0, :2, :2]))
    assert ((steps > 0.7) & (steps < 1.4)).all()
