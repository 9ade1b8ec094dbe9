"""One stage at a time, in this thread: CPU time of what a loader is made of, beside what others use for the same."""

from __future__ import annotations

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
from fastload.augment import compile_plan
from fastload.dataset import Dataset, open_dataset
from fastload.engine.cpu.kernels.layout import DONE, SLACK, flat_slot, make_constants, make_scratch
from fastload.engine.cpu.kernels.resample import resample_image
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


def test_build_index(benchmark: BenchmarkFixture, jpegs: list[bytes]) -> None:
    """The seek index of each photograph; done once, by convert or in a first epoch."""
    from fastload.jpeg.decoder import build_index

    made = _measure(benchmark, "index", lambda: [build_index(jpeg) for jpeg in jpegs], items=len(jpegs), unit="image")
    benchmark.extra_info["bytes"] = round(sum(map(len, made)) / len(made))
    assert sum(map(bool, made)) > 0.9 * len(made)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_resize(benchmark: BenchmarkFixture, pixels: list[NDArray[np.uint8]], crops: Any, dtype: Any) -> None:
    """Crop, antialiased resize, flip, normalise and store as the CPU engine does: one call per image."""
    normalise = () if dtype == "uint8" else (T.ToDtype(dtype, scale=True), T.Normalize(MEAN, STD))
    output = compile_plan([*_RANDOM_CROP, *normalise]).output
    images = np.zeros((_BATCH, 224, 224, 3), dtype)  # a whole batch, so that stores miss the cache as in life
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
    if dtype == "uint8":
        differences = [np.abs(images[i].astype(int) - _by_pillow(pixels[i], crops, i)).max() for i in range(8)]
        assert max(differences) <= 1


def _by_pillow(image: NDArray[np.uint8], crops: Any, i: int) -> NDArray[np.int64]:
    top, left, height, width = crops.box[i].astype(int)
    # Cut first: with box= Pillow's filter reaches over the edge of the crop, torchvision's and ours does not.
    crop = Image.fromarray(image[top : top + height, left : left + width])
    resized = crop.resize((224, 224), Image.Resampling.BILINEAR)
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
