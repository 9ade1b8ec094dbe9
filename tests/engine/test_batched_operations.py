"""Operations on whole batches as torch tensors: each against the CPU engine's and torchvision v2 on photographs."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from fastload.augment.program import VALUES, Code
from fastload.engine.batched import program as interpreter
from fastload.engine.batched import run_operations
from fastload.engine.cpu.programs import run_program
from fastload.errors import ConfigError
from tests.engine.batched_cases import DEVICES, DRAWN, load_photographs, program

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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("code", DRAWN)
def test_each_operation_is_the_cpu_engine_s(photographs, code, device):
    rng = np.random.default_rng(int(code))
    rows = [[(code, *DRAWN[code](rng))] for _ in photographs]
    np.testing.assert_array_equal(batched(photographs, rows, device), one_by_one(photographs, rows))


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
    codes = list(DRAWN)
    rows = []
    for _ in images:
        chosen = [codes[i] for i in rng.integers(0, len(codes), rng.integers(0, 6))]
        rows.append([(code, *DRAWN[code](rng)) for code in chosen])
    assert not all(rows)
    np.testing.assert_array_equal(batched(images, rows), one_by_one(images, rows))


def test_parts_of_a_batch_are_the_batch(photographs, monkeypatch):
    rng = np.random.default_rng(5)
    jitter = [Code.BRIGHTNESS, Code.CONTRAST, Code.SATURATION, Code.HUE]
    rows = [[(jitter[i], *DRAWN[jitter[i]](rng)) for i in rng.permutation(4)] for _ in photographs]
    whole = batched(photographs, rows)
    monkeypatch.setattr(interpreter, "MOST_VALUES", 3 * photographs[0].size + 1)
    before = photographs.copy()
    np.testing.assert_array_equal(batched(photographs, rows), whole)
    np.testing.assert_array_equal(whole, one_by_one(photographs, rows))
    np.testing.assert_array_equal(photographs, before)


def test_work_on_the_host_depends_on_the_operations_and_not_on_the_images(photographs):
    """As many calls of torch for 20 images as for 5: a GPU is not made to wait for the host by a large batch."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert function._overloadpacket not in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
            self.calls += 1
            return function(*args, **(kwargs or {}))

    rng = np.random.default_rng(2)
    one = [(code, *DRAWN[code](rng)) for code in DRAWN]
    counts = []
    for count in (5, 20):
        levels = torch.from_numpy(photographs[:count, :64, :64].copy())
        with Count() as counter:
            run_operations(levels, program([one] * count))
        counts.append(counter.calls)
    assert counts[0] == counts[1] < 600


def test_what_are_no_levels_is_refused():
    nothing = program([[], []])
    for levels in (torch.zeros(2, 4, 4, 3), torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, 3).byte()):
        with pytest.raises(ConfigError, match="levels"):
            run_operations(levels, nothing)
    with pytest.raises(ConfigError, match="samples"):
        run_operations(torch.zeros(3, 4, 4, 3, dtype=torch.uint8), nothing)
