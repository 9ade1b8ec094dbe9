"""Policies: torchvision's tables, its choices as often as it makes them, and its images where choices are the same."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import _auto_augment as theirs

from fastload import transforms as T
from fastload.augment import policies, policy_tables
from fastload.augment.distributions import GAMMA_BLOCKS
from fastload.augment.program import Code
from fastload.augment.rng import integers, random_words
from tests.augment.executor import draw, execute, operations, picture
from tests.augment.statistics import independent, same_distribution, same_shares

SQUARE, OBLONG = [T.CenterCrop(64)], [T.CenterCrop((57, 90))]
NAMES = policy_tables.NAMES
WEAK = ("Identity", "AutoContrast", "Equalize", "Invert")  # without a strength
SPACES = {
    "RAND": (policy_tables.RAND, theirs.RandAugment._AUGMENTATION_SPACE),
    "TRIVIAL": (policy_tables.TRIVIAL, theirs.TrivialAugmentWide._AUGMENTATION_SPACE),
    "MIX": (policy_tables.MIX, theirs.AugMix._AUGMENTATION_SPACE),
    "MIX_PART": (policy_tables.MIX_PART, theirs.AugMix._PARTIAL_AUGMENTATION_SPACE),
}


def words_of(count, samples, first_block=0):
    """The words that the first random transform of ``draw`` takes."""
    blocks = first_block + np.arange((count + 3) // 4)[:, None]
    words = random_words(np.arange(samples), seed=7, epoch=0, transform=0, block=blocks)
    return words.transpose(1, 0, 2).reshape(-1, samples)[:count]


class Script:
    """torch, but for random numbers that are read out, and strengths without rounding."""

    def __init__(self, integers, uniforms):
        self.integers, self.uniforms = list(integers), list(uniforms)

    def __getattr__(self, name):
        return getattr(torch, name)

    def randint(self, *args, **kwargs):
        return torch.tensor(self.integers.pop(0))

    def rand(self, size):
        return torch.tensor(float(self.uniforms.pop(0)))

    def linspace(self, start, end, steps):
        return torch.from_numpy((start * np.arange(steps - 1, -1, -1) + end * np.arange(steps)) / (steps - 1))


def told(choice, sample, *, step):
    """Whole numbers and uniform ones that make torchvision take a choice, after its operation."""
    name = NAMES[choice.operation[sample]]
    wholes = [] if name in WEAK or not step else [int(choice.step[sample])]
    return wholes, [1 - choice.negative[sample]] if name in policy_tables.SIGNED else []


def place(choice, sample, space):
    return space.names.index(NAMES[choice.operation[sample]])


def run(monkeypatch, transform, image, wholes, uniforms):
    script = Script(wholes, uniforms)
    monkeypatch.setattr(theirs, "torch", script)
    result = transform(image)
    assert not script.integers
    assert not script.uniforms
    return result


# ---------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("bins", [2, 10, 31, 57])
@pytest.mark.parametrize("name", SPACES)
def test_strengths_are_those_of_torchvision(name, bins):
    ours, space = SPACES[name]
    assert ours.names == tuple(space)
    table, steps = ours.strengths(bins), np.arange(bins)
    for operation, (magnitudes, signed) in space.items():
        expected = magnitudes(bins, 200, 301)
        assert signed == (operation in policy_tables.SIGNED)
        if expected is None:
            assert operation in WEAK
            continue
        mine = table[NAMES.index(operation)]
        if operation.startswith("Translate"):
            side = 301 if operation.endswith("X") else 200
            # torchvision's come in float32, and are cut off later.
            mine = ours.shifts(np.full(bins, side), steps, bins)
            expected = (expected.double() + 1e-4).to(torch.int64)
        if operation == "Solarize":
            expected = 255 * expected
        assert np.allclose(mine, expected.numpy(), rtol=3e-7, atol=3e-5)


@pytest.mark.parametrize("policy", list(theirs.AutoAugmentPolicy))
def test_pairs_are_those_of_torchvision(policy):
    expected = theirs.AutoAugment(policy)._policies
    ours = policy_tables.PAIRS[policy.value]
    assert [[(n, p / 10, None if n in WEAK else m) for n, p, m in pair] for pair in ours] == [
        [tuple(part) for part in pair] for pair in expected
    ]


# ---------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"fill": (10, 200, 90)}, {"interpolation": "bilinear"}, {"interpolation": "bilinear", "fill": 99}]
)
class TestTheSameChoicesGiveTheSameImage:
    count = 9

    def check(self, monkeypatch, square, ours, transform, script):
        crop = SQUARE if square else OBLONG
        program = draw([*crop, ours], self.count, size=(100, 100)).after
        image = picture(*crop[0].size)
        for sample in range(self.count):
            expected = run(monkeypatch, transform, image, *script(sample))
            assert torch.equal(execute(image, operations(program, sample)), expected)

    @pytest.mark.parametrize("policy", list(theirs.AutoAugmentPolicy))
    def test_auto_augment(self, monkeypatch, square, options, policy):
        ours, words = T.AutoAugment(policy, **options), words_of(5, self.count)
        choices = policies.auto_choices(ours, words)

        def script(sample):
            uniforms = []
            for choice in choices:
                done = choice.done[sample]
                uniforms += [0 if done else 2, *(told(choice, sample, step=False)[1] if done else [])]
            return [int(integers(words[0], 25)[sample])], uniforms

        self.check(monkeypatch, square, ours, theirs.AutoAugment(policy, **options), script)

    @pytest.mark.parametrize("strength", [{}, {"num_ops": 3, "magnitude": 14, "num_magnitude_bins": 15}])
    def test_rand_augment(self, monkeypatch, square, options, strength):
        ours = T.RandAugment(**strength, **options)
        choices = policies.rand_choices(ours, words_of(2 * ours.num_ops, self.count))

        def script(sample):
            wholes = [place(choice, sample, policy_tables.RAND) for choice in choices]
            return wholes, [u for choice in choices for u in told(choice, sample, step=False)[1]]

        self.check(monkeypatch, square, ours, theirs.RandAugment(**strength, **options), script)

    def test_trivial_augment(self, monkeypatch, square, options):
        ours = T.TrivialAugmentWide(**options)
        choice = policies.trivial_choice(ours, words_of(3, self.count))

        def script(sample):
            wholes, uniforms = told(choice, sample, step=True)
            return [place(choice, sample, policy_tables.TRIVIAL), *wholes], uniforms

        self.check(monkeypatch, square, ours, theirs.TrivialAugmentWide(**options), script)

    @pytest.mark.parametrize("chains", [{}, {"all_ops": False, "chain_depth": 2, "severity": 10, "mixture_width": 2}])
    def test_aug_mix(self, monkeypatch, square, options, chains):
        ours = T.AugMix(**({"interpolation": "nearest"} | options), **chains)
        transform = theirs.AugMix(**({"interpolation": "nearest"} | options), **chains)
        space = policies.mix_space(ours)
        count = (1 + 3 * policies.mix_depth(ours)) * ours.mixture_width
        first = (2 + ours.mixture_width) * GAMMA_BLOCKS
        mixed = policies.mix_choices(ours, words_of(count, self.count, first))
        crop = SQUARE if square else OBLONG
        program = draw([*crop, ours], self.count, size=(100, 100)).after

        def script(sample):
            wholes, uniforms = [], []
            for chain in mixed:
                done = [choice for choice in chain if choice.done[sample]]
                wholes += [len(done)] if ours.chain_depth < 0 else []
                for choice in done:
                    more, ways = told(choice, sample, step=True)
                    wholes += [place(choice, sample, space), *more]
                    uniforms += ways
            weights = [values[0] for code, values in operations(program, sample) if code == Code.ADD]
            own = [values[0] for code, values in operations(program, sample) if code == Code.MIXED]
            sampled = [torch.tensor([[*own, 1.0]], dtype=torch.float32), torch.tensor([weights], dtype=torch.float32)]
            monkeypatch.setattr(transform, "_sample_dirichlet", lambda _: sampled.pop(0))
            return wholes, uniforms

        self.check(monkeypatch, square, ours, transform, script)


# ---------------------------------------------------------------------------------------------------- statistics

COUNT = pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
SAMPLES = 100_000


def recorded(monkeypatch, transform, count):
    """What torchvision draws: for each image, operations and strengths."""
    lists = []

    def note(self, image, name, magnitude, **_):
        lists[-1].append((name, round(magnitude, 3)))
        return image

    monkeypatch.setattr(theirs._AutoAugmentBase, "_apply_image_or_video_transform", note)
    torch.manual_seed(1)
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    for _ in range(count):
        lists.append([])
        transform(image)
    return lists


def drawn(choice, space, bins):
    """Names and strengths of a choice, in torchvision's words."""
    strength = space.strengths(bins)[choice.operation, choice.step]
    shift = (choice.operation == policy_tables.TRANSLATE_X) | (choice.operation == policy_tables.TRANSLATE_Y)
    exact = space.shift[0] * (64 if space.relative else 1) * choice.step / (space.shift[1] * (bins - 1))
    strength = np.where(shift, exact, strength)
    strength = np.where(choice.operation == NAMES.index("Solarize"), strength / 255, strength)
    signed = np.isin(choice.operation, [NAMES.index(name) for name in policy_tables.SIGNED])
    strength = np.where(choice.negative & signed, -strength, strength)
    return list(zip(np.array(NAMES)[choice.operation].tolist(), np.round(strength, 3).tolist(), strict=True))


def alike(ours, expected):
    kinds = {kind: number for number, kind in enumerate(sorted({*ours, *expected}))}
    assert set(expected) <= set(ours)
    return same_shares([kinds[kind] for kind in ours], [kinds[kind] for kind in expected])


@COUNT
def test_rand_augment_draws_as_torchvision_does(monkeypatch, count):
    ours = T.RandAugment()
    choices = [drawn(c, policy_tables.RAND, 31) for c in policies.rand_choices(ours, words_of(4, SAMPLES))]
    theirs_drawn = recorded(monkeypatch, theirs.RandAugment(), count)
    for number in range(2):
        assert alike(choices[number], [steps[number] for steps in theirs_drawn])
    first, second = ([kind[0] for kind in choice] for choice in choices)
    assert same_shares(
        [NAMES.index(a) * 20 + NAMES.index(b) for a, b in zip(first, second, strict=True)],
        [NAMES.index(a[0]) * 20 + NAMES.index(b[0]) for a, b in theirs_drawn],
    )


@COUNT
def test_trivial_augment_draws_as_torchvision_does(monkeypatch, count):
    ours = drawn(policies.trivial_choice(T.TrivialAugmentWide(), words_of(3, SAMPLES)), policy_tables.TRIVIAL, 31)
    expected = [steps[0] for steps in recorded(monkeypatch, theirs.TrivialAugmentWide(), count)]
    assert alike(ours, expected)


@COUNT
@pytest.mark.parametrize("policy", list(theirs.AutoAugmentPolicy))
def test_auto_augment_draws_as_torchvision_does(monkeypatch, policy, count):
    choices = policies.auto_choices(T.AutoAugment(policy), words_of(5, SAMPLES))
    parts = [drawn(choice, policy_tables.AUTO, 10) for choice in choices]
    ours = [
        tuple(part[sample] for choice, part in zip(choices, parts, strict=True) if choice.done[sample])
        for sample in range(SAMPLES)
    ]
    assert alike(ours, [tuple(steps) for steps in recorded(monkeypatch, theirs.AutoAugment(policy), count)])


@COUNT
def test_aug_mix_draws_as_torchvision_does(monkeypatch, count):
    policy = T.AugMix()
    words = words_of(30, SAMPLES, 5 * GAMMA_BLOCKS)
    chains = policies.mix_choices(policy, words)
    lengths = [sum(choice.done.astype(int) for choice in chain) for chain in chains]
    expected = recorded(monkeypatch, theirs.AugMix(), count)
    assert same_shares(sum(lengths), [len(steps) for steps in expected])
    assert independent(lengths[0], lengths[1])
    # The last operation of the last chain is one of equals in both.
    assert alike(drawn(chains[0][0], policy_tables.MIX, 10), [steps[0] for steps in expected])
    assert alike(drawn(chains[1][2], policy_tables.MIX, 10), [steps[-1] for steps in expected])


@COUNT
@pytest.mark.parametrize("alpha", [1.0, 0.4, 3.0])
def test_weights_are_distributed_as_torchvision_draws_them(alpha, count):
    program = draw([*SQUARE, T.AugMix(alpha=alpha, mixture_width=2)], 20_000).after
    own = program.values[program.code == Code.MIXED, 0]
    parts = program.values[program.code == Code.ADD, 0].reshape(-1, 2)
    assert np.allclose(own + parts.sum(axis=1), 1)
    torch.manual_seed(1)
    m = torch._sample_dirichlet(torch.full((count, 2), alpha))
    combined = torch._sample_dirichlet(torch.full((count, 2), alpha)) * m[:, 1:]
    assert same_distribution(own, m[:, 0])
    assert same_distribution(parts[:, 0], combined[:, 0])
    assert same_distribution(parts[:, 1], combined[:, 1])


def test_what_changes_nothing_is_left_out():
    assert draw([*SQUARE, T.RandAugment(2, 0, 31)], 300).after.code.tolist().count(Code.WARP) == 0
    program = draw([*SQUARE, T.AugMix(severity=1)], 100).after
    assert not np.isin(program.code, [Code.WARP, Code.BRIGHTNESS, Code.CONTRAST, Code.SATURATION]).any()
    assert np.isin(program.code, [Code.EQUALIZE, Code.SOLARIZE]).any()


def test_golden_values():
    # A change of these numbers changes the augmentation of every run with a given seed.
    chain = [*SQUARE, T.RandAugment(), T.TrivialAugmentWide(), T.AutoAugment("cifar10")]
    steps = [operations(draw(chain, 2).after, sample) for sample in range(2)]
    assert [[(code.name, values[4:10].tolist()) for code, values in sample] for sample in steps] == GOLDEN
    weights = draw([*SQUARE, T.AugMix()], 2).after
    assert weights.values[weights.code == Code.ADD, 0].tolist() == WEIGHTS


GOLDEN = [
    [
        ("EQUALIZE", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ("WARP", [1.0, -0.09, 0.0, 0.0, 1.0, 0.0]),
        ("EQUALIZE", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ("AUTOCONTRAST", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
    [
        (
            "WARP",
            [
                0.9876883405951378,
                -0.15643446504023087,
                5.399875982242979,
                0.15643446504023087,
                0.9876883405951378,
                -4.6119297803317965,
            ],
        ),
        ("WARP", [1.0, -0.0, 0.0, 0.09, 1.0, 0.0]),
        ("SHARPNESS", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ("WARP", [1.0, -0.0, 0.0, 0.0, 1.0, 29.0]),
        ("AUTOCONTRAST", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
]
WEIGHTS = [
    0.009574714679618306,
    0.0010892827976390481,
    0.011067806708141576,
    0.36574319162289554,
    0.06873433498242176,
    0.27654945068703757,
]


def test_three_augment_is_what_it_says():
    draws = draw([*SQUARE, T.ThreeAugment(0.3)], 30_000).after
    first = draws.start[:-1]
    kinds = draws.code[first]
    assert set(kinds) == {Code.GRAYSCALE, Code.SOLARIZE, Code.BLUR}
    assert same_shares(kinds, np.tile([Code.GRAYSCALE, Code.SOLARIZE, Code.BLUR], 10_000))
    assert (np.diff(draws.start) == 4).all()
    assert (draws.values[first][kinds == Code.SOLARIZE, 0] == 128).all()
    sigma = draws.values[first][kinds == Code.BLUR, 2]
    assert same_distribution(sigma, np.linspace(0.1, 2.0, 10_000))
    factors = draws.values[draws.code == Code.SATURATION, 0]
    assert same_distribution(factors, np.linspace(0.7, 1.3, 10_000))
    assert (np.diff(draw([*SQUARE, T.ThreeAugment(0)], 100).after.start) == 1).all()


def test_a_sample_does_not_depend_on_its_batch():
    chain = [T.RandomResizedCrop(64), T.AutoAugment(), T.RandAugment(), T.TrivialAugmentWide(), T.AugMix()]
    whole = draw(chain, 50).after
    for ids in ([7], [3, 49, 0], list(range(20, 35))):
        part = draw(chain, 0, ids=ids).after
        for row, sample in enumerate(ids):
            ours, expected = operations(part, row), operations(whole, sample)
            assert [code for code, _ in ours] == [code for code, _ in expected]
            assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(ours, expected, strict=True))
