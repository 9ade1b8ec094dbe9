"""convert(): a source in, a data set of tar shards out; resumable, reproducible, every image accounted for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import PIL
import simplejpeg

import fastload
from fastload.convert.options import Options, parse_size
from fastload.convert.production import Production, Progress, strict_error
from fastload.convert.publish import publish
from fastload.convert.summary import ConvertSummary, first_skipped, summarise
from fastload.convert.workspace import Workspace, describe_difference
from fastload.dataset.indexing import write_seek_indexes
from fastload.dataset.manifest import MANIFEST_NAME, Manifest
from fastload.dataset.sharded import ShardedDataset
from fastload.errors import ConfigError, DataError
from fastload.jpeg.decoder import warm_up_indexer
from fastload.processors import available_processors
from fastload.sources import open_source


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    shard_size: str | int = "256MiB",
    workers: int | None = None,
    seed: int | None = None,
    max_side: int | None = None,
    quality: int | None = None,
    strict: bool = False,
    dali_labels: bool = False,
    seek_index: bool = True,
    progress: Progress | None = None,
    index_progress: Callable[[int, int], None] | None = None,
) -> ConvertSummary:
    """Converts a folder of images to WebDataset shards with an index.

    The bytes of JPEG files are kept, unless ``max_side`` or ``quality`` ask otherwise or no training decoder would
    take them; every image is decoded once to prove that it can be. Equal sources and options give equal bytes for any
    number of workers. A conversion that was interrupted continues when it is called again and ends with the same
    bytes; one that has finished does nothing.

    Args:
        src: Class folders of images, a folder of images without classes, or ImageNet's flat validation folder with its
            file of labels (see fastload.sources.ImageNetValSource).
        dst: The folder to write; new, empty, or holding this conversion unfinished or finished.
        shard_size: Source bytes in one shard ("256MiB", "1GB", a number of bytes).
        workers: Threads that decode; None takes one for each core that this process may use.
        seed: Shuffles the order in which samples are written; None keeps the order of the source.
        max_side: Reduces larger images to this longest side in pixels, by area, at quality 90 if ``quality`` is None.
        quality: Encodes every image anew at this JPEG quality, with the chroma sampling that it has.
        strict: Makes the first image that cannot be read an error in place of a line in conversion.jsonl.
        dali_labels: Adds a member .lbl (the label as 8 bytes, little-endian), which DALI reads.
        seek_index: Writes shard-*.seek beside the shards, with which random crops are decoded several times faster
            (2% more bytes, in the pass that proves the images); see also fastload.dataset.indexing.
        progress: Called in this thread with (done, total, skipped) images.
        index_progress: Called in this thread with (done, total) images while the seek indexes of a conversion that
            had finished without them are written.

    Returns:
        The account: found = written + skipped.

    Raises:
        DataError: The source or the destination is not what is needed, another conversion writes there, the disk is
            full, no image can be read, or with ``strict`` one cannot.
        ConfigError: An argument is out of range.
    """
    options = Options(
        shard_size=parse_size(shard_size), seed=seed, max_side=max_side, quality=quality, dali_labels=dali_labels
    )
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers must be a whole number of at least 1 or None, not {workers!r}")
    destination = os.fspath(dst)
    _refuse_overlap(os.fspath(src), destination)
    source = open_source(src)
    conversion = {"source": {"kind": source.kind, "digest": source.digest()}, "options": options.to_json()}
    try:
        os.makedirs(destination, exist_ok=True)
        workspace = Workspace(destination)
        with workspace.locked():
            manifest = _finished(workspace, conversion)
            resumed = manifest is not None
            if manifest is None:
                software = {"fastload": fastload.__version__, "pillow": PIL.__version__, "simplejpeg": _simplejpeg()}
                workspace.begin(conversion | {"software": software, "seek_index": seek_index})
                if seek_index:
                    warm_up_indexer()
                count = workers or available_processors()
                run = Production(source, options, workspace, count, strict, seek_index, progress)
                parts = run.parts()
                manifest = publish(workspace, source, parts, conversion | {"software": software}, seek_index=seek_index)
            workspace.remove()
            if seek_index and resumed:
                write_seek_indexes(destination, workers=workers, progress=index_progress)
    except OSError as error:
        raise DataError(
            f"the conversion cannot write: {error.strerror or error}; mend that (free space, permissions) and run it "
            "again, it continues where it stopped",
            path=error.filename or destination,
        ) from error
    summary = summarise(destination, manifest, already_done=resumed)
    if strict and summary.skipped:
        raise strict_error(source, *first_skipped(destination))
    return summary


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
    inner, outer = os.path.realpath(destination), os.path.realpath(source)
    if inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep):
        raise ConfigError(f"the destination {destination} lies inside the source {source}; choose a folder outside it")


def _simplejpeg() -> str:
    return str(simplejpeg.__version__) if hasattr(simplejpeg, "__version__") else "unknown"
