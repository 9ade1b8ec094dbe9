"""The regression check for CI: CPU time as a ratio to a reference measured in the same run, never in milliseconds.

It needs nothing beyond the project's own test dependencies, and takes under a minute on two cores. Bounds are generous:
they are there to catch a lost fast path, not to prove a speed; that is what test_loaders.py and its stored results are
for.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from benchmarks.conftest import open_photographs
from benchmarks.harness.datasets import Corpus
from benchmarks.harness.runner import Group, measure
from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.jpeg import decoder

pytestmark = pytest.mark.ratios

_SAMPLES = 200
_ROUNDS = 3
# Pipeline, ours, largest ratio of our median CPU time per image to stock PyTorch's (DataLoader + PIL + v2). With every
# pixel decoded by libjpeg-turbo it would be 0.35.
_LOADERS = [
    ("train224-fp16", {"fastload": 0.25, "fastload-folder": 0.30}),
    ("eval224-fp16", {"fastload": 0.30}),
]
_IMAGES = 48
_REPETITIONS = 9


@pytest.fixture(scope="module")
def photographs(pytestconfig: pytest.Config) -> Corpus:
    """As many as the check needs, from where --data and FASTLOAD_TEST_DATA say, or rendered ones."""
    return open_photographs(pytestconfig, _SAMPLES)


@pytest.mark.parametrize(("pipeline", "bounds"), _LOADERS)
def test_loaders(photographs: Corpus, pipeline: str, bounds: dict[str, float]) -> None:
    """Whole loaders against stock PyTorch; tests/ prove the pixels, here the form of every batch is checked."""
    group = Group(pipeline=pipeline, batch_size=64, threads=2)
    measured = measure(group, [*bounds, "torch-pil"], photographs, _ROUNDS, times_only=True)
    for outcome in measured.values():
        assert outcome.failure is None, outcome.failure
    cpu = {name: 1e3 * statistics.median(outcome.cpu_seconds) for name, outcome in measured.items()}
    ratios = {name: cpu[name] / cpu["torch-pil"] for name in bounds}
    print(f"\n{pipeline}: CPU ms an image {_rounded(cpu)}, ratios {_rounded(ratios)}")
    slow = {name: ratio for name, ratio in ratios.items() if ratio > bounds[name]}
    assert not slow, f"CPU ms an image {_rounded(cpu)}: ratios {_rounded(slow)}, at most {bounds} allowed"


@pytest.fixture(scope="module")
def jpegs(photographs: Corpus) -> list[bytes]:
    """Photographs that our decoder takes, spread over the corpus."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("away from x86-64, JPEGs are decoded by libjpeg-turbo")
    step = max(1, photographs.photographs // _IMAGES)
    found = [photographs.photograph(i, "folder").read_bytes() for i in range(0, photographs.photographs, step)]
    return [jpeg for jpeg in found if decoder.build_index(jpeg)]


@pytest.fixture(scope="module")
def rectangles(jpegs: list[bytes]) -> list[tuple[int, int, int, int]]:
    """A random crop of each."""
    sizes = np.array([simplejpeg.decode_jpeg_header(jpeg)[:2] for jpeg in jpegs], np.int32)
    draws = compile_plan([T.RandomResizedCrop(224)]).draw(seed=1, epoch=0, ids=np.arange(len(jpegs)), sizes=sizes)
    return [tuple(box) for box in draws.box.astype(int).tolist()]


def test_decoding_whole_images(jpegs: list[bytes]) -> None:
    """Every pixel, without an index, against libjpeg-turbo."""
    _at_most(0.9, jpegs, decoder.decode, partial(simplejpeg.decode_jpeg, colorspace="RGB"))


def test_decoding_crops(jpegs: list[bytes], rectangles: list[Any]) -> None:
    """What a random crop shows, with a seek index, against libjpeg-turbo, which decodes everything."""
    crops = [_Crop(jpeg, box, decoder.build_index(jpeg)) for jpeg, box in zip(jpegs, rectangles, strict=True)]
    _at_most(0.5, crops, _Crop.decode, _Crop.decode_everything)


def test_seek_index(jpegs: list[bytes], rectangles: list[Any]) -> None:
    """The same crops with the index against without."""
    crops = [_Crop(jpeg, box, decoder.build_index(jpeg)) for jpeg, box in zip(jpegs, rectangles, strict=True)]
    _at_most(0.9, crops, _Crop.decode, _Crop.decode_without_index)


class _Crop:
    def __init__(self, jpeg: bytes, box: tuple[int, int, int, int], index: bytes) -> None:
        self.jpeg, self.box, self.index = jpeg, box, index

    def decode(self) -> NDArray[np.uint8]:
        return decoder.decode(self.jpeg, index=self.index, rectangle=self.box)

    def decode_without_index(self) -> NDArray[np.uint8]:
        return decoder.decode(self.jpeg, rectangle=self.box)

    def decode_everything(self) -> NDArray[np.uint8]:
        top, left, height, width = self.box
        return simplejpeg.decode_jpeg(self.jpeg, "RGB")[top : top + height, left : left + width]


def _at_most(
    bound: float, items: list[Any], ours: Callable[[Any], NDArray[Any]], reference: Callable[[Any], NDArray[Any]]
) -> None:
    """Equal results, and the median over interleaved passes of our CPU time over the reference's within ``bound``."""
    assert len(items) >= _IMAGES / 2
    for item in items:
        assert np.array_equal(ours(item), reference(item))
    passes = [(_cpu_seconds(ours, items), _cpu_seconds(reference, items)) for _ in range(_REPETITIONS)]
    ratio = statistics.median(mine / theirs for mine, theirs in passes)
    each = [round(1e6 * statistics.median(column) / len(items)) for column in zip(*passes, strict=True)]
    print(f"\n{each[0]} us an image, reference {each[1]}: ratio {ratio:.2f}")
    assert ratio <= bound, f"{each[0]} us an image, reference {each[1]}: ratio {ratio:.2f}, at most {bound} allowed"


def _cpu_seconds(function: Callable[[Any], Any], items: list[Any]) -> float:
    begin = time.thread_time()
    for item in items:
        function(item)
    return time.thread_time() - begin


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
