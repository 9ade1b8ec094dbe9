"""The inspection from beginning to end: what is exact from the index, what is read, and where it is written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastload.augment import compile_plan
from fastload.dataset import BetonDataset, Dataset, ImageFolderDataset, ShardedDataset, open_dataset
from fastload.errors import DataError, FastloadError
from fastload.inspect.augmented import Augmented, augment_samples
from fastload.inspect.cost import measure_decoding
from fastload.inspect.distribution import Distribution, describe
from fastload.inspect.duplicates import find_duplicates
from fastload.inspect.examine import Examined, bounded_sample, examine, spread_over_classes
from fastload.inspect.findings import find
from fastload.inspect.objects import count_objects
from fastload.inspect.page import render_page
from fastload.inspect.pictures import Picture, draw_sheet, take_picture
from fastload.inspect.plan import CompiledTransforms
from fastload.inspect.report import ClassBalance, Inspection
from fastload.recipe import Recipe
from fastload.train.data import epoch_transforms
from fastload.transforms import RandomHorizontalFlip, RandomResizedCrop

Progress = Callable[[str, int, int], None]

DEFAULT_SAMPLE = 2000
_MOST_UNREADABLE = 100
# Each row shows one sample in four epochs.
_AUGMENTED_ROWS = 8


def _silent(_name: str, _done: int, _total: int) -> None:
    return None


def inspect_dataset(
    path: str | os.PathLike[str],
    *,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    recipe: Recipe | None = None,
    progress: Progress = _silent,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
) -> Inspection:
    """Looks at a data set: what fastload convert wrote (or its URL), a folder of images, or a .beton file.

    Samples, classes and, where the data set has an index, sizes are counted exactly. What takes reading files is found
    on a random sample of the images; nothing is written.

    Args:
        path: The data set.
        sample: Images to read at most; 0 reads all.
        seed: Chooses them.
        recipe: Whose training crops the decode cost is measured for; without one RandomResizedCrop(224).
        progress: Called with the name of a step, what is done of it, and its total.
        cache_dir, cache_bytes: For a data set behind a URL, as in open_dataset.

    Raises:
        DataError: There is no data set, or its index is damaged.
        ConfigError: The recipe's transforms cannot be used.
    """
    with open_dataset(path, cache_dir=cache_dir, cache_bytes=cache_bytes) as dataset:
        if not len(dataset):
            raise DataError("the data set holds no samples", path=dataset.path)
        ids = bounded_sample(len(dataset), sample, seed)
        expectation = dataset.expect(iter([ids]))
        examined = examine(dataset, ids, lambda done, total: progress("reading", done, total))
        expectation.close()
        distributions, num_bytes, bytes_exact = _distributions(dataset, examined)
        if isinstance(dataset, ShardedDataset):  # the index has every checksum
            everything = np.arange(len(dataset))
            compared = everything, dataset.num_bytes(everything), dataset.crc32(everything)
        else:
            compared = examined.ids, examined.num_bytes, examined.crc32
        duplicates = find_duplicates(dataset, *compared, lambda done, total: progress("comparing", done, total))
        objects = None
        if set(_schema(dataset)) - {"image", "label"}:
            objects = count_objects(
                dataset, examined.ids, lambda done, total: progress("reading annotations", done, total)
            )
        chain = (
            (RandomResizedCrop(224), RandomHorizontalFlip()) if recipe is None else epoch_transforms(recipe, "off", 0)
        )
        cost = measure_decoding(
            dataset,
            examined.ids,
            compile_plan(chain),
            seed=seed if recipe is None else recipe.train.seed,
            name="RandomResizedCrop(224)" if recipe is None else "the recipe's training transforms",
        )
        found = Inspection(
            path=dataset.path,
            kind=_kind(dataset),
            samples=len(dataset),
            files=_num_files(dataset),
            num_bytes=num_bytes,
            bytes_exact=bytes_exact,
            schema=_schema(dataset),
            origin=_origin(dataset),
            skipped=dataset.manifest.counts.skipped if isinstance(dataset, ShardedDataset) else 0,
            classes=_classes(dataset),
            examined=len(ids),
            seed=seed,
            unreadable=tuple(
                (dataset.key(number), reason) for number, reason in examined.unreadable[:_MOST_UNREADABLE]
            ),
            num_unreadable=len(examined.unreadable),
            distributions=distributions,
            coding=examined.coding,
            seek=examined.seek,
            cost=cost,
            duplicates=duplicates,
            objects=objects,
        )
    return dataclasses.replace(found, findings=find(found))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the sheets show: samples as they are, and what a recipe makes of some of them (None without one)."""

    samples: tuple[Picture, ...]
    augmented: Augmented | None


def take_pictures(
    path: str | os.PathLike[str],
    *,
    count: int = 24,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    recipe: Recipe | None = None,
    progress: Progress = _silent,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
) -> Pictures:
    """Draws ``count`` random samples of as many classes as there are, and some of them augmented by ``recipe``.

    The others are as for ``inspect_dataset``. Samples that cannot be decoded are left out.
    """
    with open_dataset(path, cache_dir=cache_dir, cache_bytes=cache_bytes) as dataset:
        ids = bounded_sample(len(dataset), sample, seed)
        chosen = spread_over_classes(ids.tolist(), dataset.labels(ids).tolist(), count, seed)
        pictures = []
        for done, number in enumerate(chosen, start=1):
            with contextlib.suppress(DataError):
                pictures.append(take_picture(dataset, number))
            progress("drawing samples", done, len(chosen))
        augmented = None
        if recipe is not None and pictures:
            rows = [picture.id for picture in pictures][:: max(1, len(pictures) // _AUGMENTED_ROWS)][:_AUGMENTED_ROWS]
            augmented = augment_samples(
                dataset, rows, recipe, lambda done, total: progress("drawing augmentation", done, total)
            )
        return Pictures(samples=tuple(pictures), augmented=augmented)


def write_html(
    target: str | os.PathLike[str],
    inspection: Inspection,
    pictures: Pictures,
    plans: Sequence[CompiledTransforms] = (),
) -> None:
    """Writes the page: one file that asks for nothing else, and runs no scripts."""
    page = render_page(inspection, pictures.samples, pictures.augmented, plans)
    _write(target, lambda path: path.write_text(page, encoding="utf-8"))


def write_png(target: str | os.PathLike[str], inspection: Inspection, pictures: Pictures) -> None:
    """Writes the samples, and below them what the recipe makes of some, as one picture."""
    title = f"{inspection.path}: {len(pictures.samples)} of {inspection.samples:,} samples"
    image = draw_sheet(title, pictures.samples, pictures.augmented)
    _write(target, lambda path: image.save(path, format="PNG"))


def _write(target: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    try:
        write(Path(target))
    except OSError as error:
        raise FastloadError(f"{os.fspath(target)} cannot be written: {error.strerror}; choose another place") from error


def _kind(dataset: Dataset) -> str:
    if isinstance(dataset, ImageFolderDataset):
        return "image folder"
    return ".beton file" if isinstance(dataset, BetonDataset) else "tar shards"


def _num_files(dataset: Dataset) -> int:
    if isinstance(dataset, ShardedDataset):
        return len(dataset.manifest.shards)
    return len(dataset) if isinstance(dataset, ImageFolderDataset) else 1


def _schema(dataset: Dataset) -> dict[str, str]:
    extras = dataset.manifest.extras if isinstance(dataset, ShardedDataset) else ()
    return {**dataset.schema, **{name: "member" for name in extras if name not in dataset.schema}}


def _origin(dataset: Dataset) -> dict[str, str]:
    """The account of the conversion, and what dataset.json says of it, flat values alone."""
    if not isinstance(dataset, ShardedDataset):
        return {}
    counts = dataset.manifest.counts
    account = {"found": counts.found, "skipped": counts.skipped, "re-encoded": counts.reencoded}
    said = {name: value for name, value in dataset.manifest.conversion.items() if isinstance(value, str | int | float)}
    return {name: str(value) for name, value in {**account, **said}.items()}


def _classes(dataset: Dataset) -> ClassBalance | None:
    labels = dataset.labels(np.arange(len(dataset)))
    unlabelled = int((labels < 0).sum())
    if unlabelled == len(labels):
        return None
    if dataset.classes:
        names = dataset.classes
        counts = np.bincount(labels[labels >= 0], minlength=len(names))
    else:  # any whole numbers may stand in a .beton file: only those that are there are listed
        numbers, counts = np.unique(labels[labels >= 0], return_counts=True)
        names = tuple(str(number) for number in numbers.tolist())
    return ClassBalance(names=tuple(names), counts=tuple(counts.tolist()), unlabelled=unlabelled)


def _distributions(dataset: Dataset, examined: Examined) -> tuple[dict[str, Distribution], int, bool]:
    """Sizes of all images where an index has them, else of those that were read; and the bytes of all."""
    exact = not isinstance(dataset, ImageFolderDataset) or len(examined.ids) == len(dataset)
    ids: NDArray[np.int64] = np.arange(len(dataset)) if exact else examined.ids
    sizes, num_bytes = dataset.sizes(ids).astype(np.int64), dataset.num_bytes(ids)
    total = int(num_bytes.sum()) if exact else round(float(num_bytes.mean()) * len(dataset)) if len(ids) else 0
    known = (sizes > 0).all(axis=1)
    height, width = sizes[known].T
    found = {
        "width": describe(width, "px", exact=exact),
        "height": describe(height, "px", exact=exact),
        "aspect": describe(width / height, "", exact=exact),
        "bytes": describe(num_bytes[known], "bytes", exact=exact),
        "bits": describe(8 * num_bytes[known] / (width * height), "bits/px", exact=exact),
    }
    return {name: values for name, values in found.items() if values is not None}, total, exact
