"""Erasing: rectangles as torchvision and FFCV draw them, values in the units of their place, and wrong places."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.program import Code
from fastload.errors import ConfigError
from tests.augment.executor import draw, execute, operations, picture
from tests.augment.statistics import independent, same_distribution, same_shares

SQUARE = [T.CenterCrop(64)]
FLOATS = [T.ToDtype(scale=True), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
COUNT = pytest.mark.parametrize("count", [4_000, pytest.param(50_000, marks=pytest.mark.slow)])


def theirs_drawn(transform, shape, count):
    torch.manual_seed(1)
    image = [torch.zeros(3, *shape)]
    return [transform.make_params(image) for _ in range(count)]


@COUNT
@pytest.mark.parametrize("options", [{}, {"scale": (0.3, 0.9), "ratio": (0.2, 8.0)}])
@pytest.mark.parametrize("shape", [(64, 64), (50, 90)])
def test_rectangles_are_distributed_as_torchvision_draws_them(count, options, shape):
    samples = 50_000
    program = draw([T.CenterCrop(shape), T.RandomErasing(1.0, **options)], samples, size=(100, 100)).after
    theirs = theirs_drawn(v2.RandomErasing(1.0, **options), shape, count)
    erased = [params for params in theirs if params["v"] is not None]
    # Shares of images in which no try of ten fits.
    missed = 1 - len(program.code) / samples
    assert abs(missed - (1 - len(erased) / count)) < 5 * np.sqrt(missed * (1 - missed) / count) + 1e-9
    boxes = program.values[:, :4]
    expected = np.array([[params[name] for name in "ijhw"] for params in erased])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= shape).all()
    for column in range(4):
        assert same_distribution(boxes[:, column], expected[:, column])
    for measure in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3], lambda b: b[:, 0] / (shape[0] - b[:, 2])):
        assert same_distribution(measure(boxes), measure(expected))
    assert independent(boxes[:, 0] / (shape[0] - boxes[:, 2]), boxes[:, 1] / (shape[1] - boxes[:, 3]))


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5])
def test_erased_as_often_as_asked(p):
    program = draw([*SQUARE, T.RandomErasing(p, ratio=(1, 1))], 20_000).after
    share = 0.0 if program is None else np.diff(program.start).mean()
    assert abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / 20_000)


@pytest.mark.parametrize("value", [0, 17, 17.9, (1, 2.5, 255)])
def test_levels_are_erased_as_torchvision_erases_them(value):
    program, image = draw([*SQUARE, T.RandomErasing(1.0, value=value)], 10).after, picture()
    for sample in range(10):
        ((code, values),) = operations(program, sample)
        assert code == Code.ERASE
        params = dict(zip("ijhw", map(int, values[:4]), strict=True))
        v = torch.tensor(v2.RandomErasing(value=value).value)[:, None, None]
        assert torch.equal(execute(image, [(code, values)]), v2.functional.erase(image, **params, v=v))


@pytest.mark.parametrize("value", [0.0, 0.5, (0.1, -2.0, 3.5)])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_values_are_those_of_their_place(value, place):
    """Wherever it stands, the erased pixels leave as torchvision's leave the same chain."""
    chain = [T.ToDtype(scale=True), *FLOATS[1:], T.Normalize([0.1, 0.2, 0.3], [2.0, 3.0, 4.0])]
    theirs = [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(FLOATS[1].mean, FLOATS[1].std),
        v2.Normalize((0.1, 0.2, 0.3), (2.0, 3.0, 4.0)),
    ]
    if place == 0:
        value = 77 if value == 0.5 else 0
    full = {"p": 1.0, "scale": (0.5, 0.5), "ratio": (1, 1), "value": value}
    program = draw([*SQUARE, *chain[:place], T.RandomErasing(**full), *chain[place:]], 1).after
    ((code, values),) = operations(program, 0)
    plan = compile_plan([*SQUARE, *chain])
    stored = values[4:7] if code == Code.ERASE_STORED else values[4:7] * plan.output.scale + plan.output.bias
    assert code == (Code.ERASE if place == 0 else Code.ERASE_STORED)
    grey = torch.full((3, 64, 64), 200, dtype=torch.uint8)
    image = v2.Compose([*theirs[:place], v2.RandomErasing(**full), *theirs[place:]])(grey)
    for channel in range(3):
        levels = image[channel].unique()
        assert len(levels) == 2
        assert (levels - stored[channel]).abs().min() < 1e-5


def test_noise_has_a_seed_for_each_sample_and_epoch():
    chain = [*SQUARE, *FLOATS, T.RandomErasing(1.0, ratio=(1, 1), value="random")]
    first, second = (draw(chain, 5_000, epoch=epoch).after for epoch in (0, 1))
    assert (first.code == Code.ERASE_NOISE).all()
    seeds = np.concatenate((first.values, second.values))[:, 4:6]
    assert len(np.unique(seeds, axis=0)) == 10_000
    assert (seeds == np.rint(seeds)).all()
    assert ((seeds >= 0) & (seeds < 2**32)).all()


def test_squares_lie_anywhere_as_those_of_ffcv():
    program = draw([T.CenterCrop((20, 30)), T.Cutout(8, (1, 2, 3))], 60_000).after
    assert (program.code == Code.ERASE).all()
    assert (program.values[:, 2:7] == [8, 8, 1, 2, 3]).all()
    # numpy.random.randint(side - crop_size + 1), for rows and columns.
    assert same_shares(program.values[:, 0], np.tile(np.arange(13), 4000))
    assert same_shares(program.values[:, 1], np.tile(np.arange(23), 2500))
    assert independent(program.values[:, 0], program.values[:, 1])


def test_squares_in_small_images():
    values = draw([T.Cutout(8), *SQUARE], 50, size=(5, 9)).before.values
    assert (values[:, [0, 2, 3]] == [0, 5, 8]).all()
    assert set(values[:, 1]) == {0, 1}


def test_a_sample_does_not_depend_on_its_batch():
    chain = [
        *SQUARE,
        T.Cutout(4),
        *FLOATS,
        T.RandomErasing(0.5, scale=(0.3, 0.9)),
        T.RandomErasing(0.5, value="random"),
    ]
    whole = draw(chain, 200).after
    for ids in ([7], [3, 149, 0], list(range(20, 135))):
        part = draw(chain, 0, ids=ids).after
        for row, sample in enumerate(ids):
            ours, expected = operations(part, row), operations(whole, sample)
            assert [code for code, _ in ours] == [code for code, _ in expected]
            assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(ours, expected, strict=True))


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([*SQUARE, T.RandomErasing(value="random")], "put it behind ToDtype('float32', scale=True) and Normalize"),
        ([*SQUARE, T.RandomErasing(value=-1)], "levels from 0 to 255"),
        ([*SQUARE, T.RandomErasing(value=(0, 0, 256))], "levels from 0 to 255"),
        ([*SQUARE, *FLOATS, T.RandomErasing(), T.ColorJitter(0.1)], "put ColorJitter before"),
        ([T.ToDtype(scale=True), T.RandomErasing(), *SQUARE], "put it behind all that changes sizes"),
        ([*SQUARE, T.ToDtype(scale=True), T.RandomErasing(value="random"), FLOATS[1]], "put it before"),
        ([*SQUARE, *FLOATS, T.Cutout(8)], "put it before the Normalize"),
        ([*SQUARE, T.Cutout(65)], "does not fit into images of 64 x 64"),
    ],
)
def test_refusals_say_what_to_do(chain, words):
    with pytest.raises(ConfigError) as caught:
        compile_plan(chain)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "chain",
    [
        [*SQUARE, T.RandomErasing(), T.ColorJitter(0.1), *FLOATS, T.RandomErasing(), T.RandomErasing(value="random")],
        [*SQUARE, T.ToDtype(scale=True), T.RandomErasing(value="random"), T.ToDtype("float16")],
        [*SQUARE, *FLOATS, T.RandomApply([T.RandomChoice([T.RandomErasing(), T.RandomErasing(value="random")])])],
        [T.RandomErasing(), *SQUARE],
        [*SQUARE, *FLOATS, T.RandomErasing(value="random"), T.RandomHorizontalFlip()],
    ],
)
def test_what_can_be_done_is_not_refused(chain):
    compile_plan(chain).draw(seed=0, epoch=0, ids=[0], sizes=np.full((1, 2), 70, np.int32))
