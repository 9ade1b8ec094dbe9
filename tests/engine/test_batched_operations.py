"""Operations on whole batches as torch tensors: each against the CPU engine's and torchvision v2 on photographs."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as F

from fastload.augment.program import VALUES, Code
from fastload.engine.batched import run_operations, schedule
from fastload.engine.cpu.programs import run_program
from fastload.engine.operations import RANGES
from fastload.errors import ConfigError
from tests.engine.batched_cases import DEVICES, DRAWN, NEARLY, load_photographs
from tests.engine.helpers import program

COUNT = 20


@pytest.fixture(scope="module")
def photographs(imagenet_sample):
    return load_photographs(imagenet_sample, COUNT)


def batched(images, rows, device="cpu"):
    return run_operations(torch.from_numpy(images).to(device), program(rows)).cpu().numpy()


def one_by_one(images, rows):
    """The CPU engine's answer."""
    made = []
    for image, row in zip(images, rows, strict=True):
        values = np.zeros((len(row), VALUES))
        for place, (_, *numbers) in enumerate(row):
            values[place, : len(numbers)] = numbers
        made.append(run_program(image, [code for code, *_ in row], values) if row else image)
    return np.stack(made)


EXACT = [code for code in DRAWN if code not in NEARLY]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("code", EXACT)
def test_each_operation_is_the_cpu_engine_s(photographs, code, device):
    rng = np.random.default_rng(int(code))
    rows = [[(code, *DRAWN[code](rng))] for _ in photographs]
    np.testing.assert_array_equal(batched(photographs, rows, device), one_by_one(photographs, rows))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("code", "share"), [(Code.BLUR, 0.06), (Code.WARP, 0.005), (Code.ELASTIC, 1e-4)])
def test_operations_in_other_arithmetic_are_within_a_level(photographs, code, share, device):
    rng = np.random.default_rng(int(code))
    rows = [[(code, *DRAWN[code](rng))] for _ in photographs]
    off = np.abs(batched(photographs, rows, device).astype(int) - one_by_one(photographs, rows))
    # Those that take the nearest pixel may take its neighbour instead.
    smooth = np.array([code == Code.BLUR or row[0][1] == 1 for row in rows])
    assert off[smooth].max() <= 1
    assert (off[smooth] > 0).mean() < share
    assert (off[~smooth] > 0).mean() < 1e-3 if not smooth.all() else code == Code.BLUR


@pytest.mark.parametrize("code", [Code.BLUR, Code.SHARPNESS, Code.JPEG, Code.FRAME])
def test_neighbours_are_torchvision_s(photographs, code):
    rng = np.random.default_rng(int(code))
    for image in photographs[:8]:
        values = [float(value) for value in DRAWN[code](rng)]
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        if code == Code.BLUR:
            theirs = F.gaussian_blur(tensor, [int(values[0]), int(values[1])], values[2:])
        elif code == Code.SHARPNESS:
            theirs = F.adjust_sharpness(tensor, values[0])
        elif code == Code.JPEG:
            with warnings.catch_warnings():  # torchvision 0.29 announces that it will go
                warnings.simplefilter("ignore", DeprecationWarning)
                theirs = F.jpeg(tensor, int(values[0]))
        else:
            values = [10, 20, 120, 130, values[4]]
            mode = ("edge", "reflect", "symmetric")[int(values[4]) - 1]
            theirs = F.pad(tensor[:, 10:130, 20:150], [20, 10, 74, 94], padding_mode=mode)
        off = np.abs(batched(image[None], [[(code, *values)]])[0].astype(int) - theirs.permute(1, 2, 0).numpy())
        # A sum of a blur that lies at a half is rounded as the order of its terms has it.
        assert off.max() <= (code == Code.BLUR)
        assert (off > 0).mean() < 1e-4


def test_sums_of_chains_are_the_cpu_engine_s(photographs):
    """AugMix, among samples that have other programs, or two sums."""
    rng = np.random.default_rng(8)
    rows = []
    for number in range(COUNT):
        row = [(Code.BRIGHTNESS, 1.1)] if number % 2 else []
        for _ in range(number % 3):
            row.append((Code.SAVE,))
            for _ in range(rng.integers(0, 4)):
                row.append((Code.RESTORE,))
                row += [(code, *DRAWN[code](rng)) for code in rng.choice(EXACT, rng.integers(0, 4))]
                row.append((Code.ADD, rng.uniform(0, 0.4)))
            row.append((Code.MIXED, rng.uniform(0, 0.6)))
        rows.append(row)
    np.testing.assert_array_equal(batched(photographs, rows), one_by_one(photographs, rows))


@pytest.mark.parametrize("device", DEVICES)
def test_functions_of_the_user_get_images_and_their_numbers(photographs, device):
    seen = []

    def darker(image, values):
        assert image.flags.c_contiguous
        assert image.flags.writeable
        seen.append(values.tolist())
        image[:100] //= 2

    def other(image, values):
        image[..., 0] = values[0]

    rows = [[(Code.LAMBDA, 0, number, -2.5), (Code.INVERT,)] for number in range(COUNT)]
    rows[3] = [(Code.INVERT,), (Code.LAMBDA, 1, 77)]
    rows[4] = []
    expected = photographs.copy()
    expected[:, :100] //= 2
    expected = 255 - expected
    expected[3] = 255 - photographs[3]
    expected[3, ..., 0] = 77
    expected[4] = photographs[4]
    levels = torch.from_numpy(photographs).to(device)
    ours = run_operations(levels, program(rows), (darker, other)).cpu().numpy()
    np.testing.assert_array_equal(ours, expected)
    assert seen == [[number, -2.5, *[0.0] * 13] for number in range(COUNT) if number not in (3, 4)]


FACTORS = {
    Code.BRIGHTNESS: F.adjust_brightness,
    Code.CONTRAST: F.adjust_contrast,
    Code.SATURATION: F.adjust_saturation,
    Code.HUE: F.adjust_hue,
    Code.POSTERIZE: F.posterize,
    Code.SOLARIZE: F.solarize,
    Code.INVERT: F.invert,
    Code.AUTOCONTRAST: F.autocontrast,
    Code.EQUALIZE: F.equalize,
    Code.GRAYSCALE: lambda tensor: F.rgb_to_grayscale(tensor, 3),
}


@pytest.mark.parametrize("code", FACTORS)
def test_each_operation_is_torchvision_s(photographs, code):
    rng = np.random.default_rng(int(code))
    rows = [[(code, *(number.item() for number in map(np.asarray, DRAWN[code](rng))))] for _ in photographs]
    ours = batched(photographs, rows)
    for image, ((_, *numbers),), made in zip(photographs, rows, ours, strict=True):
        theirs = FACTORS[code](torch.from_numpy(image).permute(2, 0, 1), *numbers)
        np.testing.assert_array_equal(made, theirs.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 3), (5, 70), (7, 4), (65, 127)])
def test_any_size_and_any_program(size):
    """Chains of all lengths, with some operations more than once, on samples some of which have none."""
    rng = np.random.default_rng(size[1])
    images = rng.integers(0, 256, (30, *size, 3)).astype(np.uint8)
    rows = []
    for _ in images:
        chosen = [EXACT[i] for i in rng.integers(0, len(EXACT), rng.integers(0, 6))]
        rows.append([(code, *DRAWN[code](rng)) for code in chosen])
    assert not all(rows)
    np.testing.assert_array_equal(batched(images, rows), one_by_one(images, rows))


def test_parts_of_a_batch_are_the_batch(photographs, monkeypatch):
    rng = np.random.default_rng(5)
    jitter = [Code.BRIGHTNESS, Code.CONTRAST, Code.SATURATION, Code.HUE]
    rows = [[(jitter[i], *DRAWN[jitter[i]](rng)) for i in rng.permutation(4)] for _ in photographs]
    for row in rows[::2]:
        row += [(Code.SAVE,), (Code.RESTORE,), (Code.EQUALIZE,), (Code.ADD, 0.3), (Code.MIXED, 0.6)]
    whole = batched(photographs, rows)
    monkeypatch.setattr(schedule, "MOST_VALUES", 3 * photographs[0].size + 1)
    before = photographs.copy()
    np.testing.assert_array_equal(batched(photographs, rows), whole)
    np.testing.assert_array_equal(whole, one_by_one(photographs, rows))
    np.testing.assert_array_equal(photographs, before)


def wild(code, rng):
    """Numbers of all kinds that ``check_operations`` lets through."""
    made = []
    for low, high in RANGES[code]:
        kind = rng.integers(0, 3)
        made.append(np.clip((rng.normal() * 50, rng.uniform(low, high), rng.choice([low, high]))[kind], low, high))
    if code in (Code.POSTERIZE, Code.PERMUTE, Code.FRAME, Code.JPEG):
        made = [float(round(value)) for value in made]
    if code == Code.BLUR:
        made[:2] = [value // 2 * 2 + 1 for value in made[:2]]
    return made


def test_wild_numbers_do_what_they_do_on_the_cpu_engine():
    """No index leaves its image, where a GPU would be lost, and what is exact stays so, whatever the numbers are."""
    rng = np.random.default_rng(1)
    codes = [code for code in RANGES if code in DRAWN]
    for _ in range(15):
        images = rng.integers(0, 256, (20, *rng.integers(1, 70, 2), 3)).astype(np.uint8)
        rows = []
        for _ in images:
            chosen = [codes[i] for i in rng.integers(0, len(codes), 2)]
            rows.append([(code, *wild(code, rng)) for code in chosen])
        ours, theirs = batched(images, rows), one_by_one(images, rows)
        exact = [not NEARLY & {code for code, *_ in row} for row in rows]
        np.testing.assert_array_equal(ours[exact], theirs[exact])
        assert sum(exact) > 5


ON_DEVICE = [code for code in DRAWN if code != Code.JPEG]


def test_work_on_the_host_depends_on_the_operations_and_not_on_the_images(photographs):
    """As many calls of torch for 20 images as for 5: a GPU is not made to wait for the host by a large batch."""

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **(kwargs or {}))

    rng = np.random.default_rng(2)
    one = [(code, *DRAWN[code](rng)) for code in ON_DEVICE]
    counts = []
    for count in (5, 20):
        levels = torch.from_numpy(photographs[:count, :64, :64].copy())
        with Count() as counter:
            run_operations(levels, program([one] * count))
        counts.append(counter.calls)
    assert counts[0] == counts[1] < 1500


@pytest.mark.parametrize("code", [*ON_DEVICE, Code.SAVE])
def test_nothing_waits_for_the_device(code):
    """Tensors of the meta device have no values: whatever asks for one of them on the host fails."""
    rng = np.random.default_rng(2)
    one = [(code, *DRAWN[code](rng))] if code in DRAWN else [(Code.SAVE,), (Code.ADD, 0.5), (Code.MIXED, 0.5)]
    levels = torch.zeros((6, 224, 224, 3), dtype=torch.uint8, device="meta")
    made = run_operations(levels, program([one, [], one, one, [*one, *one], one]))
    assert (made.shape, made.dtype, made.device.type) == (levels.shape, torch.uint8, "meta")


def test_what_are_no_levels_is_refused():
    nothing = program([[], []])
    for levels in (torch.zeros(2, 4, 4, 3), torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, 3).byte()):
        with pytest.raises(ConfigError, match="levels"):
            run_operations(levels, nothing)
    with pytest.raises(ConfigError, match="samples"):
        run_operations(torch.zeros(3, 4, 4, 3, dtype=torch.uint8), nothing)
