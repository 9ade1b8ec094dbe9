"""The resampling kernels against Pillow and torch, over real photographs and over sizes that nobody expects."""

import ctypes
import mmap
import sys

import numba
import numpy as np
import pytest
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from fastload import jit
from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.engine.cpu.kernels import layout
from fastload.engine.cpu.kernels.exact import resample_exact
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.cpu.kernels.vector import half_by_integers
from tests.engine.helpers import decoded, make_draws, make_output, make_slot, picture, pillow_reference


@jit.kernel
def _exact_alone(pixels, height, width, parameters, constants, slot, visible, scratch):
    region = (0, 0, height, width)
    resample_exact(pixels, height, width, region, parameters, constants, slot, 0, visible, scratch)


def parameters_of(draws, row):
    return np.array(
        [*draws.box[row], *draws.grid[row], *draws.window[row, :2], draws.flip[row]],
        np.float64,
    )


def padded(pixels):
    return np.concatenate([pixels.reshape(-1), np.full(layout.SLACK, 0x5A, np.uint8)])


def resampled(pixels, draws, output, row=0, exact=False):
    """One output image by the kernels."""
    slot = make_slot(1, output)
    height, width = pixels.shape[:2]
    constants, scratch = layout.make_constants(output), layout.make_scratch(output)
    flat = layout.flat_slot(slot)
    if exact:
        visible = (0, output.height, 0, output.width)
        _exact_alone(padded(pixels), height, width, parameters_of(draws, row), constants, flat, visible, scratch)
    else:
        status = resample_image(
            padded(pixels), height, width, 0, 0, height, width, parameters_of(draws, row), constants, flat, 0, scratch
        )
        assert status == layout.DONE
    return slot[0]


def difference(pixels, draws, output, row=0):
    reference = pillow_reference(pixels, draws, row, output)
    return int(np.abs(resampled(pixels, draws, output, row).astype(int) - reference).max())


def random_box(rng, height, width, whole_numbers):
    if whole_numbers:
        box_height, box_width = rng.integers(1, height + 1), rng.integers(1, width + 1)
        return rng.integers(0, height - box_height + 1), rng.integers(0, width - box_width + 1), box_height, box_width
    box_height, box_width = rng.uniform(0.3, height), rng.uniform(0.3, width)
    # Pillow keeps boxes as float32: eighths of a pixel mean the same to both.
    eighths = np.floor(
        np.array([rng.uniform(0, height - box_height), rng.uniform(0, width - box_width), box_height, box_width]) * 8
    )
    return tuple(np.maximum(eighths, [0, 0, 2, 2]) / 8)


def test_200_photographs_within_one_grey_level_of_pillow(imagenet_sample):
    rng = np.random.default_rng(3)
    output = make_output((224, 224))
    worst, total = 0, 0.0
    for path in sorted(imagenet_sample.glob("*/*.JPEG"))[:200]:
        pixels = decoded(path.read_bytes())
        height, width = pixels.shape[:2]
        # A crop, and a resize with a window in the middle of it, as in evaluation.
        short = 256 / min(height, width)
        grid = (round(height * short), round(width * short))
        window = ((grid[0] - 224) // 2, (grid[1] - 224) // 2, 224, 224)
        crop = random_box(rng, height, width, whole_numbers=rng.integers(2))
        draws = make_draws(
            [0, 0],
            [crop, (0, 0, height, width)],
            output,
            grids=[(224, 224), grid],
            windows=[(0, 0, 224, 224), window],
            flips=rng.integers(0, 2, 2),
        )
        for row in (0, 1):
            found = np.abs(
                resampled(pixels, draws, output, row).astype(int) - pillow_reference(pixels, draws, row, output)
            )
            worst, total = max(worst, int(found.max())), total + found.mean()
    assert worst <= 1
    assert total / 400 < 0.2


_INTERPOLATIONS = [
    ("nearest", False),
    ("bilinear", False),
    ("bilinear", True),
    ("bicubic", False),
    ("bicubic", True),
    ("box", True),
    ("area", True),
]


@pytest.mark.parametrize(("interpolation", "antialias"), _INTERPOLATIONS)
def test_every_interpolation_of_the_transforms_on_photographs(imagenet_sample, interpolation, antialias):
    """Against torchvision: on a Pillow image, which it always antialiases, or on a tensor, which it need not."""
    plan = compile_plan([T.RandomResizedCrop(112, interpolation=interpolation, antialias=antialias)])
    paths = sorted(imagenet_sample.glob("*/*.JPEG"))[::8]
    images = [decoded(path.read_bytes()) for path in paths]
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    draws = plan.draw(seed=5, epoch=0, ids=np.arange(len(images)), sizes=sizes)
    found, in_one = [], [np.zeros(1)]
    for row, image in enumerate(images):
        top, left, height, width = draws.box[row].astype(int)
        cut = image[top : top + height, left : left + width].copy()
        if interpolation == "area":
            expected = np.rint(_covered(_covered(cut, 112).swapaxes(0, 1), 112).swapaxes(0, 1))
        elif antialias:
            # One axis at a time: Pillow begins with either, and cuts off in between what goes beyond black and white.
            mode = InterpolationMode(interpolation)
            rows = v2.functional.resize(Image.fromarray(cut), [112, width], mode)
            expected = np.asarray(v2.functional.resize(rows, [112, 112], mode))
            in_one.append(
                np.asarray(v2.functional.resize(Image.fromarray(cut), [112, 112], mode)) - expected.astype(int)
            )
        else:
            tensor = torch.from_numpy(cut).permute(2, 0, 1).float()
            mode = InterpolationMode(interpolation.replace("nearest", "nearest-exact"))
            expected = v2.functional.resize(tensor, [112, 112], mode, antialias=False)
            expected = expected.permute(1, 2, 0).round().clamp(0, 255).numpy()
        found.append(np.abs(resampled(image, draws, plan.output, row).astype(int) - expected))
    assert len(images) > 40
    assert np.max(found) <= (interpolation != "nearest")
    assert np.mean(np.abs(np.concatenate([each.reshape(-1) for each in in_one])) > 1) < 0.001
    assert np.mean(found) < 0.2


def _covered(pixels, size):
    """Means of ``size`` equal stretches of the first axis, each row weighted by how much of it a stretch covers."""
    if size >= len(pixels):
        at = torch.from_numpy(pixels.astype(np.float64).transpose(2, 1, 0).copy())[None]
        grown = torch.nn.functional.interpolate(at, (pixels.shape[1], size), mode="bilinear", align_corners=False)
        return grown[0].numpy().transpose(2, 1, 0)
    sums = np.concatenate([np.zeros((1, *pixels.shape[1:])), np.cumsum(pixels, 0, dtype=np.float64)])
    ends = np.arange(size + 1) * len(pixels) / size
    whole = np.minimum(ends.astype(int), len(pixels) - 1)
    sums = sums[whole] + (ends - whole)[:, None, None] * pixels[whole]
    return np.diff(sums, axis=0) * size / len(pixels)


def test_area_is_torchs_where_pixels_are_covered_whole():
    pixels = np.random.default_rng(3).integers(0, 256, (120, 210, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    for size in ((40, 70), (60, 42), (2, 3), (120, 105)):
        output = make_output(size, interpolation="area")
        draws = make_draws([0], [(0, 0, 120, 210)], output)
        expected = torch.nn.functional.interpolate(image, size, mode="area")[0].permute(1, 2, 0).round().numpy()
        for exact in (False, True):
            assert np.abs(resampled(pixels, draws, output, exact=exact) - expected).max() <= 1


def _hard_pictures(rng, height, width):
    """Noise, black and white noise, stripes either way: where roundings differ most."""
    yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    yield (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    yield np.broadcast_to(rng.integers(0, 256, (height, 1, 3), dtype=np.uint8), (height, width, 3)).copy()
    yield np.broadcast_to(rng.integers(0, 256, (1, width, 3), dtype=np.uint8), (height, width, 3)).copy()
    yield np.full((height, width, 3), 255, np.uint8)


@pytest.mark.parametrize(("interpolation", "antialias"), [("bilinear", True), ("bilinear", False), ("box", True)])
def test_any_sizes_windows_and_flips(interpolation, antialias):
    rng = np.random.default_rng(11 + antialias)
    for _ in range(150):
        height, width = (int(2 ** rng.uniform(0, 9)) for _ in range(2))
        size = tuple(int(number) for number in rng.integers(1, 100, 2))
        output = make_output(size, interpolation=interpolation, antialias=antialias)
        grid = tuple(max(1, int(number * 2 ** rng.uniform(-1, 1))) for number in size)
        window = (*(int(rng.integers(-20, max(1, g))) for g in grid), *size)
        box = random_box(rng, height, width, whole_numbers=rng.integers(2))
        draws = make_draws([0], [box], output, grids=[grid], windows=[window], flips=[rng.integers(2)])
        for pixels in _hard_pictures(rng, height, width):
            if antialias:
                assert difference(pixels, draws, output) <= 1, (height, width, draws, output)
            else:
                assert (
                    np.abs(resampled(pixels, draws, output).astype(int) - _torch_plain(pixels, draws, output)).max()
                    <= 1
                )


def _torch_plain(pixels, draws, output):
    """Plain (not antialiased) resampling by its formula in torch: sample points between pixels of the cut."""
    top, left, height, width = draws.box[0]
    grid_height, grid_width = draws.grid[0]
    y0, x0 = int(np.floor(top)), int(np.floor(left))
    cut = pixels[y0 : int(np.ceil(top + height)), x0 : int(np.ceil(left + width))]
    ys = np.clip((np.arange(grid_height) + 0.5) * height / grid_height + top - y0 - 0.5, 0, len(cut) - 1)
    xs = np.clip((np.arange(grid_width) + 0.5) * width / grid_width + left - x0 - 0.5, 0, cut.shape[1] - 1)
    points = np.stack(np.meshgrid((xs + 0.5) / cut.shape[1] * 2 - 1, (ys + 0.5) / len(cut) * 2 - 1, indexing="xy"), -1)
    image = torch.from_numpy(cut.copy()).permute(2, 0, 1)[None].double()
    grid = torch.nn.functional.grid_sample(
        image, torch.from_numpy(points)[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    grid = grid[0].permute(1, 2, 0).numpy().round().astype(int)
    result = np.zeros((output.height, output.width, 3), int)
    for y in range(output.height):
        for x in range(output.width):
            grid_y, grid_x = y + draws.window[0, 0], x + draws.window[0, 1]
            if 0 <= grid_y < grid_height and 0 <= grid_x < grid_width:
                result[y, x] = grid[grid_y, grid_x]
    return result[:, ::-1] if draws.flip[0] else result


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((1, 1), (224, 224)),
        ((3, 3), (224, 224)),
        ((1, 5000), (64, 64)),
        ((5000, 1), (64, 64)),
        ((5000, 7), (40, 33)),
        ((2400, 1700), (50, 37)),  # 96 taps: beyond the vectorised kernel
        ((1535, 767), (64, 32)),  # 48 taps: just inside
        ((65535, 2), (33, 17)),
        ((300, 300), (1, 1)),
        ((224, 224), (224, 224)),
        ((33, 65), (500, 1031)),
    ],
)
def test_extreme_shapes(image, size):
    output = make_output(size)
    draws = make_draws([0, 0], [(0, 0, *image)] * 2, output, flips=[False, True])
    for pixels in _hard_pictures(np.random.default_rng(5), *image):
        assert max(difference(pixels, draws, output, row) for row in (0, 1)) <= 1


def test_the_same_size_changes_nothing():
    pixels = np.random.default_rng(1).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    output = make_output((64, 80))
    draws = make_draws([0, 0], [(0, 0, 64, 80)] * 2, output, flips=[False, True])
    np.testing.assert_array_equal(resampled(pixels, draws, output), pixels)
    np.testing.assert_array_equal(resampled(pixels, draws, output, 1), pixels[:, ::-1])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
def test_the_exact_kernel_has_pillows_very_bits(interpolation):
    resample = getattr(Image.Resampling, interpolation.upper())
    rng = np.random.default_rng(8)
    for _ in range(60):
        height, width = (int(2 ** rng.uniform(0, 8)) for _ in range(2))
        output = make_output(tuple(int(number) for number in rng.integers(1, 80, 2)), interpolation=interpolation)
        top, left, box_height, box_width = random_box(rng, height, width, whole_numbers=True)
        draws = make_draws([0], [(top, left, box_height, box_width)], output)
        for pixels in _hard_pictures(rng, height, width):
            # One axis at a time: which one a single call takes first depends on Pillow's version.
            cut = Image.fromarray(pixels[top : top + box_height, left : left + box_width])
            expected = cut.resize((output.width, box_height), resample)
            expected = expected.resize((output.width, output.height), resample)
            np.testing.assert_array_equal(resampled(pixels, draws, output, exact=True), expected)


def test_bicubic_begins_with_the_rows_and_is_pillows():
    rng = np.random.default_rng(21)
    for _ in range(60):
        height, width = (int(2 ** rng.uniform(0, 9)) for _ in range(2))
        size = tuple(int(number) for number in rng.integers(32, 90, 2))
        output = make_output(size, interpolation="bicubic")
        draws = make_draws([0], [(0, 0, height, width)], output)
        for pixels in _hard_pictures(rng, height, width):
            rows = Image.fromarray(pixels).resize((width, size[0]), Image.Resampling.BICUBIC)
            expected = np.asarray(rows.resize((size[1], size[0]), Image.Resampling.BICUBIC))
            assert np.abs(resampled(pixels, draws, output).astype(int) - expected).max() <= 1


def test_nearest_takes_pillows_pixels():
    rng = np.random.default_rng(9)
    for _ in range(100):
        # Steps in sixteenths: no rounding decides which pixel is nearest.
        height, width = (int(number) for number in rng.integers(1, 200, 2))
        output = make_output(tuple(int(2 ** rng.integers(0, 7)) for _ in range(2)), interpolation="nearest")
        draws = make_draws([0], [random_box(rng, height, width, rng.integers(2))], output, flips=[rng.integers(2)])
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        np.testing.assert_array_equal(resampled(pixels, draws, output), pillow_reference(pixels, draws, 0, output))


def test_plain_bicubic_is_torchs():
    pixels = picture(50, 70)
    output = make_output((40, 90), interpolation="bicubic", antialias=False)
    draws = make_draws([0], [(0, 0, 50, 70)], output)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    expected = torch.nn.functional.interpolate(image, (40, 90), mode="bicubic", antialias=False, align_corners=False)
    expected = expected[0].permute(1, 2, 0).clamp(0, 255).round().numpy()
    assert np.abs(resampled(pixels, draws, output) - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
def test_both_kernels_store_the_same_values_for_the_same_levels(dtype):
    pixels = np.random.default_rng(2).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    output = make_output((48, 48), dtype)
    draws = make_draws([0], [(0, 0, 48, 48)], output)
    np.testing.assert_array_equal(resampled(pixels, draws, output), resampled(pixels, draws, output, exact=True))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
def test_outside_the_grid_is_black_scaled_and_biased(dtype):
    output = make_output((50, 60), dtype)
    draws = make_draws(
        [0, 0], [(0, 0, 40, 40)] * 2, output, grids=[(40, 40)] * 2, windows=[(-5, -8, 50, 60), (200, 0, 50, 60)]
    )
    black = layout.make_constants(output)
    pixels = np.full((40, 40, 3), 200, np.uint8)
    for row, inside in ((0, np.s_[5:45, 8:48]), (1, np.s_[:0, :0])):
        found = resampled(pixels, draws, output, row)
        outside = np.ones((50, 60), bool)
        outside[inside] = False
        for channel in range(3):
            values = found[..., channel]
            if dtype == "uint8":
                expected = 0
            elif dtype == "float32":
                expected = black.table4[256 * channel]
            else:
                values, expected = values.view(np.uint16), black.table2[256 * channel]
            assert (values[outside] == expected).all()
            assert not (values[~outside] == expected).any()


def test_numbers_that_do_not_fit_are_answered_before_anything_is_touched():
    output = make_output((32, 32))
    slot = make_slot(2, output)
    constants, scratch, flat = layout.make_constants(output), layout.make_scratch(output), layout.flat_slot(slot)
    pixels = np.zeros(40 * 40 * 3 + layout.SLACK, np.uint8)
    draws = make_draws([0], [(0, 0, 40, 40)], output)
    good = parameters_of(draws, 0)
    for height, width, row in ((41, 40, 0), (0, 40, 0), (40, -1, 0), (1, 65536, 0), (40, 40, 2), (40, 40, -1)):
        answer = resample_image(pixels, height, width, 0, 0, height, width, good, constants, flat, row, scratch)
        assert answer == layout.BUFFER_TOO_SMALL
    for column, number in ((0, -1.0), (2, 41.0), (2, np.nan), (1, np.inf), (3, 0.0), (1, 40.0)):
        bad = good.copy()
        bad[column] = number
        assert resample_image(pixels, 40, 40, 0, 0, 40, 40, bad, constants, flat, 0, scratch) == layout.BOX_OUTSIDE
    assert (slot == 0xA5).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guard pages by mprotect")
def test_nothing_behind_the_declared_slack_is_read_or_written():
    """Pixels (with their slack) and the slot end where an unmapped page begins: a byte too far kills the process."""
    libc = ctypes.CDLL(None, use_errno=True)
    kept = []

    def guarded(size):
        pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        area = mmap.mmap(-1, pages + mmap.PAGESIZE)
        kept.append(area)
        whole = np.frombuffer(area, np.uint8)
        guard = ctypes.c_void_p(whole.ctypes.data + pages)
        assert libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        return whole[pages - size : pages]

    rng = np.random.default_rng(4)
    for _ in range(40):
        height, width = (int(number) for number in rng.integers(1, 300, 2))
        size = tuple(int(number) for number in rng.integers(16, 80, 2))
        output = make_output(size, memory_format=rng.choice(["channels_last", "contiguous"]))
        pixels = guarded(height * width * 3 + layout.SLACK)
        slot = guarded(output.height * output.width * 3)
        draws = make_draws([0], [random_box(rng, height, width, True)], output, flips=[rng.integers(2)])
        constants, scratch = layout.make_constants(output), layout.make_scratch(output)
        flat = layout.flat_slot(slot.reshape(1, *output.shape))
        assert (
            resample_image(
                pixels, height, width, 0, 0, height, width, parameters_of(draws, 0), constants, flat, 0, scratch
            )
            == layout.DONE
        )


@intrinsic
def _half_bits(_typing, source, target):
    """Converts the sixteen float32 at one address to float16 bits at another."""

    def emit(context, builder, _signature, args):
        floats, halves = ir.VectorType(ir.FloatType(), 16), ir.VectorType(ir.IntType(16), 16)
        values = builder.load(builder.inttoptr(args[0], floats.as_pointer()))
        values.align = 4
        builder.store(half_by_integers(builder, values), builder.inttoptr(args[1], halves.as_pointer())).align = 2
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def test_float16_without_the_instruction_rounds_as_numpy_does():
    @numba.njit
    def convert(values, out):
        for i in range(0, values.size, 16):
            _half_bits(np.int64(values.ctypes.data) + 4 * i, np.int64(out.ctypes.data) + 2 * i)

    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / 2
    values = np.concatenate(
        [halves, middles, np.nextafter(middles, 0), np.nextafter(middles, 1e9), [65519, 65520, 1e9]]
    )
    values = np.concatenate([values, -values]).astype(np.float32)
    values = np.concatenate([values, np.zeros(-values.size % 16, np.float32)])
    out = np.empty(values.size, np.uint16)
    convert(values, out)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, values.astype(np.float16).view(np.uint16))
