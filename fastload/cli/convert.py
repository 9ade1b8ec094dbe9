"""fastload convert SRC DST."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fastload.cli.drawing import Bars, facts, print_json, print_tables


def command(
    src: Annotated[
        list[str],
        typer.Argument(
            help="Folder with one folder of images per class, folder of images, ImageNet's val folder with its labels "
            "beside it (LOC_val_solution.csv or imagenet_2012_validation_synset_labels.txt), list of files with "
            "columns path and label (.csv, .tsv, .jsonl), WebDataset shards ('train-{000..099}.tar', '*.tar', or "
            "their folder), Parquet files ('train-*.parquet'), COCO's annotations/instances_val2017.json, VOC2012 or "
            "one of its ImageSets/Main/train.txt, folder with images/ and masks/, data set of fastload, or x.beton. "
            "Several become one. URLs too, of tars, Parquet files, lists, data sets and folders."
        ),
    ],
    dst: Annotated[
        str,
        typer.Argument(
            help="Folder to write: new, empty, or holding this conversion unfinished. Or a file of FFCV's, x.beton."
        ),
    ],
    shard_size: Annotated[str, typer.Option(help="Source bytes in one shard: 256MiB, 1GB, a number.")] = "256MiB",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one per core if not given.")] = None,
    image: Annotated[
        str | None, typer.Option(help="Column (of a list), member (of shards) or field (.beton) that is the image.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The same for the label; json.FIELD looks into .json, none takes no labels.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="Take this part of each class: 0:0.9 to train with, 0.9:1 (or 90%:100%) to validate."),
    ] = None,
    part_seed: Annotated[int, typer.Option(min=0, help="Draws the part; the same for parts that belong together.")] = 0,
    classes: Annotated[
        str | None, typer.Option(help="Take these classes only: cat,dog, or a text file with a name in each line.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Shuffle the order of the samples on disk.")] = None,
    max_side: Annotated[int | None, typer.Option(min=1, help="Reduce larger images to this side in pixels.")] = None,
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="Encode anew at this JPEG quality.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Store pixels in place of JPEGs (x.beton only, with --max-side).")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")] = False,
    dali_labels: Annotated[bool, typer.Option("--dali-labels", help="Add labels as DALI reads them (.lbl).")] = False,
    tiles: Annotated[
        bool,
        typer.Option("--tiles", help="Rewrite JPEGs without loss with restart tiles, for GPU decoders; 1% more bytes."),
    ] = False,
    seek_index: Annotated[
        bool | None,
        typer.Option(
            "--seek-index/--no-seek-index",
            help="Write seek indexes: fast random crops, 2% more bytes (JPEGs have them if not told otherwise).",
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder of the images of a COCO file, if it does not lie beside the file.")
    ] = None,
    masks: Annotated[
        bool,
        typer.Option("--masks", help="Add masks: COCO's polygons (.mask.png), VOC's SegmentationClass (.seg.png)."),
    ] = False,
    mask_folder: Annotated[
        str | None, typer.Option(help="Folder of masks with the names of the images in SRC (.seg.png).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Convert images with labels, boxes or masks to tar shards that fastload, WebDataset and DALI read, or to x.beton.

    JPEG bytes stay as they are unless --max-side, --quality or --tiles ask otherwise. What cannot be read is skipped,
    counted and listed in DST/conversion.jsonl (x.beton.jsonl). A conversion that was interrupted continues when it is
    started again.
    """
    from fastload.convert import convert

    with Bars() as bars:
        summary = convert(
            src,
            dst,
            shard_size=shard_size,
            workers=workers,
            image=image,
            label=label,
            part=part,
            part_seed=part_seed,
            classes=classes,
            seed=seed,
            max_side=max_side,
            quality=quality,
            raw=raw,
            strict=strict,
            dali_labels=dali_labels,
            tiles=tiles,
            seek_index=seek_index,
            images=images,
            masks=masks,
            mask_folder=mask_folder,
            source_progress=lambda done, total: bars.update("reading annotations (MB)", done >> 20, total >> 20),
            index_progress=lambda done, total: bars.update("indexing", done, total),
            progress=lambda done, total, skipped: bars.update(
                "converting", done, total, f"{skipped} skipped" if skipped else ""
            ),
        )
    if as_json:
        print_json(asdict(summary))
        return
    others = f"{summary.retiled:,} rewritten without loss" if tiles else "the others byte for byte"
    rows = {
        "images found": f"{summary.found:,}",
        "written": f"{summary.written:,} ({summary.reencoded:,} re-encoded, {others})",
        "skipped": f"{summary.skipped:,}",
        "files" if dst.endswith(".beton") else "shards": f"{summary.shards:,}, {summary.num_bytes / 1e6:,.1f} MB",
        "classes": f"{summary.classes:,}",
    }
    title = f"{summary.path} was converted before; nothing was done" if summary.already_done else summary.path
    print_tables(facts(title, rows))
    for source, reason in summary.skips:
        print_tables(f"skipped {source}: {reason}")
    if summary.skipped > len(summary.skips):
        print_tables(f"... and {summary.skipped - len(summary.skips):,} more, all in {summary.ledger}")
