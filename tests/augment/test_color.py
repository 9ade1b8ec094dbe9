"""Colours: numbers drawn as torchvision draws them, operations that are torchvision's, places that make no sense."""

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

FACTORS = {
    Code.BRIGHTNESS: "brightness_factor",
    Code.CONTRAST: "contrast_factor",
    Code.SATURATION: "saturation_factor",
    Code.HUE: "hue_factor",
}
JITTER = {"brightness": 0.4, "contrast": (0.5, 1.75), "saturation": 0.2, "hue": 0.1}
SQUARE = [T.CenterCrop(64)]


def programs(chain, count, **options):
    program = draw([*SQUARE, *chain], count, **options).after
    return [operations(program, sample) for sample in range(count)]


def jitter_params(steps):
    """What torchvision's ColorJitter would have drawn to do these operations."""
    codes = list(FACTORS)
    params = dict.fromkeys(FACTORS.values())
    params |= {FACTORS[code]: float(values[0]) for code, values in steps}
    order = [codes.index(code) for code, _ in steps]
    return params | {"fn_idx": torch.tensor(order + [i for i in range(4) if i not in order])}


def distort_params(steps):
    """Likewise for RandomPhotometricDistort."""
    codes = [code for code, _ in steps]
    params = dict.fromkeys(FACTORS.values()) | {"channel_permutation": None}
    params |= {FACTORS[code]: float(values[0]) for code, values in steps if code in FACTORS}
    if codes and codes[-1] == Code.PERMUTE:
        params["channel_permutation"] = [int(channel) for channel in steps[-1][1][:3]]
    later = [code for code in codes if code in (Code.SATURATION, Code.HUE)]
    before = Code.CONTRAST in codes and (not later or codes.index(Code.CONTRAST) < codes.index(later[0]))
    return params | {"contrast_before": before}


@pytest.mark.parametrize(
    ("ours", "theirs", "params"),
    [
        (T.ColorJitter(**JITTER), v2.ColorJitter(**JITTER), jitter_params),
        (T.ColorJitter(contrast=0.4, hue=(-0.2, 0.5)), v2.ColorJitter(contrast=0.4, hue=(-0.2, 0.5)), jitter_params),
        (T.RandomPhotometricDistort(), v2.RandomPhotometricDistort(), distort_params),
        (
            T.RandomChannelPermutation(),
            v2.RandomChannelPermutation(),
            lambda steps: {"permutation": [int(channel) for channel in steps[0][1][:3]]},
        ),
    ],
)
def test_the_same_choices_give_the_same_image(monkeypatch, ours, theirs, params):
    image = picture()
    for steps in programs([ours], 40):
        drawn = params(steps)
        monkeypatch.setattr(theirs, "make_params", lambda _, drawn=drawn: drawn)
        assert torch.equal(execute(image, steps), theirs(image))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomGrayscale", {}),
        ("RandomInvert", {}),
        ("RandomPosterize", {"bits": 3}),
        ("RandomSolarize", {"threshold": 99.5}),
        ("RandomAutocontrast", {}),
        ("RandomEqualize", {}),
    ],
)
@pytest.mark.parametrize("p", [None, 0.0, 0.3, 1.0])
def test_done_as_often_as_asked_and_as_torchvision_does_it(name, arguments, p):
    chosen = {} if p is None else {"p": p}
    ours, theirs = getattr(T, name)(**arguments, **chosen), getattr(v2, name)(**arguments, p=1.0)
    count, image = 20_000, picture()
    if p is None:
        p = getattr(v2, name)(**arguments).p
    program = draw([*SQUARE, ours], count).after
    share = 0.0 if program is None else (np.diff(program.start) == 1).mean()
    assert abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / count)
    assert program is None or np.diff(program.start).max() == 1
    if p:
        assert torch.equal(execute(image, operations(program, int(np.diff(program.start).argmax()))), theirs(image))


def test_grayscale_is_always_done_and_has_three_channels():
    assert [code for steps in programs([T.Grayscale()], 5) for code, _ in steps] == [Code.GRAYSCALE] * 5
    assert torch.equal(execute(picture(), [(Code.GRAYSCALE, ())]), v2.Grayscale(3)(picture()))


def theirs_drawn(transform, count):
    torch.manual_seed(1)
    image = [torch.zeros(3, 4, 4)]
    return [transform.make_params(image) for _ in range(count)]


@pytest.mark.parametrize("count", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_jitter_is_distributed_as_torchvision_draws_it(count):
    program = draw([*SQUARE, T.ColorJitter(**JITTER)], 100_000).after
    codes, values = program.code.reshape(-1, 4), program.values[:, 0].reshape(-1, 4)
    expected = theirs_drawn(v2.ColorJitter(**JITTER), count)
    positions = np.argsort(codes, axis=1)
    ours = np.take_along_axis(values, positions, axis=1)
    for column, name in enumerate(FACTORS.values()):
        assert same_distribution(ours[:, column], [params[name] for params in expected])
        assert independent(ours[:, column], ours[:, column - 1])
        assert independent(ours[:, column], positions[:, 0])
    # Orders as numbers in base 4; all 24 of them.
    base = 4 ** np.arange(4)
    orders = (codes - 1) @ base
    assert len(np.unique(orders)) == 24
    assert same_shares(orders, np.array([params["fn_idx"].numpy() for params in expected]) @ base)


@pytest.mark.parametrize("count", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_distortion_is_distributed_as_torchvision_draws_it(count):
    ours = [distort_params(steps) for steps in programs([T.RandomPhotometricDistort()], 20_000)]
    theirs = theirs_drawn(v2.RandomPhotometricDistort(), count)
    for name in FACTORS.values():
        first, second = ([params[name] for params in drawn if params[name] is not None] for drawn in (ours, theirs))
        assert same_distribution(first, second)

    def choices(drawn):
        numbers = []
        for params in drawn:
            order = params["channel_permutation"]
            swap = 0 if order is None else 1 + sum(int(channel) * 3**place for place, channel in enumerate(order))
            done = [params[name] is not None for name in FACTORS.values()]
            # Where contrast stands shows only where it can be told apart.
            told = done[1] and (done[2] or done[3])
            numbers.append(np.array([*done, told and params["contrast_before"], swap]) @ [1, 2, 4, 8, 16, 32])
        return numbers

    assert same_shares(choices(ours), choices(theirs))


def test_channels_are_permuted_in_all_ways_alike():
    program = draw([*SQUARE, T.RandomChannelPermutation()], 60_000).after
    orders = program.values[:, :3] @ [1, 3, 9]
    theirs = [params["permutation"].numpy() @ [1, 3, 9] for params in theirs_drawn(v2.RandomChannelPermutation(), 4000)]
    assert same_shares(orders.astype(int), theirs)


def test_a_sample_does_not_depend_on_its_batch():
    chain = [*SQUARE, T.ColorJitter(**JITTER), T.RandomGrayscale(0.5), T.RandomPhotometricDistort()]
    whole = draw(chain, 50).after
    for ids in ([7], [3, 49, 0], list(range(20, 35))):
        part = draw(chain, 0, ids=ids).after
        for row, sample in enumerate(ids):
            ours, expected = operations(part, row), operations(whole, sample)
            assert [code for code, _ in ours] == [code for code, _ in expected]
            assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(ours, expected, strict=True))


def test_golden_values():
    # A change of these numbers changes the augmentation of every run with a given seed.
    steps = programs([T.ColorJitter(0.4, 0.4, 0.4, 0.1), T.RandomGrayscale(0.5)], 3)
    assert [[(code.name, float(values[0])) for code, values in sample] for sample in steps] == GOLDEN


GOLDEN = [
    [
        ("HUE", -0.0828684269450605),
        ("SATURATION", 0.6913418892771005),
        ("CONTRAST", 1.2001217775046826),
        ("BRIGHTNESS", 1.3636777007952332),
    ],
    [
        ("SATURATION", 0.7374389370903373),
        ("CONTRAST", 1.23622722979635),
        ("HUE", 0.0915708380751312),
        ("BRIGHTNESS", 0.9255683233961463),
    ],
    [
        ("CONTRAST", 0.6067624904215335),
        ("SATURATION", 1.2461240965873004),
        ("HUE", 0.06973610701970756),
        ("BRIGHTNESS", 0.6048601031303406),
        ("GRAYSCALE", 0.0),
    ],
]


def test_before_and_after_the_first_geometric_step():
    draws = draw([T.RandomInvert(1.0), T.Resize((32, 32)), T.RandomPosterize(3, 1.0)], 2)
    assert draws.before.code.tolist() == [Code.INVERT] * 2
    assert draws.after.code.tolist() == [Code.POSTERIZE] * 2
    assert draws.after.values[:, :2].tolist() == [[3, 0]] * 2


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([T.ToDtype(scale=True), T.Normalize([0.5], [0.5]), T.ColorJitter(0.4)], "put it before the Normalize"),
        ([T.ColorJitter(0.4), T.RandomResizedCrop(8)], "put RandomResizedCrop before it"),
    ],
)
def test_refusals_say_what_to_do(chain, words):
    with pytest.raises(ConfigError) as caught:
        compile_plan([*SQUARE, *chain])
    assert words in str(caught.value)


def test_flips_and_conversions_may_follow():
    chain = [*SQUARE, T.ToDtype(scale=True), T.ColorJitter(0.4), T.RandomHorizontalFlip(), T.Normalize([0.5], [0.5])]
    assert compile_plan(chain).output.dtype == "float32"
