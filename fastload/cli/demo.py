"""fastload demo."""

from __future__ import annotations

from typing import Annotated

import typer

from fastload.cli.drawing import Bars, facts, print_json, print_tables, stages


def command(
    folder: Annotated[
        str | None, typer.Argument(help="Where to keep pictures, shards and run; a temporary folder if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the pictures, the initial weights and every draw.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one per core if not given.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training pictures.")] = None,
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw a small labelled set of pictures, convert it, train on it through the Loader, and report."""
    from fastload.demo import run_demo

    with Bars() as bars:
        report = run_demo(folder, seed=seed, epochs=epochs, num_workers=workers, device=device, progress=bars.update)
    if as_json:
        print_json(report.to_json())
        return
    feed = report.feed
    rows = {
        "top-1": f"{100 * report.top1:.1f}% of {report.evaluated} held-out pictures, {len(report.classes)} classes, "
        f"{report.epochs} epochs on {report.device}",
        "files": f"{report.found:,} found = {report.written:,} written + {report.skipped:,} skipped",
        "samples": f"{report.expected:,} expected = {report.read:,} read + {report.replaced:,} replaced",
        "the Loader alone": f"{feed.images_per_second:,.0f} images/s with {feed.num_workers} threads, "
        f"{feed.cpu_ms_per_image:.2f} CPU ms per image",
        "training": f"{report.images_per_second:,.0f} images/s, "
        f"waiting for data {100 * report.wait_share:.1f}% of the time",
        "seconds": ", ".join(f"{name} {seconds:.0f}" for name, seconds in report.phases.items())
        + f"; together {report.seconds:.0f}",
    }
    print_tables(facts("fastload demo", rows), stages(report.stages))
    for path, reason in report.skips:
        print_tables(f"skipped {path}: {reason}")
    print_tables("", "Next, with photographs of your own (PHOTOS/train/CLASS/*.jpg, PHOTOS/val/CLASS/*.jpg):")
    for line in report.commands:
        print_tables(f"  {line}")
