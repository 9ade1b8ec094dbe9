"""fastload bench DATASET|RECIPE [key=value ...]."""

from __future__ import annotations

from typing import Annotated

import typer

from fastload.cli.caching import CacheBytes, CacheDir, cache_options
from fastload.cli.drawing import Bars, print_json, print_tables


def command(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of images, what fastload convert wrote or its URL, .beton file, or recipe (.yaml)."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value pairs that replace what the recipe says, as in fastload train."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in a batch; 128, or what the recipe says.")
    ] = None,
    num_workers: Annotated[
        int | None,
        typer.Option(
            "--num-workers", "--threads", min=1, help="Most threads, and workers of the DataLoader; one per processor."
        ),
    ] = None,
    transform: Annotated[
        str | None,
        typer.Option(
            help="What is done to the images of a data set: train224 (RandomResizedCrop, flip, normalise to float16; "
            "the default) or eval224 (Resize(256), CenterCrop(224), the same)."
        ),
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Images/s that training asks for: how many threads does that take?")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Time to measure for, at least 2; starting takes some 15 more.")
    ] = 30.0,
    cold: Annotated[
        bool, typer.Option("--cold", help="Drop the files' pages from memory before each round: measures storage too.")
    ] = False,
    cache_dir: CacheDir = None,
    cache_bytes: CacheBytes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Measure on this machine: images/s, where the time goes, what limits it, and your own DataLoader beside it.

    fastload and the DataLoader (ImageFolder, Pillow, torchvision v2, persistent workers) do the same work in turns,
    each in a process of its own. With a recipe its network is measured too, alone and fed by the Loader: who waits?
    """
    from fastload.bench import run_bench
    from fastload.cli.benching import bench_tables

    with Bars() as bars:
        report = run_bench(
            source,
            overrides=overrides or (),
            batch_size=batch_size,
            num_workers=num_workers,
            transform=transform,
            seconds=seconds,
            cold=cold,
            target=target,
            progress=bars.update,
            **cache_options(cache_dir, cache_bytes),
        )
    if as_json:
        print_json(report.to_json())
        return
    print_tables(*bench_tables(report))
