"""Reading an image folder, for the peers that do it by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.datasets import ANNOTATIONS, Annotated, read_boxes


def list_folder(folder: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Paths and labels of an image folder, classes in sorted order."""
    paths = sorted(folder.glob("*/*.jpg"))
    names = {name: number for number, name in enumerate(sorted({path.parent.name for path in paths}))}
    return [str(path) for path in paths], np.array([names[path.parent.name] for path in paths], np.int64)


def boxes_of(folder: Path, paths: Sequence[str]) -> list[Annotated]:
    """Boxes, category ids and size of the images at these paths of a corpus with boxes."""
    annotations = read_boxes(folder.parent / ANNOTATIONS)
    photographs = len({Path(path).parent for path in paths})
    return [annotations[int(Path(path).parent.name) + photographs * int(Path(path).stem)] for path in paths]


def read(path: str) -> bytes:
    """All bytes of a file."""
    with open(path, "rb") as file:
        return file.read()
