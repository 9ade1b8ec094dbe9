"""convert(): a source in, a data set of tar shards out; resumable, reproducible, every image accounted for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import PIL
import simplejpeg

import fastload
from fastload.convert.beton import BetonFile, finished_beton
from fastload.convert.options import Options, parse_size
from fastload.convert.part import PartAccount
from fastload.convert.production import Production, Progress, Target, strict_error
from fastload.convert.publish import Shards, publish
from fastload.convert.selection import Selection, parse_classes, parse_part
from fastload.convert.summary import ConvertSummary, first_skipped, summarise, summarise_beton
from fastload.convert.workspace import Workspace, describe_difference
from fastload.dataset.indexing import write_seek_indexes
from fastload.dataset.manifest import MANIFEST_NAME, Manifest
from fastload.dataset.sharded import ShardedDataset
from fastload.errors import ConfigError, DataError
from fastload.jpeg.decoder import warm_up_indexer
from fastload.jpeg.recode.tiles import warm_up_recoder
from fastload.processors import available_processors
from fastload.remote import is_url, local_path
from fastload.sources import Paths, Source, given_paths, open_source

_SHARD_SIZE: Final = "256MiB"


def convert(
    src: Paths,
    dst: str | os.PathLike[str],
    *,
    shard_size: str | int = _SHARD_SIZE,
    workers: int | None = None,
    image: str | None = None,
    label: str | None = None,
    part: str | None = None,
    part_seed: int = 0,
    classes: str | Sequence[str] | None = None,
    seed: int | None = None,
    max_side: int | None = None,
    quality: int | None = None,
    strict: bool = False,
    raw: bool = False,
    dali_labels: bool = False,
    tiles: bool = False,
    seek_index: bool | None = None,
    images: str | os.PathLike[str] | None = None,
    masks: bool = False,
    mask_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    index_progress: Callable[[int, int], None] | None = None,
    source_progress: Callable[[int, int], None] | None = None,
) -> ConvertSummary:
    """Converts images to WebDataset shards with an index, or to one .beton file, which FFCV reads.

    The bytes of JPEG files are kept, unless ``max_side`` or ``quality`` ask otherwise or no training decoder would
    take them; every image is decoded once to prove that it can be. Equal sources and options give equal bytes for any
    number of workers. A conversion that was interrupted continues when it is called again and ends with the same
    bytes; one that has finished does nothing.

    A destination that ends in .beton becomes a file of FFCV's format, with the fields "image" and "label" (-1 where
    there is none), "json" where the source has such members, int, float and ndarray fields where it is a .beton file
    that has them, and bytes fields for other members. Beside it lie
    x.beton.json (names of the classes, account, options), the ledger x.beton.jsonl, and x.beton.seek (see
    ``seek_index``); FFCV looks at none of them. Until it is complete, all of it lies in the folder
    .x.beton.fastload-convert. An existing file is never replaced.

    Boxes, keypoints and masks become smaller with their image; how they are stored, and read as arrays, stands in
    fastload.dataset.fields.

    Args:
        src: Class folders of images, a folder of images without classes, ImageNet's flat validation folder with its
            file of labels (ImageNetValSource of fastload.sources), a list of files with labels (.csv, .tsv, .jsonl;
            TableSource), WebDataset shards (.tar; TarSource), Parquet files (ParquetSource), a JSON file of COCO's
            (CocoSource), a folder of Pascal VOC or a list in its ImageSets (VocSource), a folder with images/ and
            masks/ (MaskPairSource), a data set of fastload or a .beton file (DatasetSource). Patterns (``*.tar``,
            ``{000..099}``) are expanded; several, in a sequence, become one (MergedSource). Of tars, Parquet files,
            lists, data sets and folders of images also URLs.
        dst: The folder to write; new, empty, or holding this conversion unfinished or finished. Or a file, x.beton.
        shard_size: Source bytes in one shard ("256MiB", "1GB", a number of bytes).
        workers: Threads that decode; None takes one for each core that this process may use.
        image: Where the image is: column of a list, ending of a member of shards, field of a .beton file. None: where
            it usually is.
        label: Where the label is, in the same way (``"json.label"`` for a field of the member .json); ``"none"`` for
            no labels.
        part: Takes this part of each class, which is shuffled for it: "0:0.9" and "0.9:1" (or "90%:100%") divide a
            source into training and validation data, no sample in both and none left out.
        part_seed: Draws the part; data sets that must not overlap take the same.
        classes: Takes these classes only and numbers them anew, in the order of the source: names, or as one text
            "cat,dog" or the path of a text file with a name in each line.
        seed: Shuffles the order in which samples are written; None keeps the order of the source.
        max_side: Reduces larger images to this longest side in pixels, by area, at quality 90 if ``quality`` is None.
        quality: Encodes every image anew at this JPEG quality, with the chroma sampling that it has.
        raw: Stores RGB pixels in place of JPEGs: no decoding when they are read, and about ten times the bytes. For
            .beton only, and with ``max_side``.
        strict: Makes the first image that cannot be read an error in place of a line in conversion.jsonl.
        dali_labels: Adds a member .lbl (the label as 8 bytes, little-endian), which DALI reads.
        tiles: Rewrites JPEGs without loss as baseline files with restart tiles (1% more bytes), from which an engine
            that decodes on a GPU is given only the part that a crop needs. libjpeg-turbo must show the same pixels;
            what cannot be rewritten is kept and named in conversion.jsonl. Tiles take the place of the seek index,
            with which the CPU engine is faster. For shards only.
        seek_index: Writes shard-*.seek beside the shards, or x.beton.seek beside the file, with which random crops are
            decoded several times faster (2% more bytes, in the pass that proves the images); see also
            fastload.dataset.indexing. None: unless ``raw``.
        images: Folder of the images of a JSON file of COCO's; None looks for it beside the file.
        masks: Adds masks from COCO's polygons and run lengths (.mask.png) or VOC's SegmentationClass (.seg.png).
        mask_folder: Folder of masks with the names of the images of the folder ``src`` (.seg.png).
        progress: Called in this thread with (done, total, skipped) images.
        index_progress: Called in this thread with (done, total) images while the seek indexes of a conversion that
            had finished without them are written.
        source_progress: Called in this thread with (done, total) bytes while COCO's annotations are read.

    Returns:
        The account: found = written + skipped.

    Raises:
        DataError: The source or the destination is not what is needed, another conversion writes there, the disk is
            full, no image can be read, or with ``strict`` one cannot.
        ConfigError: An argument is out of range.
    """
    destination = os.fspath(dst)
    to_beton = destination.endswith(".beton")
    if seek_index is None:
        seek_index = not raw
    if to_beton and (dali_labels or tiles or parse_size(shard_size) != parse_size(_SHARD_SIZE)):
        raise ConfigError("dali_labels, tiles and shard_size belong to shards: a .beton file has none of them")
    if raw and seek_index:
        raise ConfigError("seek_index is for JPEGs: raw pixels have none")
    if raw and not to_beton:
        raise ConfigError(f"raw pixels are for a destination that ends in .beton, not {destination!r}")
    options = Options(
        shard_size=parse_size(shard_size),
        seed=seed,
        max_side=max_side,
        quality=quality,
        raw=raw,
        dali_labels=dali_labels,
        tiles=tiles,
        part=None if part is None else parse_part(part),
        part_seed=part_seed,
        classes=None if classes is None else parse_classes(classes),
    )
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers must be a whole number of at least 1 or None, not {workers!r}")
    paths = given_paths(src)
    for folder in (*paths, images, mask_folder):
        if folder is not None:
            _refuse_overlap(os.fspath(folder), destination)
    source = open_source(
        paths,
        image=image,
        label=label,
        images=images,
        masks=masks,
        mask_folder=mask_folder,
        progress=source_progress,
    )
    if source.in_order and seed is not None:
        raise ConfigError(
            "rows of Parquet files can only be read in their order: convert them without seed, and what comes of it "
            "with seed"
        )
    if options.part is not None or options.classes is not None:
        source = Selection(source, part=options.part, part_seed=options.part_seed, classes=options.classes)
    job = _Conversion(source, options, destination, workers or available_processors(), strict, progress)
    try:
        summary = job.to_beton(seek_index) if to_beton else job.to_shards(seek_index)
        if seek_index and summary.already_done:
            write_seek_indexes(destination, workers=workers, progress=index_progress)
    except OSError as error:
        raise DataError(
            f"the conversion cannot write: {error.strerror or error}; mend that (free space, permissions) and run it "
            "again, it continues where it stopped",
            path=error.filename or destination,
        ) from error
    if strict and summary.skipped:
        raise strict_error(source, *first_skipped(summary))
    return summary


class _Conversion:
    """What is the same for everything that can be written."""

    def __init__(
        self,
        source: Source,
        options: Options,
        destination: str,
        workers: int,
        strict: bool,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._options = options
        self._destination = destination
        self._workers = workers
        self._strict = strict
        self._progress = progress
        self._identity = {"source": {"kind": source.kind, "digest": source.digest()}, "options": options.to_json()}
        software = {"fastload": fastload.__version__, "pillow": PIL.__version__, "simplejpeg": _simplejpeg()}
        self._made_by = self._identity | {"software": software}

    def to_shards(self, seek_index: bool) -> ConvertSummary:
        os.makedirs(self._destination, exist_ok=True)
        workspace = Workspace(self._destination)
        with workspace.locked():
            manifest = _finished(workspace, self._identity)
            resumed = manifest is not None
            if manifest is None:
                workspace.begin(self._made_by | {"seek_index": seek_index})
                if seek_index:
                    warm_up_indexer()
                if self._options.tiles:
                    warm_up_recoder()
                shards = Shards(workspace, self._source, self._options, seek_index=seek_index)
                parts = self._produce(workspace, shards, seek_index)
                manifest = publish(workspace, self._source, parts, self._made_by, seek_index=seek_index)
            workspace.remove()
        return summarise(self._destination, manifest, already_done=resumed)

    def to_beton(self, seek_index: bool) -> ConvertSummary:
        os.makedirs(os.path.dirname(self._destination) or ".", exist_ok=True)
        workspace = Workspace(self._destination, beside=True)
        with workspace.locked():
            notes = finished_beton(workspace, self._identity)
            resumed = notes is not None
            if notes is None:
                workspace.begin(self._made_by | {"seek_index": seek_index})
                if seek_index:
                    warm_up_indexer()
                file = BetonFile(workspace, self._source, self._options, seek_index=seek_index)
                notes = file.publish(self._produce(workspace, file, seek_index), self._made_by)
            workspace.remove()
        return summarise_beton(self._destination, notes, already_done=resumed)

    def _produce(self, workspace: Workspace, target: Target, seek_index: bool) -> dict[int, PartAccount]:
        return Production(
            self._source,
            self._options,
            workspace,
            target,
            workers=self._workers,
            strict=self._strict,
            seek_index=seek_index,
            progress=self._progress,
        ).parts()


def _finished(workspace: Workspace, conversion: dict[str, Any]) -> Manifest | None:
    """The manifest of the destination if this very conversion has been completed there."""
    if not os.path.lexists(os.path.join(workspace.destination, MANIFEST_NAME)):
        return None
    try:
        dataset = ShardedDataset(workspace.destination, verify="never")
    except DataError:
        workspace.remove_if_empty()
        raise
    dataset.close()
    manifest = dataset.manifest
    before = {name: manifest.conversion.get(name) for name in conversion}
    if before != conversion:
        workspace.remove_if_empty()
        raise DataError(
            f"a finished data set lies here that differs in {describe_difference(before, conversion)}; "
            "choose another folder or remove this one",
            path=workspace.destination,
        )
    return manifest


def _refuse_overlap(source: str, destination: str) -> None:
    if is_url(source):
        return
    source = local_path(source)
    inner, outer = os.path.realpath(destination), os.path.realpath(source)
    if inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep):
        raise ConfigError(f"the destination {destination} lies inside the source {source}; choose a folder outside it")


def _simplejpeg() -> str:
    return str(simplejpeg.__version__) if hasattr(simplejpeg, "__version__") else "unknown"
