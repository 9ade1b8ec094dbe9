"""What only the DALI engine has: files that DALI does not take, batches that it gives up, images that it keeps."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from fastload.engine.base import OpenSlot, Request
from fastload.engine.cpu import CpuEngine
from fastload.engine.dali import DaliEngine, probe
from fastload.engine.dali.arguments import make_arguments
from fastload.errors import ConfigError, MissingExtraError
from fastload.jpeg.header import read_header
from fastload.jpeg.recode.tiles import retile
from fastload.stats import Stats
from tests.engine.helpers import (
    MemoryDataset,
    decoded,
    jpeg,
    make_draws,
    make_output,
    make_slot,
    picture,
    pillow_reference,
    whole_images,
)
from tests.engine.test_engine_hostile import PHOTO, jpeg_header, odd_images, png_header


@pytest.fixture
def make_engine():
    made = []

    def make(dataset, output, **options):
        made.append(DaliEngine(dataset, output, num_workers=2, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def whole(ids, output):
    """Images of PHOTO's size, each as it is."""
    return make_draws(ids, [(0, 0, *PHOTO.shape[:2])] * len(ids), output)


def test_odd_images_have_the_pixels_that_pillow_shows(make_engine):
    files = [data for data, _ in odd_images().values()]
    output = make_output(PHOTO.shape[:2])
    slot = make_slot(len(files), output)
    request = Request(rows=np.arange(len(files)), draws=whole(range(len(files)), output))
    assert make_engine(MemoryDataset(files), output).submit(lambda: request, slot).result() == ()
    for name, data, image in zip(odd_images(), files, slot, strict=True):
        np.testing.assert_array_equal(image, decoded(data), err_msg=name)


def damaged():
    good = jpeg(PHOTO, quality=90)
    noise = bytearray(good)
    noise[len(noise) // 2 : len(noise) // 2 + 40] = b"\x55" * 40
    return [good[: len(good) // 2], bytes(noise), b"", b"no image", jpeg_header(65500, 65500), png_header(9500, 9500)]


@pytest.mark.parametrize("proven", [False, True])
def test_damaged_files_cost_neither_the_batch_nor_the_engine(make_engine, proven):
    good = jpeg(PHOTO, quality=90)
    files = [good, *damaged()[:: 2 if proven else 1], good]
    dataset, output, stats = MemoryDataset(files), make_output(PHOTO.shape[:2]), Stats()
    dataset.proven = proven  # then nobody looks at the entropy-coded data before DALI does, and DALI gives the batch up
    engine = make_engine(dataset, output, stats=stats)
    request = Request(rows=np.arange(len(files)), draws=whole(range(len(files)), output))
    cpu = CpuEngine(dataset, output, num_workers=1)
    expected = [failure.sample_id for failure in cpu.submit(lambda: request, make_slot(len(files), output)).result()]
    cpu.close()
    assert len(expected) >= 3
    for _ in range(3):
        slot = make_slot(len(files), output)
        ahead = [engine.submit(lambda: request, slot), engine.submit(lambda: request, make_slot(len(files), output))]
        for pending in ahead:
            assert [failure.sample_id for failure in pending.result()] == expected
        np.testing.assert_array_equal(slot[[0, -1]], [decoded(good)] * 2)
    assert ("dali.rebuilt" in stats.counts()) == proven


def test_images_stay_in_dalis_memory_where_the_slot_is_open(make_engine):
    dataset = MemoryDataset([jpeg(picture(60 + i, 80, seed=i)) for i in range(8)])
    output = make_output(dtype="float32")
    engine = make_engine(dataset, output)
    plan = whole_images(dataset, output)
    slots = [OpenSlot() for _ in range(6)]
    for pending in [engine.submit(plan, slot) for slot in slots]:
        assert pending.result() == ()
    expected = make_slot(8, output)
    engine.submit(plan, expected).result()
    images = [torch.from_dlpack(slot.images) for slot in slots]
    assert len({image.data_ptr() for image in images}) == 6, "each is somebody's own as long as he keeps it"
    engine.close()
    for image in images:
        np.testing.assert_array_equal(image.numpy(), expected)


def test_substitutes_enter_an_open_slot_beside_the_others(make_engine):
    files = [jpeg(picture(60, 80, seed=i)) for i in range(4)]
    dataset, output = MemoryDataset([*files, b"damaged"]), make_output()
    engine, slot = make_engine(dataset, output), OpenSlot()
    draws = make_draws([0, 4, 2], [(0, 0, 60, 80)] * 3, output)
    failures = engine.submit(lambda: Request(rows=np.arange(3), draws=draws), slot).result()
    assert [failure.row for failure in failures] == [1]
    again = make_draws([3], [(0, 0, 60, 80)], output)
    assert engine.submit(lambda: Request(rows=np.array([1]), draws=again), slot).result() == ()
    expected = make_slot(3, output)
    engine.submit(
        lambda: Request(rows=np.arange(3), draws=make_draws([0, 3, 2], [(0, 0, 60, 80)] * 3, output)), expected
    ).result()
    np.testing.assert_array_equal(torch.from_dlpack(slot.images).numpy(), expected)


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_windows_boxes_borders_and_flips_of_every_kind(make_engine, dtype, memory_format):
    rng = np.random.default_rng(0)
    files = [jpeg(picture(40 + 9 * i, 95 - 6 * i, seed=i), quality=95) for i in range(8)]
    dataset, output = MemoryDataset(files), make_output((24, 30), dtype, memory_format=memory_format)
    sizes = dataset.sizes(np.arange(8))
    ids = np.repeat(np.arange(8), 6)
    part = rng.uniform(0.2, 1.0, (48, 2))
    extent = sizes[ids] * part
    box = np.concatenate([rng.uniform(0, 1, (48, 2)) * (sizes[ids] - extent), extent], 1)
    grid = rng.integers(5, 60, (48, 2))
    start = rng.integers(-35, 70, (48, 2))
    windows = np.concatenate([start, np.tile([[24, 30]], (48, 1))], 1)
    draws = make_draws(ids, box, output, grids=grid, windows=windows, flips=rng.integers(0, 2, 48))
    pad = rng.integers(0, 256, (48, 3)) * (np.arange(48)[:, None] % 3 > 0.0)
    draws = dataclasses.replace(draws, flip_vertical=rng.integers(0, 2, 48) > 0, pad=pad.astype(np.float64))
    slot = make_slot(48, output)
    assert make_engine(dataset, output).submit(lambda: Request(rows=np.arange(48), draws=draws), slot).result() == ()
    images = slot if memory_format == "channels_last" else slot.transpose(0, 2, 3, 1)
    beyond, beside = 0, 0
    for row in range(48):
        reference = pillow_reference(decoded(files[ids[row]]), draws, row, output).astype(np.float64)
        if dtype != "uint8":
            reference = reference * output.scale + output.bias
        difference = np.abs(images[row] - reference) / (1 if dtype == "uint8" else max(output.scale))
        beyond += (difference > 1.01).sum()
        beside += bool((reference == reference[0, 0]).all())
        assert difference.max() < 24
    assert beside >= 3, "some windows lie wholly beside the grid"
    # Only at the borders of crops that are made smaller, see DaliEngine.
    assert beyond / slot.size < 0.02


def test_arguments_of_a_centre_crop_and_of_a_crop_that_needs_padding():
    output = make_output((224, 224))
    draws = make_draws(
        [0, 1],
        [(0, 0, 375, 500), (0, 0, 100, 400)],
        output,
        grids=[(256, 341), (112, 448)],
        windows=[(16, 58, 224, 224), (-56, 112, 224, 224)],
    )
    arguments = make_arguments(draws)
    np.testing.assert_array_equal(arguments.cut, [(0, 0, 375, 500), (0, 0, 100, 400)])
    np.testing.assert_array_equal(arguments.size, [(224, 224), (112, 224)])
    np.testing.assert_array_equal(arguments.canvas, [(224, 224)] * 2)
    np.testing.assert_array_equal(arguments.place, [(0, 0), (0.5, 0)])
    np.testing.assert_array_equal(arguments.seen, [(0, 0, 224, 224), (56, 0, 168, 224)])
    expected = [(16 * 375 / 256, 58 * 500 / 341, 240 * 375 / 256, 282 * 500 / 341), (0, 100, 100, 300)]
    np.testing.assert_allclose(arguments.roi, expected, rtol=1e-6)


def test_what_dali_has_not_is_said_at_once():
    dataset = MemoryDataset([jpeg(PHOTO)])
    with pytest.raises(ConfigError, match='engine="dali" has no bicubic interpolation with antialias=False'):
        DaliEngine(dataset, make_output(interpolation="bicubic", antialias=False))


@pytest.mark.parametrize(
    ("cuda", "wanted"),
    [("13.2", r"'fastload\[dali\]'"), ("12.8", "nvidia-dali-cuda120"), (None, r"'fastload\[dali\]'")],
)
def test_a_missing_dali_is_named_with_the_command_that_brings_it(monkeypatch, cuda, wanted):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(MissingExtraError, match=f"pip install {wanted}$"):
        DaliEngine(MemoryDataset([jpeg(PHOTO)]), make_output())


def test_regions_are_probed_once_in_a_process_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTLOAD_CACHE_DIR", str(tmp_path))
    assert probe.regions_are_exact(None), "DALI on the CPU decodes regions exactly"
    (kept,) = (tmp_path / "dali").iterdir()
    monkeypatch.setattr(probe.subprocess, "run", lambda *arguments, **options: pytest.fail("it was probed again"))
    assert probe.regions_are_exact(None)
    kept.write_text("regions are not exact")
    assert not probe.regions_are_exact(None)


def test_a_probe_that_crashes_means_whole_images(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FASTLOAD_CACHE_DIR", str(tmp_path))
    crash = [sys.executable, "-c", "import os; os.abort()"]
    run = subprocess.run
    monkeypatch.setattr(probe.subprocess, "run", lambda command, **options: run(crash, **options))
    assert not probe.regions_are_exact(None)
    assert "decodes them whole" in caplog.text
    files = [jpeg(PHOTO, subsampling=kind) for kind in range(3)]
    output = make_output(PHOTO.shape[:2])
    slot = make_slot(3, output)
    engine = DaliEngine(MemoryDataset(files), output, num_workers=1)
    engine.submit(lambda: Request(rows=np.arange(3), draws=whole(range(3), output)), slot).result()
    engine.close()
    np.testing.assert_array_equal(slot, [decoded(data) for data in files])


def test_batches_may_grow(make_engine):
    dataset = MemoryDataset([jpeg(picture(60 + i, 80, seed=i)) for i in range(8)])
    output = make_output()
    engine = make_engine(dataset, output)
    expected = make_slot(8, output)
    engine.submit(whole_images(dataset, output), expected).result()
    engine = make_engine(dataset, output)
    slots = [make_slot(count, output) for count in (2, 3, 8, 1, 8)]
    pending = [engine.submit(whole_images(dataset, output, ids=list(range(len(slot)))), slot) for slot in slots]
    for one, slot in zip(pending, slots, strict=True):
        assert one.result() == ()
        np.testing.assert_array_equal(slot, expected[: len(slot)])


def test_of_files_with_tiles_only_what_the_crop_needs_is_decoded(make_engine):
    """Chroma of every sampling, crops at every border: the pixels of whole files, from less than half of the bytes."""
    rng = np.random.default_rng(0)
    files = [jpeg(picture(300 + 11 * i, 430 - 13 * i, seed=i), quality=90, subsampling=i % 3) for i in range(9)]
    tiled = [retile(data) for data in files]
    assert all(header.restart_interval for header in map(read_header, tiled))
    output = make_output((64, 64))
    ids = np.repeat(np.arange(9), 6)
    sizes = MemoryDataset(files).sizes(ids)
    extent = np.floor(sizes * rng.uniform(0.1, 0.6, (54, 2)))
    place = rng.choice([0.0, 0.37, 1.0], (54, 2))
    box = np.concatenate([np.floor(place * (sizes - extent)), extent], 1)
    draws = make_draws(ids, box, output, flips=rng.integers(0, 2, 54))
    slots, stats = [], Stats()
    for data in (files, tiled):
        slots.append(make_slot(54, output))
        engine = make_engine(MemoryDataset(data), output, stats=stats)
        assert engine.submit(lambda: Request(rows=np.arange(54), draws=draws), slots[-1]).result() == ()
    np.testing.assert_array_equal(slots[1], slots[0])
    read = sum(len(tiled[i]) for i in ids)
    assert stats.counts()["bytes.spared"] > read / 2
