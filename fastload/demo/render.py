"""The demo's data set on disk: labelled JPEG files of the kinds that real ones hold, drawn from a seed."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fastload.demo.scenes import CLASS_CUES, CLASS_NAMES, COLOURS, Draw, draw_picture, noise_plane
from fastload.errors import ConfigError, DataError
from fastload.processors import available_processors

Split = Literal["train", "val"]

# Of 2,400 pictures and their shards, and a little more.
_MEGABYTES: Final = 500
# Seeds of the two splits differ: no picture of one is in the other.
_SPLIT_KEYS: Final = {"train": 2, "val": 3}


@dataclass(frozen=True, kw_only=True)
class JpegKind:
    """How one picture is stored.

    Attributes:
        grey: One component in place of three.
        progressive: Several scans in place of one.
        full_chroma: 4:4:4 in place of 4:2:0; says nothing where grey.
        quality: libjpeg's scale, 1 to 100.
    """

    grey: bool
    progressive: bool
    full_chroma: bool
    quality: int


@dataclass(frozen=True, kw_only=True)
class RenderedData:
    """What was rendered.

    Attributes:
        train, val: Folders with one folder of JPEG files for each class.
        classes: Names of the classes, sorted, as ImageFolder numbers them.
        num_train, num_val: Files in each, the truncated one included.
        truncated: The one file (in train) whose end is missing.
    """

    train: Path
    val: Path
    classes: tuple[str, ...]
    num_train: int
    num_val: int
    truncated: Path


def jpeg_kind(label: int, number: int) -> JpegKind:
    """How picture ``number`` of class ``label`` is stored: fixed shares, so that small sets have every kind too.

    One in six is progressive and one in three 4:4:4. One in six of the grey classes is stored without colour; a
    coloured object without its colour would have no right answer.
    """
    grey = COLOURS[CLASS_CUES[label][1]] == "grey" and number % 6 == 1
    return JpegKind(
        grey=grey,
        progressive=number % 6 == 2,
        full_chroma=number % 3 == 0,
        quality=(85, 90, 92, 95)[(number + label) % 4],
    )


def encode_picture(seed: int, split: Split, label: int, number: int, noise: NDArray[np.int16]) -> bytes:
    """The JPEG file of one picture; a pure function of its arguments (``noise`` is ``noise_plane(seed)``)."""
    picture = draw_picture(Draw(seed, _SPLIT_KEYS[split], label, number), label, noise)
    kind = jpeg_kind(label, number)
    buffer = io.BytesIO()
    (picture.convert("L") if kind.grey else picture).save(
        buffer,
        "JPEG",
        quality=kind.quality,
        progressive=kind.progressive,
        subsampling="4:4:4" if kind.full_chroma else "4:2:0",
    )
    return buffer.getvalue()


def planned_data(folder: str | os.PathLike[str], *, num_train: int, num_val: int) -> RenderedData:
    """What :func:`render_data` will have written; touches nothing.

    Raises:
        ConfigError: A number is too small.
    """
    classes = len(CLASS_NAMES)
    if num_train < 2 * classes or num_val < classes:
        raise ConfigError(
            f"the demo needs at least {2 * classes} pictures to train with and {classes} to hold out, {num_train} and "
            f"{num_val} were asked for"
        )
    root = Path(folder)
    return RenderedData(
        train=root / "train",
        val=root / "val",
        classes=tuple(sorted(CLASS_NAMES)),
        num_train=num_train // classes * classes,
        num_val=num_val // classes * classes,
        truncated=_path(root, "train", 0, num_train // classes - 1),
    )


def render_data(
    folder: str | os.PathLike[str],
    *,
    num_train: int = 2000,
    num_val: int = 400,
    seed: int = 0,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RenderedData:
    """Renders a training and a held-out set: ``folder/{train,val}/<class>/<number>.jpg``.

    The same arguments give the same bytes, for any number of threads. The last file of one class is cut off in the
    middle, as an interrupted download leaves it.

    Args:
        folder: Where to write; made if it does not exist. Files of the same names are replaced.
        num_train: Pictures for training, at least two for each class; rounded down to equal classes.
        num_val: Held-out pictures, at least one for each class; rounded down to equal classes.
        seed: Another seed draws other pictures; not negative.
        num_threads: Threads that draw; default is the number of cores that this process may use.
        progress: Called in this thread with (pictures done, pictures in all) after each.

    Returns:
        What was written.

    Raises:
        ConfigError: A number is too small.
        DataError: The folder cannot be written.
    """
    if seed < 0:
        raise ConfigError(f"the seed must not be negative, it is {seed}")
    data = planned_data(folder, num_train=num_train, num_val=num_val)
    noise = noise_plane(seed)
    jobs = _jobs(data)
    stop = threading.Event()

    def write(path: Path) -> None:
        if not stop.is_set():
            picture = encode_picture(seed, *jobs[path], noise)
            path.write_bytes(picture[: len(picture) // 2] if path == data.truncated else picture)

    try:
        for parent in {path.parent for path in jobs}:
            parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(num_threads or available_processors(), thread_name_prefix="fastload-demo") as pool:
            try:
                for done, future in enumerate(as_completed([pool.submit(write, path) for path in jobs]), start=1):
                    future.result()
                    if progress is not None:
                        progress(done, len(jobs))
            except BaseException:
                stop.set()  # Ctrl-C: the threads leave after the picture in hand
                raise
    except OSError as error:
        raise DataError(
            f"the pictures cannot be written: {error.strerror or error}; the demo needs about {_MEGABYTES} MB",
            path=error.filename or os.fspath(folder),
        ) from error
    return data


def _jobs(data: RenderedData) -> dict[Path, tuple[Split, int, int]]:
    """Split, class and number of each file."""
    sizes: dict[Split, int] = {"train": data.num_train, "val": data.num_val}
    return {
        _path(data.train.parent, split, label, number): (split, label, number)
        for split, size in sizes.items()
        for label in range(len(CLASS_NAMES))
        for number in range(size // len(CLASS_NAMES))
    }


def _path(root: Path, split: Split, label: int, number: int) -> Path:
    return root / split / CLASS_NAMES[label] / f"{number:05d}.jpg"
