"""One program writes the photographs of a folder into its own format, in a process of its own: time, and the result."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def _photographs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.jpg"))


def _fastload(folder: Path, target: Path, **options: Any) -> None:
    import fastload

    fastload.convert(folder, target, workers=2, **options)


def _beton(folder: Path, target: Path, **options: Any) -> None:
    _fastload(folder, target / "x.beton", **options)


def _ffcv(folder: Path, target: Path) -> None:
    import cv2
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter
    from torchvision.datasets import ImageFolder

    cv2.setNumThreads(1)  # its threads would not outlive the fork of the writer's workers
    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    DatasetWriter(str(target / "x.beton"), fields, num_workers=2).from_indexed_dataset(ImageFolder(str(folder)))


def _webdataset(folder: Path, target: Path) -> None:
    from webdataset import ShardWriter

    with ShardWriter(str(target / "shard-%06d.tar"), maxsize=256 << 20, verbose=0) as writer:
        for number, path in enumerate(_photographs(folder)):
            writer.write({"__key__": f"{number:09d}", "jpg": path.read_bytes(), "cls": int(path.parent.name)})


def _verify(folder: Path, _target: Path) -> None:
    import fastload.verify

    assert fastload.verify.verify(folder.parent / "fastload", workers=2).ok


def _bytes_in_tars(folder: Path, target: Path) -> None:
    """webdataset reads the very files back, each with its label."""
    import webdataset

    found = []
    for path in sorted(target.glob("*.tar")):
        with open(path, "rb") as file:
            expanded = webdataset.tariterators.tar_file_expander([{"url": str(path), "stream": file}])
            samples = webdataset.tariterators.group_by_keys(expanded)
            found += [(sample["jpg"], int(sample["cls"])) for sample in samples]
    assert found == [(path.read_bytes(), int(path.parent.name)) for path in _photographs(folder)]


def _bytes_in_beton(folder: Path, target: Path) -> None:
    from fastload.dataset import open_dataset

    with open_dataset(target / "x.beton") as dataset:
        found = [(dataset[number].image, dataset[number].label) for number in range(len(dataset))]
    assert found == [(path.read_bytes(), int(path.parent.name)) for path in _photographs(folder)]


def _pixels_in_beton(folder: Path, target: Path) -> None:
    from fastload.dataset import open_dataset

    paths = _photographs(folder)
    with open_dataset(target / "x.beton") as dataset:
        assert dataset.labels(np.arange(len(dataset))).tolist() == [int(path.parent.name) for path in paths]
        for number in range(0, len(paths), 20):
            with Image.open(paths[number]) as before, Image.open(io.BytesIO(dataset[number].image)) as after:
                pixels = [np.asarray(image.convert("RGB"), np.int16) for image in (before, after)]
            assert np.abs(pixels[0] - pixels[1]).mean() < 8  # encoded anew


# Name: what it is, how it writes, how its result is checked.
PROGRAMS: dict[str, tuple[str, Callable[..., None], Callable[[Path, Path], None] | None]] = {
    "fastload": ("every image decoded once, seek indexes, crc32", _fastload, _bytes_in_tars),
    "fastload, no seek index": (
        "every image decoded once, crc32",
        lambda folder, target: _fastload(folder, target, seek_index=False),
        _bytes_in_tars,
    ),
    "fastload, .beton": ("as FFCV's jpg mode, with the original bytes and seek indexes", _beton, _bytes_in_beton),
    "fastload, .beton, quality 90": (
        "every image encoded anew, as FFCV does",
        lambda folder, target: _beton(folder, target, quality=90),
        _pixels_in_beton,
    ),
    "FFCV, DatasetWriter": ("jpg mode, its quality of 90: every image encoded anew", _ffcv, _pixels_in_beton),
    "webdataset, ShardWriter": ("bytes copied, nothing looked at", _webdataset, _bytes_in_tars),
    "fastload verify": ("crc32 and decoding of every image, seek indexes compared", _verify, None),
}


def _times() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, _WHO))


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _measure(name: str, source: Path) -> dict[str, float]:
    """Processor and wall seconds, and bytes written; the result is read back."""
    _, write, check = PROGRAMS[name]
    target = Path(tempfile.mkdtemp(dir=source.parent, prefix="converted-"))
    try:
        cpu, wall = _times(), time.perf_counter()
        write(source, target)
        cpu, wall = _times() - cpu, time.perf_counter() - wall
        if check is not None:
            check(source, target)
        num_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    finally:
        shutil.rmtree(target)
    return {"cpu": cpu, "wall": wall, "bytes": num_bytes}


def main(name: str, folder: Path, small: Path) -> None:
    """Warms up on a few photographs, says so, and then measures once for every line of its input."""
    _measure(name, small)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(_measure(name, folder)), flush=True)
    os._exit(0)  # FFCV leaves threads behind


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
