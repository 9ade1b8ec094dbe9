"""Draws with more than a resampling through the CPU engine: stores, padding, fallbacks, threads, hostile plans."""

import dataclasses
import io

import numba
import numpy as np
import pytest
import torch
from PIL import Image

import fastload as fl
from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.parameters import Warp
from fastload.augment.program import VALUES, Code
from fastload.engine.base import Request
from fastload.engine.cpu import CpuEngine
from fastload.engine.cpu.programs import run_program
from fastload.errors import ConfigError
from fastload.stats import Stats
from tests.engine.helpers import (
    BIAS,
    SCALE,
    DiskDataset,
    MemoryDataset,
    decoded,
    jpeg,
    make_draws,
    make_output,
    make_slot,
    picture,
    program,
)

COUNT = 12


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def files():
    return [jpeg(picture(60 + 7 * i, 80 + 5 * i, seed=i), quality=90) for i in range(COUNT)]


def draws_of(files, output, **more):
    """Whole images, every third mirrored, cut a little at the left."""
    boxes = [(0.0, 1.5, *(side - 1.5 for side in decoded(data).shape[:2])) for data in files]
    drawn = make_draws(range(len(files)), boxes, output, flips=[i % 3 == 0 for i in range(len(files))])
    return dataclasses.replace(drawn, **more)


def deliver(dataset, output, drawn, num_workers=1, stats=None):
    slot = make_slot(len(drawn.ids), output)
    engine = CpuEngine(dataset, output, num_workers=num_workers, stats=stats or Stats())
    try:
        request = Request(rows=np.arange(len(drawn.ids)), draws=drawn)
        assert engine.submit(lambda: request, slot).result() == ()
    finally:
        engine.close()
    return slot


def some_operations(number):
    """A program that is another one for each sample, empty for some."""
    every = [
        (Code.BRIGHTNESS, 1.2), (Code.SATURATION, 0.5), (Code.SHARPNESS, 1.7), (Code.HUE, 0.2), (Code.CONTRAST, 1.4),
        (Code.EQUALIZE,), (Code.PERMUTE, 1, 2, 0), (Code.NOISE, 0, 0.1, 1, number, 5), (Code.BLUR, 5, 5, 1, 1),
    ]  # fmt: skip
    return [every[(number * 2 + step) % len(every)] for step in range(number % 4)]


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("size", [(32, 48), (61, 53), (7, 5), (3, 4)])
def test_after_works_on_levels_and_is_stored_like_any_image(files, size, dtype, memory_format):
    output = make_output(size, dtype, memory_format=memory_format)
    levels = make_output(size)
    plain = deliver(DiskDataset(files), levels, draws_of(files, levels))
    rows = [some_operations(i) for i in range(COUNT)]
    slot = deliver(DiskDataset(files), output, draws_of(files, output, after=program(rows)))
    for i, row in enumerate(rows):
        expected = plain[i]
        if row:
            values = [[*numbers, *[0] * (VALUES - len(numbers))] for _, *numbers in row]
            expected = run_program(plain[i], [code for code, *_ in row], values)
        expected = torch.from_numpy(expected)
        if dtype != "uint8":
            expected = expected.to(torch.float32) * torch.tensor(SCALE) + torch.tensor(BIAS)
        expected = expected.to(getattr(torch, dtype))
        ours = torch.from_numpy(slot[i].view(np.int16) if dtype == "bfloat16" else slot[i])
        ours = ours.view(torch.bfloat16) if dtype == "bfloat16" else ours
        ours = ours.permute(1, 2, 0) if memory_format == "contiguous" else ours
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("operation", [(Code.SATURATION, 1.7), (Code.SHARPNESS, 1.9), (Code.EQUALIZE,)])
def test_before_works_on_the_source(files, operation):
    """A pointwise operation on the part that is decoded, another one on the whole image: the source is processed."""
    output = make_output((32, 48))
    code, *numbers = operation
    processed = [png(run_program(decoded(data), [code], [[*numbers, 0]])) for data in files]
    boxes = [(20.0, 13.5, 25.0, 33.0)] * COUNT
    drawn = make_draws(range(COUNT), boxes, output)
    expected = deliver(MemoryDataset(processed), output, drawn)
    before = program([[operation] if i % 2 else [] for i in range(COUNT)])
    plain = deliver(DiskDataset(files), output, drawn)
    slot = deliver(DiskDataset(files), output, dataclasses.replace(drawn, before=before))
    np.testing.assert_array_equal(slot[1::2], expected[1::2])
    np.testing.assert_array_equal(slot[::2], plain[::2])


def test_padding_has_its_color_on_both_sides_of_a_flip(files):
    output = make_output((40, 50))
    boxes = [(0.0, 0.0, *decoded(data).shape[:2]) for data in files]
    windows = [(-3, -5, 40, 50)] * COUNT
    flips = [i % 2 == 0 for i in range(COUNT)]
    drawn = make_draws(range(COUNT), boxes, output, grids=[(30, 30)] * COUNT, windows=windows, flips=flips)
    black = deliver(DiskDataset(files), output, drawn)
    pad = np.tile([[10.0, 200.0, 30.9]], (COUNT, 1))
    slot = deliver(DiskDataset(files), output, dataclasses.replace(drawn, pad=pad))
    inside = np.zeros((COUNT, 40, 50), bool)
    inside[:, 3:33, 5:35] = True
    inside[::2] = inside[::2, :, ::-1]
    np.testing.assert_array_equal(slot[inside], black[inside])
    np.testing.assert_array_equal(np.unique(slot[~inside], axis=0), [[10, 200, 30]])


def identity_warp(count, window, fill=7.0, active=True, turn=0.0):
    matrix = np.zeros((count, 1, 3, 3))
    matrix[:] = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    size = np.tile(np.array(window, np.int32), (count, 1, 1))
    return Warp(
        matrix=matrix,
        size=size,
        fill=np.full((count, 1, 3), fill),
        active=np.full(count, active),
        bilinear=np.full(count, True),
    )


def test_a_warp_sees_a_window_of_another_size_than_the_output(files):
    """The identity from a larger and from a smaller window: what there is of it, and fill."""
    output = make_output((40, 50))
    for window in ((60, 70), (20, 30), (60, 20)):
        whole = make_output(window)
        boxes = [(0.0, 0.0, *decoded(data).shape[:2]) for data in files]
        expected = deliver(DiskDataset(files), whole, make_draws(range(COUNT), boxes, whole))
        drawn = make_draws(range(COUNT), boxes, output, grids=[window] * COUNT, windows=[(0, 0, *window)] * COUNT)
        slot = deliver(DiskDataset(files), output, dataclasses.replace(drawn, warp=identity_warp(COUNT, window)))
        height, width = min(40, window[0]), min(50, window[1])
        np.testing.assert_array_equal(slot[:, :height, :width], expected[:, :height, :width])
        assert (slot[:, height:] == 7).all()
        assert (slot[:, :, width:] == 7).all()


def test_a_map_of_the_canvas_is_one_before_the_operations(files):
    """WARP as an operation is what a warp of the whole window does."""
    output = make_output((40, 50))
    warp = identity_warp(COUNT, (40, 50), turn=0.3)
    first = deliver(DiskDataset(files), output, draws_of(files, output, warp=warp))
    operation = (Code.WARP, 1, 7, 7, 7, *warp.matrix[0, 0].reshape(-1))
    second = deliver(DiskDataset(files), output, draws_of(files, output, after=program([[operation]] * COUNT)))
    np.testing.assert_array_equal(first, second)


def test_images_that_python_reads_are_the_same(files):
    output = make_output((32, 48), "float16")
    rows = [some_operations(i) for i in range(COUNT)]
    drawn = draws_of(files, output, after=program(rows), before=program([some_operations(i + 1) for i in range(COUNT)]))
    by_kernel = deliver(DiskDataset(files), output, drawn)
    by_python = deliver(MemoryDataset(files), output, drawn)
    by_another_decoder = deliver(MemoryDataset([png(decoded(data)) for data in files]), output, drawn)
    np.testing.assert_array_equal(by_kernel, by_python)
    np.testing.assert_array_equal(by_kernel, by_another_decoder)


def test_any_number_of_threads_gives_the_same(files):
    output = make_output((32, 48))
    rows = [some_operations(i) for i in range(COUNT)]
    drawn = draws_of(files, output, after=program(rows))
    one, three = (deliver(DiskDataset(files), output, drawn, num_workers=number) for number in (1, 3))
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_stored_values_are_erased_last(files, dtype, memory_format):
    output = make_output((32, 48), dtype, memory_format=memory_format)
    plain = deliver(DiskDataset(files), output, draws_of(files, output))
    rows = [
        [(Code.ERASE_STORED, 3, 4, 10, 20, -1.5, 0.25, 100.0), (Code.ERASE_NOISE, 20, 30, 90, 90, i, 3)]
        for i in range(COUNT)
    ]
    slot = deliver(DiskDataset(files), output, draws_of(files, output, after=program(rows)))
    if dtype == "bfloat16":
        plain, slot = (
            torch.from_numpy(part.view(np.int16)).view(torch.bfloat16).float().numpy() for part in (plain, slot)
        )
    if memory_format == "contiguous":
        plain, slot = plain.transpose(0, 2, 3, 1), slot.transpose(0, 2, 3, 1)
    assert (slot[:, 3:13, 4:24] == [-1.5, 0.25, 100.0]).all()
    noise = slot[:, 20:, 30:].astype(np.float64)
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1
    assert (noise[0] != noise[1]).mean() > 0.9
    kept = np.ones((32, 48), bool)
    kept[3:13, 4:24] = kept[20:, 30:] = False
    np.testing.assert_array_equal(slot[:, kept], plain[:, kept])


def test_stats_name_the_steps(files):
    output, stats = make_output((32, 48)), Stats()
    drawn = draws_of(
        files, output, before=program([[(Code.INVERT,)]] * COUNT), after=program([[(Code.EQUALIZE,)]] * COUNT),
        warp=identity_warp(COUNT, (32, 48)),
    )  # fmt: skip
    deliver(DiskDataset(files), output, drawn, stats=stats)
    spans = stats.spans()
    for stage in ("read", "decode", "resize", "before", "warp", "augment"):
        assert spans[stage].seconds > 0


def test_plans_that_no_kernel_may_see_are_refused(files):
    output = make_output((32, 48))
    good = draws_of(files, output)
    warp = identity_warp(COUNT, (32, 48))
    one = program([[(Code.INVERT,)]] * COUNT)
    for more in (
        {"pad": np.full((COUNT, 3), 300.0)},
        {"pad": np.full((COUNT, 2), 3.0)},
        {"pad": np.full((COUNT, 3), np.nan)},
        {"warp": dataclasses.replace(warp, matrix=warp.matrix + np.inf)},
        {"warp": dataclasses.replace(warp, matrix=warp.matrix[:, 0])},
        {"warp": dataclasses.replace(warp, size=-warp.size)},
        {"warp": dataclasses.replace(warp, active=warp.active[1:])},
        {"after": dataclasses.replace(one, start=one.start + 1)},
        {"after": dataclasses.replace(one, start=one.start[::-1].copy())},
        {"after": dataclasses.replace(one, values=one.values[:, :3])},
        {"after": dataclasses.replace(one, code=one.code + 1000)},
        {"before": program([[(Code.ERASE_STORED, 0, 0, 1, 1, 0, 0, 0)]] * COUNT)},
        {"window": np.tile(np.array([[0, 0, 20_000, 48]], np.int32), (COUNT, 1)), "warp": warp},
        {"window": np.tile(np.array([[0, 0, 33, 48]], np.int32), (COUNT, 1)), "after": one},
    ):
        with pytest.raises(ConfigError):
            deliver(DiskDataset(files), output, dataclasses.replace(good, **more))


def test_a_loader_carries_out_what_its_plan_draws(imagenet_sample):
    """The same samples without the operations, and the operations alone, make the same images."""
    geometry = [T.RandomResizedCrop(96), T.RandomHorizontalFlip()]
    pixels = [T.ColorJitter(0.4, 0.4, 0.4, 0.1), T.RandomApply([T.GaussianBlur(5)], 0.5), T.RandomGrayscale(0.2)]
    options = {"batch_size": 100, "engine": "cpu", "seed": 5, "num_workers": 2, "shuffle": True}
    plan = compile_plan([*geometry, *pixels])
    count = 0
    with (
        fl.Loader(imagenet_sample, transforms=geometry, **options) as plain,
        fl.Loader(imagenet_sample, transforms=[*geometry, *pixels], **options) as loader,
    ):
        for before, after in zip(plain, loader, strict=True):
            np.testing.assert_array_equal(before.ids, after.ids)
            drawn = plan.draw(seed=5, epoch=0, ids=after.ids, sizes=loader.dataset.sizes(after.ids)).after
            for i in range(0, len(after.ids), 10):
                mine = slice(drawn.start[i], drawn.start[i + 1])
                source = before.images[i].permute(1, 2, 0).contiguous().numpy()
                expected = run_program(source, drawn.code[mine], drawn.values[mine])
                np.testing.assert_array_equal(after.images[i].permute(1, 2, 0).numpy(), expected)
                count += len(drawn.code[mine])
    assert count > 100


def darken(image, parameters):
    image[:] = image * parameters[0]


@numba.njit(nogil=True)
def shift(image, parameters):
    image[:, :, 0] = parameters[1]


def test_functions_of_the_user_stand_between_the_operations(files):
    """Before and after the resampling, on images that either path delivers."""
    output = make_output((32, 48), "float32")
    rows = [[(Code.INVERT,), (Code.LAMBDA, 0, 0.5), (Code.EQUALIZE,), (Code.LAMBDA, 1, 7, 9)] for _ in range(COUNT)]
    rows[3], rows[4] = [], [(Code.INVERT,)]
    functions = (darken, shift)
    stats = Stats()
    drawn = draws_of(files, output, after=program(rows), functions=functions)
    slot = deliver(DiskDataset(files), output, drawn, stats=stats)
    levels = make_output((32, 48))
    plain = deliver(DiskDataset(files), levels, draws_of(files, levels))
    for i, image in enumerate(plain):
        expected = image
        if i == 4:
            expected = 255 - image
        elif i != 3:
            expected = run_program(((255 - image) * 0.5).astype(np.uint8), [Code.EQUALIZE], [[0]])
            expected[:, :, 0] = 9
        expected = torch.from_numpy(expected).to(torch.float32) * torch.tensor(SCALE) + torch.tensor(BIAS)
        np.testing.assert_array_equal(slot[i], expected.numpy())
    assert stats.spans()["lambda"].seconds > 0
    before = draws_of(files, levels, before=program([[(Code.LAMBDA, 0, 0.5)]] * COUNT), functions=functions)
    processed = [png((decoded(data) * 0.5).astype(np.uint8)) for data in files]
    expected = deliver(MemoryDataset(processed), levels, draws_of(files, levels))
    for dataset in (DiskDataset(files), MemoryDataset(files)):
        np.testing.assert_array_equal(deliver(dataset, levels, before), expected)


def test_what_a_function_of_the_user_raises_reaches_the_user(files):
    def fails(image, parameters):
        raise ZeroDivisionError("on purpose")

    output = make_output((32, 48))
    drawn = draws_of(files, output, after=program([[(Code.LAMBDA, 0)]] * COUNT), functions=(fails,))
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        deliver(DiskDataset(files), output, drawn)
    with pytest.raises(ConfigError, match="function 0 of 0"):
        deliver(DiskDataset(files), output, dataclasses.replace(drawn, functions=()))
