"""The end of a batch as torch tensors, maps and stores, against what the CPU engine makes of the same draws."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from fastload.augment.parameters import Warp
from fastload.augment.program import Code
from fastload.engine.base import Request
from fastload.engine.batched import finish, schedule, warp_levels
from fastload.engine.cpu import CpuEngine
from fastload.errors import ConfigError
from fastload.stats import Stats
from tests.engine.batched_cases import DEVICES, DRAWN
from tests.engine.helpers import MemoryDataset, make_draws, make_output, make_slot, picture, program
from tests.engine.test_warp import centred, reference

COUNT = 12


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def by_the_cpu_engine(images, draws, output):
    """Its slot, as torch's values; images that are windows already are resampled to what they are."""
    slot = make_slot(len(images), output)
    engine = CpuEngine(MemoryDataset([png(image) for image in images]), output, num_workers=1, stats=Stats())
    try:
        request = Request(rows=np.arange(len(images)), draws=draws)
        assert engine.submit(lambda: request, slot).result() == ()
    finally:
        engine.close()
    made = torch.from_numpy(slot.view(np.int16) if output.dtype == "bfloat16" else slot)
    return made.view(torch.bfloat16) if output.dtype == "bfloat16" else made


def draws_of(images, output, **more):
    """Windows that are whole images, of any size."""
    sizes = [image.shape[:2] for image in images]
    boxes, windows = [(0, 0, *size) for size in sizes], [(0, 0, *size) for size in sizes]
    return dataclasses.replace(make_draws(range(len(images)), boxes, output, sizes, windows), **more)


def stacked(images, device="cpu"):
    """As the windows of a batch: what is behind one that is smaller than others is of no account."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    levels = np.full((len(images), height, width, 3), 0xA5, np.uint8)
    for row, image in zip(levels, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(levels).to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("size", [(32, 48), (7, 5)])
def test_stores_are_the_cpu_engine_s(size, dtype, memory_format, device):
    output = make_output(size, dtype, memory_format=memory_format)
    images = [picture(*size, seed=i) for i in range(COUNT)]
    rng = np.random.default_rng(size[0])
    rows = []
    for number in range(COUNT):
        row = [(code, *DRAWN[code](rng)) for code in rng.choice(list(DRAWN), number % 3)]
        if number % 2:
            row.append((Code.ERASE_NOISE, *rng.uniform(-3, 20, 2), *rng.integers(0, 30, 2), number, 2**32 - 1 - number))
        if number % 3 == 0:
            row.append((Code.ERASE_STORED, 2, -1.5, number, 4, -0.3, 1.7, 300.25))
        rows.append(row)
    drawn = draws_of(images, output, after=program(rows))
    made = finish(stacked(images, device), drawn, output)
    assert made.is_contiguous()
    assert made.device.type == device
    assert torch.equal(made.cpu(), by_the_cpu_engine(images, drawn, output))
    plain = draws_of(images, output)
    assert torch.equal(finish(stacked(images, device), plain, output).cpu(), by_the_cpu_engine(images, plain, output))


def some_maps(count, sizes, size, rng, kinds=3, perspective=True):
    """A warp with one to ``kinds`` maps a sample, some without any, with all the kinds of fill that there are."""
    matrix = np.tile(np.eye(3), (count, kinds, 1, 1))
    all_sizes = np.tile(np.array(size, np.int32), (count, kinds, 1))
    all_sizes[:, 0] = sizes
    fill = rng.integers(0, 256, (count, kinds, 3)).astype(np.float64)
    for row in range(count):
        for image in range(rng.integers(1, kinds + 1)):
            if image:
                all_sizes[row, image] = rng.integers(10, 80, 2)
            angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.4, 1.5)
            six = scale * np.array([np.cos(angle), -np.sin(angle), rng.uniform(-9, 9), np.sin(angle), np.cos(angle), 0])
            matrix[row, image] = centred(six, all_sizes[row, image], size)
            if perspective and row % 2:
                matrix[row, image, 2, :2] = rng.uniform(-0.3, 0.3, 2) / max(size)
        if row % 4 == 0:
            fill[row, 0] = -1.0
        elif row % 4 == 1:
            fill[row, 0] = (0.0, -1.0, -1.0)
    return Warp(
        matrix=matrix, size=all_sizes, fill=fill, active=np.arange(count) % 6 != 5, bilinear=rng.random(count) < 0.6
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(6))
def test_maps_are_the_cpu_engine_s(seed, device):
    rng = np.random.default_rng(seed)
    output = make_output((61, 75))
    sizes = rng.integers(40, 130, (COUNT, 2))
    sizes[5::6] = 61, 75
    images = [picture(*size, seed=seed + i) for i, size in enumerate(sizes)]
    warp = some_maps(COUNT, sizes, (61, 75), rng)
    drawn = draws_of(images, output, warp=warp, after=program([[(Code.INVERT,)]] * COUNT))
    ours = finish(stacked(images, device), drawn, output).cpu().int()
    theirs = by_the_cpu_engine(images, drawn, output).int()
    off = (ours - theirs).abs()
    smooth = torch.from_numpy(warp.bilinear)
    assert off[smooth].max() <= 1
    assert (off[smooth] > 0).float().mean() < 0.01
    # Nearest: where a position lies between two pixels.
    assert (off[~smooth] > 0).float().mean() < 0.001


@pytest.mark.parametrize("seed", range(4))
def test_maps_are_what_they_are_defined_to_be(seed):
    rng = np.random.default_rng(100 + seed)
    sizes = rng.integers(3, 60, (COUNT, 2))
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    warp = some_maps(COUNT, sizes, (40, 50), rng)
    warp = dataclasses.replace(warp, active=np.ones(COUNT, bool), fill=np.abs(warp.fill))
    ours = warp_levels(stacked(images), warp, sizes, 40, 50).numpy().astype(int)
    for row, image in enumerate(images):
        theirs = reference(image, (40, 50), warp.matrix[row], warp.size[row], warp.fill[row], warp.bilinear[row])
        assert np.abs(ours[row] - theirs).max() <= 1
        assert (ours[row] != theirs).mean() < 0.001


def test_maps_that_lead_nowhere_show_what_is_beside_the_image():
    image = picture(9, 7)
    for six, fill in (([0] * 6, 5), ([1, 0, 1e12, 0, 1, 0], 6), ([1, 0, 0, 0, 1, -1e9], 7)):
        matrix = np.array([*six, 0, 0, float(any(six))]).reshape(1, 1, 3, 3)
        for bilinear in (False, True):
            warp = Warp(
                matrix=matrix,
                size=np.array([[[9, 7]]], np.int32),
                fill=np.full((1, 1, 3), fill, np.float64),
                active=np.ones(1, bool),
                bilinear=np.array([bilinear]),
            )
            assert (warp_levels(torch.from_numpy(image[None]), warp, np.array([[9, 7]]), 4, 5) == fill).all()


def test_nothing_waits_for_the_device():
    """Tensors of the meta device have no values: whatever asks for one of them on the host fails."""
    rng, output = np.random.default_rng(0), make_output((61, 75), "bfloat16", memory_format="contiguous")
    sizes = rng.integers(75, 130, (COUNT, 2))
    rows = [[(Code.ERASE_NOISE, 3, 4, number, 10, 1, 2), (Code.ERASE_STORED, 1, 2, 3, 4)] for number in range(COUNT)]
    more = {"warp": some_maps(COUNT, sizes, (61, 75), rng), "after": program(rows)}
    drawn = draws_of([np.zeros((*size, 3), np.uint8) for size in sizes], output, **more)
    made = finish(torch.zeros((COUNT, 130, 130, 3), dtype=torch.uint8, device="meta"), drawn, output)
    assert (made.shape, made.dtype, made.device.type) == ((COUNT, 3, 61, 75), torch.bfloat16, "meta")


def test_parts_of_a_batch_are_the_batch(monkeypatch):
    rng, output = np.random.default_rng(0), make_output((61, 75), "float32")
    sizes = rng.integers(75, 130, (COUNT, 2))
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    rows = [[(Code.HUE, 0.1), (Code.ERASE_NOISE, 3, 4, number, 10, 1, number)] for number in range(COUNT)]
    drawn = draws_of(images, output, warp=some_maps(COUNT, sizes, (61, 75), rng), after=program(rows))
    whole = finish(stacked(images), drawn, output)
    monkeypatch.setattr(schedule, "MOST_VALUES", 5 * 61 * 75 * 3)
    assert torch.equal(finish(stacked(images), drawn, output), whole)


def test_what_are_no_levels_is_refused():
    output = make_output((4, 5))
    drawn = draws_of([picture(4, 5)] * 2, output)
    for shape in ((1, 4, 5, 3), (2, 3, 4, 5), (4, 5, 3), (2, 1, 5, 3), (2, 4, 4, 3)):
        with pytest.raises(ConfigError, match="levels"):
            finish(torch.zeros(shape, dtype=torch.uint8), drawn, output)
    assert finish(torch.zeros((0, 4, 5, 3), dtype=torch.uint8), drawn.rows(slice(0, 0)), output).shape == (0, 4, 5, 3)
