"""fastload verify DATASET."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fastload.cli.drawing import Bars, facts, print_json, print_tables

if TYPE_CHECKING:
    from fastload.verify import VerifyReport

# Of more shards than this only those with findings are listed; --json has them all.
_MOST_ROWS = 20


def command(
    dataset: Annotated[str, typer.Argument(help="A data set (or its URL), a folder of images or a .beton file.")],
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Rebuild indexes, restore what can be restored, drop damaged samples from the index (never from a "
            "tar), and note all of it in conversion.jsonl.",
        ),
    ] = False,
    source: Annotated[
        str | None, typer.Option(help="The folder that was converted: --repair takes lost images from it.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one per core if not given.")] = None,
    work_dir: Annotated[
        str | None,
        typer.Option(help="For a data set behind a URL: folder for a few of its shards while they are checked."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Prove a data set: structure, sizes, every checksum, every image decoded.

    Ends with code 1 and a list of what is off (file, sample, reason), if anything is. Nothing is written without
    --repair.
    """
    from fastload.verify import verify

    with Bars() as bars:
        report = verify(
            dataset,
            repair=repair,
            source=source,
            workers=workers,
            work_dir=work_dir,
            progress=lambda done, total, found: bars.update(
                "verifying", done, total, f"{found} findings" if found else ""
            ),
        )
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(1)


def _print(report: VerifyReport) -> None:
    findings = f"{len(report.findings):,}" if report.findings else "none: all is as it should be"
    rows = {
        "samples": f"{report.samples:,}, of which {report.decoded:,} were read and decoded",
        "findings": findings,
        "speed": f"{report.images_per_second:,.0f} images/s, {report.cpu_ms_per_image:.2f} ms of processor an image",
    }
    print_tables(facts(report.path, rows))
    shards = [shard for shard in report.shards if shard.findings or len(report.shards) <= _MOST_ROWS]
    if shards:
        table = Table("shard", title="Shards" if len(shards) == len(report.shards) else "Shards with findings")
        for name in ("samples", "MB", "findings"):
            table.add_column(name, justify="right")
        for shard in shards:
            table.add_row(shard.name, f"{shard.samples:,}", f"{shard.num_bytes / 1e6:,.1f}", f"{shard.findings:,}")
        print_tables(table)
    for repair in report.repairs:
        print_tables(f"{repair.action} {_place(repair.file, repair.key)}: {escape(repair.reason)}")
    for finding in report.findings:
        print_tables(f"{_place(finding.file, finding.key)}: {escape(finding.reason)}")


def _place(file: str, key: str | None) -> str:
    return escape(file if key is None or key == file else f"{file}: sample {key}")
