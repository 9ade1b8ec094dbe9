"""fastload index DATASET | FILE.beton | SHARDS."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from fastload.cli.drawing import Bars, facts, print_json, print_tables
from fastload.errors import ConfigError


def command(
    dataset: Annotated[
        list[str],
        typer.Argument(
            help="Folder that fastload convert wrote, a .beton file of FFCV's, or uncompressed WebDataset shards that "
            "something else wrote: a folder of .tar files, files, or a pattern ('shards-{000000..000009}.tar')."
        ),
    ],
    output: Annotated[
        str | None, typer.Option(help="Write here, with links to the tars, where their folder cannot be written to.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Ending of the member that is the image, where samples have several: jpg.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Where the label is: cls, json.FIELD, another ending, or none. By default .cls, if any."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first sample that cannot be read.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one per core if not given.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Write seek indexes that are there anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the indexes that shards lack; no tar is ever changed.

    A converted data set, or a .beton file (x.beton.seek), gets the seek indexes with which random crops are decoded
    several times faster (about 2% more bytes; they may be deleted at any time). WebDataset shards of any origin get
    these and dataset.json and index.arrow besides, and are a data set from then on. What cannot be read is listed in
    conversion.jsonl and counted.
    """
    is_ours = os.path.lexists(os.path.join(dataset[0], "dataset.json"))
    if len(dataset) == 1 and (is_ours or (dataset[0].endswith(".beton") and os.path.isfile(dataset[0]))):
        if output or image or label or strict:
            what = "has a dataset.json" if is_ours else "is no tar"
            raise ConfigError(f"{dataset[0]} {what}: --output, --image, --label and --strict are for tars of others")
        _write_seek_indexes(dataset[0], workers, rebuild, as_json)
    else:
        if rebuild:
            raise ConfigError("--rebuild is for data sets with a dataset.json, and for .beton files")
        _adopt(dataset, output, image, label, strict, workers, as_json)


def _write_seek_indexes(dataset: str, workers: int | None, rebuild: bool, as_json: bool) -> None:
    from fastload.dataset.indexing import write_seek_indexes

    with Bars() as bars:
        summary = write_seek_indexes(
            dataset,
            workers=workers,
            rebuild=rebuild,
            progress=lambda done, total: bars.update("indexing", done, total),
        )
    if as_json:
        print_json(asdict(summary))
        return
    rows = {
        "samples": f"{summary.samples:,}",
        "shards": f"{summary.shards:,}, of which {summary.written:,} were indexed now ({summary.indexed:,} images)",
        "seek indexes": f"{summary.num_bytes / 1e6:,.2f} MB",
    }
    print_tables(facts(summary.path, rows))


def _adopt(
    shards: list[str],
    output: str | None,
    image: str | None,
    label: str | None,
    strict: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    from fastload.adopt import index_shards

    with Bars() as bars:
        summary = index_shards(
            shards,
            output=output,
            image=image,
            label=label,
            workers=workers,
            strict=strict,
            progress=lambda done, total, skipped: bars.update(
                "indexing (MB)", done // 1_000_000, total // 1_000_000, f"{skipped} skipped" if skipped else ""
            ),
        )
    if as_json:
        print_json(asdict(summary))
        return
    rows = {
        "samples found": f"{summary.found:,}",
        "skipped": f"{summary.skipped:,}",
        "with a label": f"{summary.labelled:,}",
        "with a seek index": f"{summary.indexed:,}",
        "other members": ", ".join(summary.extras) or "none",
        "shards": f"{summary.shards:,}, {summary.num_bytes / 1e6:,.1f} MB",
    }
    print_tables(facts(summary.path, rows))
    for source, reason in summary.skips:
        print_tables(f"skipped {source}: {reason}")
    if summary.skipped > len(summary.skips):
        print_tables(f"... and {summary.skipped - len(summary.skips):,} more, all in {summary.ledger}")
