"""How a benchmark is drawn: the loaders side by side, stages, threads, and what follows from it in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from fastload.bench.report import BenchReport, Speed, Storage, Target, Training
from fastload.cli.drawing import STAGE_NAMES, facts

_STAGES = {**STAGE_NAMES, "rest": "the rest (Python, batches)"}


def bench_tables(report: BenchReport) -> list[Table | str]:
    """The whole report, the result first."""
    tables: list[Table | str] = ["", _loaders(report), "", _answers(report), "", _stages(report), "", _scaling(report)]
    if report.notes:
        tables.append("")
        tables += [f"note: {note}" for note in report.notes]
    return tables


def _loaders(report: BenchReport) -> Table:
    table = _table(report.recipe or report.data.path, "", "images/s", "CPU ms/image", "memory")
    _speed_row(table, f"fastload, {_count(report.fastload.workers, 'thread')}", report.fastload)
    other = report.dataloader
    if other is None:
        table.add_row(f"DataLoader: {report.dataloader_failure}")
        return table
    _speed_row(table, f"your DataLoader, {_count(other.workers, 'worker')}", other)
    ours = report.fastload
    memory = ""
    if ours.memory_bytes and other.memory_bytes:
        memory = f"{other.memory_bytes / ours.memory_bytes:.1f}x"
    table.add_row(
        "fastload is better by",
        f"{ours.images_per_second / other.images_per_second:.1f}x",
        f"{other.cpu_ms_per_image / ours.cpu_ms_per_image:.1f}x",
        memory,
        style="bold",
    )
    return table


def _speed_row(table: Table, name: str, speed: Speed) -> None:
    memory = "" if speed.memory_bytes is None else f"{speed.memory_bytes / 2**20:,.0f} MiB"
    table.add_row(name, f"{speed.images_per_second:,.0f}", f"{speed.cpu_ms_per_image:.2f}", memory)


def _answers(report: BenchReport) -> Table:
    data, machine = report.data, report.machine
    form = {"folder": "a folder of images", "shards": "tar shards", "beton": "a .beton file"}[data.form]
    index = (
        {True: " with seek indexes", False: " without seek indexes"}[data.seek_index] if form == "tar shards" else ""
    )
    rows = {
        "limit": f"{_LIMITS[report.limit.name]}: {report.limit.reason}",
        "what helps": report.limit.advice,
    }
    if report.training is not None:
        rows |= _training(report.training)
    if report.target is not None:
        rows["threads needed"] = _target(report.target)
    rows["storage"] = _storage(report.storage)
    if report.gil is not None:
        gil = report.gil
        rows["Python's lock"] = (
            f"taken for {_microseconds(gil.us_per_image)} per image: a main thread that runs nothing but Python keeps "
            f"{100 * gil.main_thread_speed:.0f}% of its speed beside {_count(gil.threads, 'thread')}, which then "
            f"{'load' if gil.threads > 1 else 'loads'} {gil.images_per_second:,.0f} images/s"
        )
    rows |= {
        "data": f"{data.samples:,} images, {data.classes:,} classes, {data.mean_bytes / 1e3:,.0f} kB each; "
        f"{form}{index}",
        "work": f"{_work(report.transforms)}; batches of {report.batch_size}",
        "machine": f"{_count(machine.processors, 'processor')} ({machine.processor}), Python {machine.python}, "
        f"torch {machine.torch}",
        "how": f"median of {report.rounds} rounds in turns, each loader in a process of its own; first batch after "
        f"{report.first_batch_seconds:.1f} s; {report.seconds:.0f} s in all",
    }
    return facts("What it means", rows)


_LIMITS: Mapping[str, str] = {
    "storage": "storage",
    "decode": "JPEG decoding",
    "augment": "augmentation",
    "gil": "Python",
    "copy": "copying",
    "model": "the network",
    "processors": "other programs",
}


def _microseconds(number: float) -> str:
    return "less than 1 us" if number < 1 else f"{number:.0f} us"


def _training(training: Training) -> dict[str, str]:
    who = "training waits for the loader" if training.waits == "training" else "the loader waits for training"
    batch = f"batches of {training.batch_size}"
    if training.batch_size != training.recipe_batch_size:
        batch += f", not {training.recipe_batch_size}: one step of those takes too long here"
    copy = training.copy_images_per_second
    return {
        "who waits": f"{who} (data awaited for {100 * training.wait_share:.1f}% of the time)",
        "images/s": f"network alone {training.model_images_per_second:,.0f}, loader alone "
        f"{training.loader_images_per_second:,.0f}, together {training.together_images_per_second:,.0f}"
        + (f", copying to the device {copy:,.0f}" if copy is not None else "; they share the processors"),
        "network": f"{training.model} at {training.resolution} px on {training.device}, {batch}",
    }


def _target(target: Target) -> str:
    what = "the network's " if target.source == "model" else ""
    text = f"{_count(target.threads, 'thread')} for {what}{target.images_per_second:,.0f} images/s"
    if target.extrapolated:
        text += f" (extrapolated; this machine has {_count(target.processors, 'processor')})"
    return (
        f"{text}: the work of {target.processors_needed:.1f} processors, reading "
        f"{target.megabytes_per_second:,.0f} MB/s"
    )


def _storage(storage: Storage) -> str:
    text = (
        f"{storage.megabytes_per_second:,.0f} MB/s, {storage.reads_per_second:,.0f} reads/s with "
        f"{_count(storage.threads, 'thread')}; the Loader takes {storage.needed_megabytes_per_second:,.0f} MB/s. "
    )
    if storage.dropped:
        text += "Pages were dropped from memory before each round (--cold)"
        if storage.in_memory_read is not None:
            text += f", {100 * storage.in_memory_read:.0f}% stayed"
    elif storage.in_memory_before is not None:
        text += f"{100 * storage.in_memory_before:.0f}% of the files' pages were in memory before"
        if storage.in_memory_read is not None and storage.in_memory_read > 0.05:
            partly = "" if storage.in_memory_read > 0.95 else "partly "
            text += f": this is {partly}the speed of memory; --cold measures the storage itself"
    else:
        text += "Whether the files were in memory cannot be seen on this system"
    if storage.from_device is not None:
        text += f". {100 * storage.from_device:.0f}% of what the Loader read came from the device"
    return text


def _stages(report: BenchReport) -> Table:
    table = _table(
        f"Where the time of {_count(report.fastload.workers, 'thread')} goes",
        "",
        "CPU ms/image",
        "share",
        "waiting, ms",
    )
    for cost in report.stages:
        if cost.stage == "wait":
            continue
        waits = f"{cost.wait_ms_per_image:.3f}" if cost.stage == "read" else ""
        table.add_row(
            _STAGES.get(cost.stage, cost.stage), f"{cost.cpu_ms_per_image:.3f}", f"{100 * cost.share:.0f}%", waits
        )
    table.add_row("together", f"{sum(cost.cpu_ms_per_image for cost in report.stages):.3f}", "100%", "", style="bold")
    return table


def _scaling(report: BenchReport) -> Table:
    table = _table("Threads, measured", "threads", "images/s", "slowest, fastest round", "of linear", "CPU ms/image")
    first = report.scaling[0].images_per_second
    for speed in report.scaling:
        table.add_row(
            str(speed.workers),
            f"{speed.images_per_second:,.0f}",
            f"{speed.slowest:,.0f}, {speed.fastest:,.0f}",
            f"{100 * speed.images_per_second / (first * speed.workers):.0f}%",
            f"{speed.cpu_ms_per_image:.2f}",
        )
    return table


def _work(config: tuple[Mapping[str, Any], ...]) -> str:
    names = []
    for entry in config:
        for name, arguments in entry.items():
            size = arguments.get("size", arguments.get("dtype"))
            if isinstance(size, list) and len(set(size)) == 1:
                size = size[0]
            names.append(name if size is None else f"{name}({size})")
    return ", ".join(names)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
