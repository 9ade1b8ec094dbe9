"""One stage at a time, in this thread: CPU time of what a loader is made of, beside what others use for the same."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torchvision.transforms import RandomResizedCrop

from benchmarks.harness.datasets import Corpus
from benchmarks.harness.pipelines import MEAN, STD
from fastload import transforms as T
from fastload.augment import Output, compile_plan
from fastload.batch import as_tensor
from fastload.dataset import Dataset, open_dataset
from fastload.engine.cpu.kernels.layout import DONE, SLACK, flat_slot, make_constants, make_scratch
from fastload.engine.cpu.kernels.resample import resample_image
from fastload.engine.requests import STORAGE
from fastload.order import GlobalOrder

pytestmark = [pytest.mark.stages, pytest.mark.benchmark(timer=time.process_time, min_time=0.005)]

_BATCH = 256
_IMAGES = 64
_RANDOM_CROP = (T.RandomResizedCrop(224), T.RandomHorizontalFlip())
_ROUNDS = 15


def _measure(benchmark: BenchmarkFixture, stage: str, function: Callable[[], Any], *, items: int, unit: str) -> Any:
    """Times ``function``, which handles ``items`` of ``unit``, and returns what it returned."""
    benchmark.group = stage
    benchmark.extra_info = {"items": items, "unit": unit}
    return benchmark.pedantic(function, rounds=_ROUNDS, warmup_rounds=1)


@pytest.fixture(scope="module")
def jpegs(corpus: Corpus) -> list[bytes]:
    """Photographs as stored, spread over the corpus."""
    step = max(1, corpus.photographs // _IMAGES)
    labels = range(0, corpus.photographs, step)[:_IMAGES]
    return [corpus.photograph(label, "folder").read_bytes() for label in labels]


@pytest.fixture(scope="module")
def pixels(jpegs: list[bytes]) -> list[NDArray[np.uint8]]:
    """The same, decoded."""
    return [simplejpeg.decode_jpeg(jpeg, "RGB") for jpeg in jpegs]


@pytest.fixture(scope="module", params=["folder", "fastload"])
def dataset(request: pytest.FixtureRequest, corpus: Corpus) -> Iterator[Dataset]:
    """The image folder, and the shards made of it."""
    with open_dataset(corpus.form(request.param), verify="never") as opened:
        yield opened


@pytest.mark.parametrize("mode", ["global", "local"])
def test_order(benchmark: BenchmarkFixture, mode: Any) -> None:
    """Sample numbers of one batch of ImageNet's 1,281,167."""
    order = GlobalOrder(1_281_167, seed=1, mode=mode, shard_sizes=np.array([1000] * 1281 + [167]))
    ids = _measure(benchmark, "order", lambda: order.ids(3, 512_000, 512_000 + _BATCH), items=_BATCH, unit="sample")
    assert len(np.unique(ids)) == _BATCH


def test_draw(benchmark: BenchmarkFixture) -> None:
    """Crop boxes and flips of one batch."""
    plan = compile_plan(_RANDOM_CROP)
    sizes = np.tile(np.array([[375, 500]], np.int32), (_BATCH, 1))
    ids = np.arange(_BATCH)
    draws = _measure(
        benchmark, "draw", lambda: plan.draw(seed=1, epoch=2, ids=ids, sizes=sizes), items=_BATCH, unit="sample"
    )
    share = (draws.box[:, 2] * draws.box[:, 3]).mean() / (375 * 500)
    expected = np.mean([h * w for _, _, h, w in _torchvision_crops(375, 500, 2000)]) / (375 * 500)
    assert abs(share - expected) < 0.06  # four standard errors of 256 draws


def _torchvision_crops(height: int, width: int, count: int) -> list[tuple[int, int, int, int]]:
    image = torch.empty(1, height, width)
    return [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]


def test_read(benchmark: BenchmarkFixture, dataset: Dataset) -> None:
    """Bytes of one batch in random order from the page cache into a buffer."""
    ids = np.random.default_rng(0).permutation(len(dataset))[:_BATCH].tolist()
    buffer = np.empty(int(dataset.num_bytes(np.arange(len(dataset))).max()), np.uint8)

    def read() -> int:
        return sum(dataset.read_into(sample, buffer) for sample in ids)

    total = _measure(benchmark, "read", read, items=_BATCH, unit="image")
    assert total == dataset.num_bytes(np.array(ids)).sum()


def test_read_with_open(benchmark: BenchmarkFixture, corpus: Corpus) -> None:
    """Reference: open, read, close, as ImageFolder does."""
    paths = sorted(corpus.form("folder").glob("*/*.jpg"))
    chosen = [str(paths[i]) for i in np.random.default_rng(0).permutation(len(paths))[:_BATCH]]

    def read() -> int:
        total = 0
        for path in chosen:
            with open(path, "rb") as file:
                total += len(file.read())
        return total

    assert _measure(benchmark, "read", read, items=_BATCH, unit="image") > 0


def test_decode_whole_simplejpeg(benchmark: BenchmarkFixture, jpegs: list[bytes]) -> None:
    """libjpeg-turbo through simplejpeg into one buffer."""
    buffer = np.empty(1 << 25, np.uint8)

    def decode() -> NDArray[np.uint8]:
        for jpeg in jpegs:
            last: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, buffer=buffer)
        return last

    last = _measure(benchmark, "decode whole", decode, items=len(jpegs), unit="image")
    assert np.array_equal(last, np.asarray(Image.open(BytesIO(jpegs[-1])).convert("RGB")))


def test_decode_whole_pillow(benchmark: BenchmarkFixture, jpegs: list[bytes]) -> None:
    """Pillow, to an array."""

    def decode() -> NDArray[np.uint8]:
        for jpeg in jpegs:
            last = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))
        return last

    last = _measure(benchmark, "decode whole", decode, items=len(jpegs), unit="image")
    assert np.array_equal(last, simplejpeg.decode_jpeg(jpegs[-1], "RGB"))


@pytest.fixture(scope="module")
def crops(pixels: list[NDArray[np.uint8]]) -> Any:
    """Parameters of a random crop of each decoded photograph, as the kernels take them."""
    sizes = np.array([image.shape[:2] for image in pixels], np.int32)
    return compile_plan(_RANDOM_CROP).draw(seed=1, epoch=0, ids=np.arange(len(pixels)), sizes=sizes)


@pytest.fixture(scope="module")
def ours(jpegs: list[bytes]) -> Any:
    """Our decoder with a buffer: (number of a photograph, rectangle, whether with its seek index) -> pixels or None."""
    from fastload.jpeg.decoder import build_index
    from fastload.jpeg.rectangle import decode_rectangle
    from fastload.jpeg.status import OK
    from fastload.jpeg.workspace import new_workspace

    sources = [np.frombuffer(jpeg, np.uint8) for jpeg in jpegs]
    seeks = [np.frombuffer(build_index(jpeg), np.uint8) for jpeg in jpegs]
    none = np.zeros(0, np.uint8)
    work, out = new_workspace(1 << 13, max(map(len, jpegs))), np.empty(1 << 25, np.uint8)

    def decode(i: int, rectangle: tuple[int, int, int, int], indexed: bool) -> NDArray[np.uint8] | None:
        top, left, height, width = rectangle
        source, seek = sources[i], seeks[i] if indexed else none
        status = decode_rectangle(source, len(source), seek, top, left, height, width, out, 3 * width, work)
        return out[: height * width * 3].reshape(height, width, 3) if status == OK else None

    return decode


@pytest.mark.parametrize("part", ["whole", "crop"])
@pytest.mark.parametrize("index", ["with index", "without index"])
def test_decode_fastload(
    benchmark: BenchmarkFixture, pixels: list[NDArray[np.uint8]], crops: Any, ours: Any, part: str, index: str
) -> None:
    """Our decoder, with and without a seek index, of the photographs that it takes."""
    if part == "whole":
        rectangles = [(0, 0, *image.shape[:2]) for image in pixels]
    else:
        rectangles = [tuple(box) for box in crops.box.astype(int).tolist()]
    indexed = index == "with index"
    taken = [i for i in range(len(pixels)) if ours(i, rectangles[i], indexed) is not None]
    assert len(taken) > 0.9 * len(pixels)

    def decode() -> None:
        for i in taken:
            ours(i, rectangles[i], indexed)

    _measure(benchmark, f"decode {part}", decode, items=len(taken), unit="image")
    for i in taken:
        top, left, height, width = rectangles[i]
        assert np.array_equal(ours(i, rectangles[i], indexed), pixels[i][top : top + height, left : left + width])


@pytest.mark.parametrize("stage", ["tables", "tables and entropy", "transform", "upsampling and colour"])
def test_decode_stage(
    benchmark: BenchmarkFixture, jpegs: list[bytes], pixels: list[NDArray[np.uint8]], crops: Any, stage: str
) -> None:
    """One stage of our decoder, with a seek index, over random crops."""
    from benchmarks.harness import stages
    from fastload.jpeg.decoder import build_index
    from fastload.jpeg.status import OK
    from fastload.jpeg.workspace import new_workspace

    code = ["tables", "tables and entropy", "transform", "upsampling and colour"].index(stage)
    # Entropy decoding alone leaves coefficients behind, so that the check has a workspace of its own.
    work, other = (new_workspace(1 << 13, max(map(len, jpegs))) for _ in range(2))
    out = np.empty(1 << 25, np.uint8)
    images = []
    for jpeg, image, box in zip(jpegs, pixels, crops.box.astype(int).tolist(), strict=True):
        index = np.frombuffer(build_index(jpeg), np.uint8)
        if index.size:
            source, notes = np.frombuffer(jpeg, np.uint8), stages.notes_room(*image.shape[:2])
            # What fits into one strip of MCUs can go through the stages one after the other.
            top, left, height, width = box[0], box[1], min(box[2], 8), box[3]
            for each in range(4):
                status = stages.run_decode_stage(each, source, index, (top, left, height, width), out, other, notes)
                assert status == OK
            expected = image[top : top + height, left : left + width]
            assert np.array_equal(out[: expected.size], expected.reshape(-1))
            images.append((source, index, tuple(box), out, work, notes))
            assert stages.run_decode_stage(stages.ENTROPY, *images[-1]) == OK
    assert len(images) > 0.9 * len(jpegs)

    def run() -> None:
        for image in images:
            stages.run_decode_stage(code, *image)

    _measure(benchmark, "decode crop, by stage", run, items=len(images), unit="image")


def test_build_index(benchmark: BenchmarkFixture, jpegs: list[bytes]) -> None:
    """The seek index of each photograph; done once, by convert or in a first epoch."""
    from fastload.jpeg.decoder import build_index

    made = _measure(benchmark, "index", lambda: [build_index(jpeg) for jpeg in jpegs], items=len(jpegs), unit="image")
    benchmark.extra_info["bytes"] = round(sum(map(len, made)) / len(made))
    assert sum(map(bool, made)) > 0.9 * len(made)


def _output(dtype: Any, memory_format: Any, interpolation: str = "bilinear") -> Output:
    normalise = () if dtype == "uint8" else (T.ToDtype(dtype, scale=True), T.Normalize(MEAN, STD))
    output = compile_plan([T.RandomResizedCrop(224, interpolation=interpolation), *normalise]).output
    return dataclasses.replace(output, memory_format=memory_format)


_DTYPES = ["uint8", "float16", "bfloat16", "float32"]
_FORMATS = ["channels_last", "contiguous"]


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("memory_format", _FORMATS)
def test_store(benchmark: BenchmarkFixture, dtype: Any, memory_format: Any) -> None:
    """The last pass alone: grey levels from the cache, normalised, to a slot that is in no cache."""
    from benchmarks.harness.stages import store_image

    output = _output(dtype, memory_format)
    images = np.zeros((_BATCH, *output.shape), STORAGE[output.dtype])
    slot, constants, scratch = flat_slot(images), make_constants(output), make_scratch(output)
    levels = np.random.default_rng(0).integers(0, 256, (224, 3, 32), dtype=np.uint8)
    scratch.resampled[:] = levels.reshape(-1)
    rows = itertools.cycle(range(_BATCH))

    def store() -> None:
        for _ in range(_IMAGES):
            store_image(constants, slot, next(rows), scratch)

    _measure(benchmark, "store", store, items=_IMAGES, unit="image")
    values = torch.from_numpy(levels).float() * torch.tensor(output.scale)[:, None] + torch.tensor(output.bias)[:, None]
    stored = as_tensor(images[:1], output.dtype)
    planar = stored if memory_format == "contiguous" else stored.permute(0, 3, 1, 2)
    assert torch.equal(planar[0, :, :32], values.permute(1, 2, 0).to(stored.dtype))


@pytest.mark.parametrize(
    ("dtype", "memory_format", "interpolation"),
    [
        *((dtype, memory_format, "bilinear") for dtype in _DTYPES for memory_format in _FORMATS),
        ("uint8", "channels_last", "box"),
        ("uint8", "channels_last", "area"),
        ("uint8", "channels_last", "bicubic"),
    ],
)
def test_resize(
    benchmark: BenchmarkFixture,
    pixels: list[NDArray[np.uint8]],
    crops: Any,
    dtype: Any,
    memory_format: Any,
    interpolation: str,
) -> None:
    """Crop, antialiased resize, flip, normalise and store as the CPU engine does: one call per image."""
    output = _output(dtype, memory_format, interpolation)
    # A whole batch, so that stores miss the cache as in life.
    images = np.zeros((_BATCH, *output.shape), STORAGE[output.dtype])
    slot, constants, scratch = flat_slot(images), make_constants(output), make_scratch(output)
    padded = [np.concatenate([image.reshape(-1), np.zeros(SLACK, np.uint8)]) for image in pixels]
    parameters = np.concatenate([crops.box, crops.grid, crops.window[:, :2], crops.flip[:, None]], axis=1)
    passes = iter(range(1 << 30))

    def resize() -> int:
        first = next(passes) * len(pixels)
        status = DONE
        for i, image in enumerate(pixels):
            row = (first + i) % _BATCH
            status |= resample_image(
                padded[i], *image.shape[:2], 0, 0, *image.shape[:2], parameters[i], constants, slot, row, scratch
            )
        return int(status)

    assert _measure(benchmark, "resize and store", resize, items=len(pixels), unit="image") == DONE
    if dtype == "uint8" and interpolation in ("bilinear", "box"):
        shown = images if memory_format == "channels_last" else images.transpose(0, 2, 3, 1)
        pairs = ((shown[i].astype(int), _by_pillow(pixels[i], crops, i, interpolation)) for i in range(8))
        assert max(np.abs(ours - pillows).max() for ours, pillows in pairs) <= 1


def _by_pillow(image: NDArray[np.uint8], crops: Any, i: int, interpolation: str) -> NDArray[np.int64]:
    top, left, height, width = crops.box[i].astype(int)
    # Cut first: with box= Pillow's filter reaches over the edge of the crop, torchvision's and ours does not.
    crop = Image.fromarray(image[top : top + height, left : left + width])
    resized = crop.resize((224, 224), Image.Resampling[interpolation.upper()])
    return np.asarray(resized)[:, ::-1] if crops.flip[i] else np.asarray(resized)


def test_resize_pillow(benchmark: BenchmarkFixture, pixels: list[NDArray[np.uint8]], crops: Any) -> None:
    """Pillow's resize of the same boxes, to uint8, without flip and normalising."""
    opened = [Image.fromarray(image) for image in pixels]
    boxes = [(left, top, left + width, top + height) for top, left, height, width in crops.box.tolist()]

    def resize() -> Any:
        return [
            image.resize((224, 224), Image.Resampling.BILINEAR, box=box)
            for image, box in zip(opened, boxes, strict=True)
        ]

    assert _measure(benchmark, "resize and store", resize, items=len(pixels), unit="image")[0].size == (224, 224)


@pytest.mark.parametrize("interpolation", ["INTER_LINEAR", "INTER_AREA"])
def test_resize_opencv(
    benchmark: BenchmarkFixture, pixels: list[NDArray[np.uint8]], crops: Any, interpolation: str
) -> None:
    """OpenCV's resize of the same boxes, to uint8, without flip and normalising."""
    cv2 = pytest.importorskip("cv2", reason="absent: cv2 is not installed")
    cv2.setNumThreads(0)
    images = np.zeros((_BATCH, 224, 224, 3), np.uint8)
    boxes = crops.box.astype(int).tolist()
    passes = iter(range(1 << 30))

    def resize() -> None:
        first = next(passes) * len(pixels)
        for i, (image, (top, left, height, width)) in enumerate(zip(pixels, boxes, strict=True)):
            crop = image[top : top + height, left : left + width]
            row = images[(first + i) % _BATCH]
            cv2.resize(crop, (224, 224), dst=row, interpolation=getattr(cv2, interpolation))

    _measure(benchmark, "resize and store", resize, items=len(pixels), unit="image")
    assert images.any()
