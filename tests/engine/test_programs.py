"""Operations on pixels: each against torchvision v2 on photographs, chains against their steps, hostile numbers."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fastload.augment.program import VALUES, Code, Program
from fastload.engine.cpu import programs
from fastload.engine.cpu.kernels.studio import new_studio
from fastload.engine.cpu.programs import run_program
from fastload.engine.operations import RANGES, check_operations
from fastload.errors import ConfigError


def through_jpeg(tensor, quality):
    with warnings.catch_warnings():  # torchvision 0.29 announces that it will go
        warnings.simplefilter("ignore", DeprecationWarning)
        return F.jpeg(tensor, quality)


# Operations with their numbers, what torchvision does for them, and how many levels they may differ by.
BLENDS = [0.0, 0.3, 0.77, 1.0, 1.43, 1.9]
CASES = [
    *[(Code.BRIGHTNESS, (f,), lambda t, f=f: F.adjust_brightness(t, f), 0) for f in BLENDS],
    *[(Code.CONTRAST, (f,), lambda t, f=f: F.adjust_contrast(t, f), 0) for f in BLENDS],
    *[(Code.SATURATION, (f,), lambda t, f=f: F.adjust_saturation(t, f), 0) for f in BLENDS],
    *[(Code.SHARPNESS, (f,), lambda t, f=f: F.adjust_sharpness(t, f), 0) for f in BLENDS],
    *[(Code.HUE, (f,), lambda t, f=f: F.adjust_hue(t, f), 0) for f in (-0.5, -0.13, 0.0, 0.25, 0.5)],
    (Code.GRAYSCALE, (), lambda t: F.rgb_to_grayscale(t, 3), 0),
    (Code.INVERT, (), F.invert, 0),
    *[(Code.POSTERIZE, (b,), lambda t, b=b: F.posterize(t, b), 0) for b in (0, 1, 4, 7, 8)],
    *[(Code.SOLARIZE, (b,), lambda t, b=b: F.solarize(t, b), 0) for b in (0.0, 77.5, 128.0, 255.0)],
    (Code.AUTOCONTRAST, (), F.autocontrast, 0),
    (Code.EQUALIZE, (), F.equalize, 0),
    *[
        (Code.GAMMA, (g, k), lambda t, g=g, k=k: F.adjust_gamma(t, g, k), 0)
        for g, k in ((0.5, 1.0), (1.7, 1.0), (0.9, 1.3), (0.0, 1.0))
    ],
    *[
        (Code.PERMUTE, order, lambda t, order=order: F.permute_channels(t, list(order)), 0)
        for order in ((2, 0, 1), (0, 2, 1), (0, 1, 2))
    ],
    *[
        (Code.BLUR, (k, m, s, r), lambda t, k=k, m=m, s=s, r=r: F.gaussian_blur(t, [k, m], [s, r]), 1)
        for k, m, s, r in ((3, 3, 0.5, 0.5), (5, 5, 1.3, 1.3), (23, 23, 2.0, 2.0), (7, 11, 1.1, 2.3), (1, 3, 1.0, 0.1))
    ],
    (
        Code.ERASE,
        (10, 20, 50, 60, 1, 2, 3),
        lambda t: F.erase(t, 10, 20, 50, 60, torch.tensor([1, 2, 3])[:, None, None]),
        0,
    ),
    *[(Code.JPEG, (q,), lambda t, q=q: through_jpeg(t, q), 0) for q in (1, 20, 50, 75, 95, 100)],
    *[
        (
            Code.FRAME,
            (10, 20, 120, 130, number),
            lambda t, name=name: F.pad(t[:, 10:130, 20:150], [20, 10, 74, 94], padding_mode=name),
            0,
        )
        for number, name in ((1, "edge"), (2, "reflect"), (3, "symmetric"))
    ],
]


@pytest.fixture(scope="module")
def photographs(imagenet_sample):
    """Fifty of them, 224 x 224."""
    files = sorted(imagenet_sample.rglob("*.[jJ][pP]*[gG]"))[::8][:50]
    assert len(files) == 50
    images = []
    for path in files:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").resize((224, 224))))
    return images


def as_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def difference(ours, tensor):
    return np.abs(ours.astype(np.int64) - tensor.numpy().transpose(1, 2, 0).astype(np.int64))


@pytest.mark.parametrize(("code", "values", "reference", "tolerance"), CASES)
def test_each_operation_does_what_torchvision_does(photographs, code, values, reference, tolerance):
    for image in photographs:
        off = difference(run_program(image, [code], [values]), reference(as_tensor(image)))
        assert off.max() <= tolerance
        # Blurs are done in 16 bits: where a sum lies near a half, rounding goes the other way now and then.
        assert (off > 0).mean() <= (0.05 if code == Code.BLUR else 0.0)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 3), (5, 70), (7, 4), (4, 5), (64, 64), (65, 127), (300, 11)])
@pytest.mark.parametrize("code", [Code.CONTRAST, Code.EQUALIZE, Code.HUE, Code.SHARPNESS, Code.AUTOCONTRAST, Code.JPEG])
def test_any_size_is_like_torchvision(code, size):
    rng = np.random.default_rng(size[0])
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    reference = {
        Code.CONTRAST: lambda t: F.adjust_contrast(t, 1.7),
        Code.EQUALIZE: F.equalize,
        Code.HUE: lambda t: F.adjust_hue(t, 0.3),
        Code.SHARPNESS: lambda t: F.adjust_sharpness(t, 1.7),
        Code.AUTOCONTRAST: F.autocontrast,
        Code.JPEG: lambda t: through_jpeg(t, 97),
    }[code]
    values = {Code.HUE: 0.3, Code.JPEG: 97}.get(code, 1.7)
    assert difference(run_program(image, [code], [[values]]), reference(as_tensor(image))).max() == 0


def test_every_color_is_like_torchvision():
    """All 16.7 million, in steps of 5 and their neighbours, through what mixes channels."""
    levels = np.unique(np.clip(np.arange(0, 256, 5)[:, None] + [0, 1], 0, 255)).astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(len(levels), -1, 3)
    for code, values, reference in (
        (Code.SATURATION, 0.61, lambda t: F.adjust_saturation(t, 0.61)),
        (Code.HUE, -0.271, lambda t: F.adjust_hue(t, -0.271)),
        (Code.GRAYSCALE, 0.0, lambda t: F.rgb_to_grayscale(t, 3)),
    ):
        assert difference(run_program(colors, [code], [[values]]), reference(as_tensor(colors))).max() == 0


def test_a_chain_is_its_steps_one_by_one(photographs):
    steps = [
        (Code.BRIGHTNESS, 1.3), (Code.INVERT, 0), (Code.CONTRAST, 0.6), (Code.POSTERIZE, 5), (Code.SATURATION, 1.6),
        (Code.EQUALIZE, 0), (Code.AUTOCONTRAST, 0), (Code.SHARPNESS, 1.8), (Code.SOLARIZE, 99), (Code.HUE, 0.1),
    ]  # fmt: skip
    rng = np.random.default_rng(3)
    for image in photographs[:20]:
        chosen = [steps[i] for i in rng.permutation(len(steps))]
        one_by_one = image
        for code, value in chosen:
            one_by_one = run_program(one_by_one, [code], [[value]])
        together = run_program(image, [code for code, _ in chosen], [[value] for _, value in chosen])
        np.testing.assert_array_equal(together, one_by_one)


def test_color_jitter_is_torchvision_s(photographs):
    for number, image in enumerate(photographs):
        torch.manual_seed(number)
        jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
        drawn = jitter.make_params([as_tensor(image)])
        reference = as_tensor(image)
        codes, values = [], []
        functions = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
        names = ["brightness_factor", "contrast_factor", "saturation_factor", "hue_factor"]
        for index in drawn["fn_idx"].tolist():
            factor = float(drawn[names[index]])
            reference = functions[index](reference, factor)
            codes.append([Code.BRIGHTNESS, Code.CONTRAST, Code.SATURATION, Code.HUE][index])
            values.append([factor])
        assert difference(run_program(image, codes, values), reference).max() == 0


def test_sums_of_chains_are_torchvision_s_augmix(photographs):
    for image in photographs[:10]:
        batch = as_tensor(image)
        kept, weights = torch.tensor(0.37), torch.tensor([0.21, 0.3, 0.12])
        mix = kept * batch
        mix.add_(weights[0] * F.posterize(F.equalize(batch), 4))
        mix.add_(weights[1] * F.adjust_sharpness(batch, 1.5))
        mix.add_(weights[2] * batch)
        codes = [Code.SAVE, Code.RESTORE, Code.EQUALIZE, Code.POSTERIZE, Code.ADD, Code.RESTORE, Code.SHARPNESS]
        codes += [Code.ADD, Code.RESTORE, Code.ADD, Code.MIXED]
        first, second, third = (float(weight) for weight in weights)
        values = [[0], [0], [0], [4], [first], [0], [1.5], [second], [0], [third], [float(kept)]]
        assert difference(run_program(image, codes, values), mix.to(torch.uint8)).max() == 0


def test_a_color_matrix_is_the_same_in_numpy(photographs):
    matrix = np.array([[0.4, 0.5, 0.1, 3.0], [-0.2, 1.1, 0.2, -9.5], [0.3, 0.3, 0.6, 0.25]])
    for image in photographs[:10]:
        exact = np.clip(image @ matrix[:, :3].T + matrix[:, 3], 0, 255)
        ours = run_program(image, [Code.COLOR_MATRIX], [matrix.reshape(-1)])
        # Cut off: where float32 lies on the other side of a whole number, one level less or more.
        assert np.abs(ours - exact).max() <= 1.0001
        assert (ours != np.floor(exact)).mean() < 0.001


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 0.1), (0.05, 0.02), (-0.1, 0.3)])
def test_noise_is_normal_and_like_torchvision_s(mean, sigma):
    grey = np.full((400, 400, 3), 128, np.uint8)
    noise = run_program(grey, [Code.NOISE], [[mean, sigma, 1, 123, 4_000_000_000]]).astype(np.int64) - 128
    reference = (
        F.gaussian_noise(torch.full((3, 400, 400), 128, dtype=torch.uint8), mean, sigma).numpy().astype(int) - 128
    )
    assert abs(noise.mean() - reference.mean()) < 6 * 255 * sigma / np.sqrt(noise.size)
    assert abs(noise.std() / reference.std() - 1) < 0.01
    quantiles = np.linspace(0.01, 0.99, 21)
    np.testing.assert_allclose(np.quantile(noise, quantiles), np.quantile(reference, quantiles), atol=1.01)
    # Neither the channels nor the neighbours of a pixel know of each other.
    for one, other in itertools.combinations(noise.reshape(-1, 3).T, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.015
    for one, other in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[:200], noise[200:])):
        assert abs(np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1]) < 0.01


def test_noise_depends_on_its_seed_and_wraps_where_it_is_not_clipped():
    white = np.full((40, 50, 3), 255, np.uint8)
    clipped, again, other = (
        run_program(white, [Code.NOISE], [[0.0, 0.1, clip, 7, word]]) for clip, word in ((1, 8), (1, 8), (1, 9))
    )
    np.testing.assert_array_equal(clipped, again)
    assert (clipped != other).mean() > 0.3
    wrapped = run_program(white, [Code.NOISE], [[0.0, 0.1, 0, 7, 8]])
    np.testing.assert_array_equal(wrapped[clipped < 255], clipped[clipped < 255])
    assert wrapped[clipped == 255].min() == 0


def elastic_reference(image, values):
    """torchvision's elastic with a displacement that is its own, but for the noise."""
    from fastload.engine.cpu.kernels.noise import share
    from fastload.jit import kernel

    @kernel
    def fill(out, first, key, key_2):
        for i in range(out.size):
            out[i] = share(first + i, key, key_2)

    smooth, *fills, alpha_x, alpha_y, sigma_x, sigma_y, key, key_2 = values
    height, width = image.shape[:2]
    parts = []
    for axis, (alpha, sigma, size) in enumerate(((alpha_x, sigma_x, width), (alpha_y, sigma_y, height))):
        noise = np.empty(height * width, np.float32)
        fill(noise, axis * noise.size, key, key_2)
        moved = torch.from_numpy(noise.reshape(1, 1, height, width)) * 2 - 1
        if sigma > 0:
            taps = int(8 * sigma + 1) | 1
            moved = F.gaussian_blur(moved, [taps, taps], [sigma_x, sigma_y])
        parts.append(moved * alpha / size)
    displacement = torch.concat(parts, 1).permute([0, 2, 3, 1])
    mode = v2.InterpolationMode.BILINEAR if smooth else v2.InterpolationMode.NEAREST
    return F.elastic(as_tensor(image), displacement, mode, list(fills))


@pytest.mark.parametrize("smooth", [0, 1])
def test_elastic_is_torchvision_s_but_for_the_noise(photographs, smooth):
    for number, image in enumerate(photographs[::4]):  # torchvision takes 0.2 s for one
        values = (smooth, 10.0, 200.0, 30.0, 50.0, 70.0, 5.0, 4.0, number, 12)
        off = difference(run_program(image, [Code.ELASTIC], [values]), elastic_reference(image, values))
        if smooth:
            assert off.max() <= 1
        assert (off > 0).mean() < 0.005


def test_unknown_operations_and_wild_numbers_are_refused():
    image = np.zeros((4, 4, 3), np.uint8)
    for code, values in (
        (0, []),
        (99, []),
        (Code.BRIGHTNESS, [np.nan]),
        (Code.BRIGHTNESS, [-1.0]),
        (Code.CONTRAST, [np.inf]),
        (Code.HUE, [0.6]),
        (Code.POSTERIZE, [9]),
        (Code.POSTERIZE, [2.5]),
        (Code.PERMUTE, [0, 3, 1]),
        (Code.BLUR, [4, 3, 1, 1]),
        (Code.BLUR, [3, 3, 0, 1]),
        (Code.BLUR, [5001, 3, 1, 1]),
        (Code.NOISE, [0, -1, 1, 0, 0]),
        (Code.NOISE, [0, 1, 1, 2**32, 0]),
        (Code.ERASE, [0, 0, 1e9, 1, 0, 0, 0]),
        (Code.FRAME, [0, 0, 1, 1, 4]),
        (Code.ADD, [1]),
        (Code.SAVE, []),
        (Code.WARP, [1, 0, 0, 0, np.nan]),
    ):
        with pytest.raises(ConfigError):
            run_program(image, [code], [values] if len(values) else np.zeros((1, 0)))


def test_order_of_sums_and_of_erasing_is_checked():
    def program(*codes):
        code = np.array(codes, np.int64)
        return Program(start=np.array([0, len(code)]), code=code, values=np.zeros((len(code), VALUES)))

    check_operations(program(Code.SAVE, Code.RESTORE, Code.ADD, Code.MIXED, Code.SAVE, Code.MIXED), 1, "it")
    check_operations(program(Code.INVERT, Code.ERASE_STORED, Code.ERASE_NOISE), 1, "it")
    for codes in (
        (Code.SAVE, Code.SAVE, Code.MIXED),
        (Code.MIXED,),
        (Code.SAVE, Code.RESTORE),
        (Code.ERASE_STORED, Code.INVERT),
    ):
        with pytest.raises(ConfigError):
            check_operations(program(*codes), 1, "it")


def test_random_programs_that_are_let_through_keep_to_their_memory(monkeypatch):
    """Whatever the numbers in range are: sizes and rectangles of all kinds, on images of all sizes.

    Nothing is written before or behind the studio; FASTLOAD_BOUNDSCHECK=1 looks at what is read, too.
    """
    made = []

    def guarded(pixels, **needs):
        block = new_studio(pixels, **needs)
        memory = np.full(block.size + 2 * 4096, 0xA5, np.uint8)
        memory[4096:-4096] = block
        made.append(memory)
        return memory[4096:-4096]

    monkeypatch.setattr(programs, "new_studio", guarded)
    rng = np.random.default_rng(1)
    codes = [code for code in RANGES if code not in (Code.SAVE, Code.RESTORE, Code.ADD, Code.MIXED, Code.LAMBDA)]
    for _ in range(300):
        image = rng.integers(0, 256, (*rng.integers(1, 90, 2), 3)).astype(np.uint8)
        chosen = [codes[i] for i in rng.integers(0, len(codes), 3) if codes[i] < Code.ERASE_NOISE or codes[i] > 21]
        rows = np.zeros((len(chosen), VALUES))
        for row, code in zip(rows, chosen, strict=True):
            for place, (low, high) in enumerate(RANGES[code]):
                wild = rng.uniform(low, high) if rng.random() < 0.5 else rng.choice([low, high])
                row[place] = np.clip(rng.normal() * 50 if rng.random() < 0.5 else wild, low, high)
            if code in (Code.POSTERIZE, Code.PERMUTE, Code.FRAME, Code.JPEG):
                row[:] = np.rint(row)
            if code is Code.BLUR:
                row[:2] = row[:2] // 2 * 2 + 1
                row[:2] = np.minimum(row[:2], 1025)
            if code is Code.ELASTIC:
                row[6:8] = np.minimum(row[6:8], 12)
        if chosen:
            assert run_program(image, chosen, rows).shape == image.shape
            memory = made.pop()
            assert (memory[:4096] == 0xA5).all()
            assert (memory[-4096:] == 0xA5).all()
