"""Turns a stored run into a page, a short table and a plot: python -m benchmarks.report RUN.json [--readme]."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.plot import Bar, draw

OURS = "fastload"
REPOSITORY = Path(__file__).resolve().parents[1]
# What loaders read, and how the names of those that read it end.
_BYTES = {"The original JPEGs": "", "JPEGs as FFCV encodes them": "-q90", "Raw pixels": "-raw"}
_PLOT = "benchmarks/results/loaders.svg"
_BEGIN, _END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
_WIDE_BEGIN, _WIDE_END = "<!-- augmentation: begin -->", "<!-- augmentation: end -->"


def _rows(run: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per loader and group, the cheapest first within each group."""
    rows = []
    for entry in run["benchmarks"]:
        extra = entry["extra_info"]
        if "cpu_ms_per_image" not in extra:
            continue
        cpu, speed = extra["cpu_ms_per_image"], extra["images_per_second"]
        rows.append(
            extra
            | {
                "group": entry["group"],
                "cpu": statistics.median(cpu),
                "cpu_low": min(cpu),
                "cpu_high": max(cpu),
                "speed": statistics.median(speed),
                "fastest": max(speed),
            }
        )
    order = list(dict.fromkeys(row["group"] for row in rows))
    return sorted(rows, key=lambda row: (order.index(row["group"]), row["cpu"]))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _stages(run: dict[str, Any]) -> str:
    stages = [entry for entry in run["benchmarks"] if "items" in entry["extra_info"]]
    if not stages:
        return ""
    rows = [
        [
            entry["group"],
            entry["name"],
            f"{1e6 * entry['stats']['median'] / entry['extra_info']['items']:.2f}",
            entry["extra_info"]["unit"],
        ]
        for entry in sorted(stages, key=lambda entry: (entry["group"], entry["stats"]["median"]))
    ]
    return "## Stages\n\n" + _table(["Stage", "What", "CPU us, median", "per"], rows) + "\n"


def _conditions(run: dict[str, Any]) -> str:
    machine, corpus = run["machine_info"], run.get("corpus")
    commit = {"id": "unknown"} | run["commit_info"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"- Machine: {machine['processor']} ({machine['family']}), {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {', '.join(machine['vector_units'])}; {machine['system']}; "
        f"load before the run {run['load_before']}",
        f"- Python {machine['python']}; {versions}",
        f"- Commit {commit['id'][:12]}{' with changes' if commit.get('dirty') else ''}",
        f"- Command: `{run['command']}`",
    ]
    if corpus:
        lines.append(
            f"- Data: {corpus['source']}, {corpus['photographs']} photographs x {corpus['repeats']}, mean "
            f"{corpus['mean_bytes']} bytes, sha256 {corpus['digest']}..."
        )
    if run.get("corpus_with_boxes"):
        boxes = run["corpus_with_boxes"]
        lines.append(
            f"- Detection: {boxes['source']}, {boxes['photographs']} photographs x {boxes['repeats']}, mean "
            f"{boxes['mean_bytes']} bytes, sha256 {boxes['digest']}..."
        )
    lines += [f"- Absent: {name} ({', '.join(missing)} not installed)" for name, missing in run["absent"].items()]
    return "\n".join(lines) + "\n"


def markdown(run: dict[str, Any]) -> str:
    """The whole run as a page: conditions, then a table for each group."""
    rows = _rows(run)
    parts = [f"# Benchmark of {run['datetime'][:10]}\n", _conditions(run), ""]
    if rows:
        parts.append(
            "CPU ms/img: user + system of all threads and processes, median (lowest - highest) of the rounds. "
            "Difference: mean absolute difference to Pillow in grey levels (0 to 255), without chance. Every loader "
            "runs in a process that imported torch first, and every batch ends as PyTorch's tensors. RSS: sum over "
            "all processes of each one's highest resident set. Memory: the highest sum of what they allocated, "
            "anonymous and shared pages, each counted once, without mapped files. Beyond torch: memory less that of a "
            "process that imported torch and has no loader.\n"
        )
    if any("memory_mib" not in row for row in rows):
        parts.append(matrix(run))
    for group in dict.fromkeys(row["group"] for row in rows if "memory_mib" in row):
        members = [row for row in rows if row["group"] == group]
        ours = next((row["cpu"] for row in members if row["peer"] == OURS), None)
        table = _table(
            [
                *("Loader", "CPU ms/img", "to ours", "img/s", "best"),
                *("RSS MiB", "memory MiB", "beyond torch MiB", "start s", "difference"),
            ],
            [
                [
                    row["peer"],
                    f"{row['cpu']:.3f} ({row['cpu_low']:.3f} - {row['cpu_high']:.3f})",
                    f"{row['cpu'] / ours:.2f}" if ours else "-",
                    f"{row['speed']:.0f}",
                    f"{row['fastest']:.0f}",
                    str(row["peak_rss_mib"]),
                    str(row["memory_mib"]),
                    str(row["memory_mib"] - row["torch_memory_mib"]),
                    f"{row['start_seconds']:.1f}",
                    f"{row['check']['mean_difference']:.2f}",
                ]
                for row in members
            ],
        )
        parts += [f"## {group}\n\n{members[0]['pipeline']}\n", table, *_augmented(run, group, members)]
    settings = {row["peer"]: row["settings"] for row in rows}
    if settings:
        parts.append("## Settings\n\n" + "\n".join(f"- {peer}: {text}" for peer, text in settings.items()) + "\n")
    return "\n".join([*parts, _stages(run)]).rstrip() + "\n"


def _augmented(run: dict[str, Any], group: str, members: Sequence[dict[str, Any]]) -> list[str]:
    """Who has no part in a group, and what each did to images, as their checks found it."""
    parts = []
    lacking = run.get("lacks", {}).get(group.split("/")[0], {})
    if lacking:
        parts.append("Not in it: " + "; ".join(f"{peer} ({why})" for peer, why in lacking.items()) + ".\n")
    checked = {row["peer"]: row["check"]["augmented"] for row in members if "augmented" in row["check"]}
    if checked:
        names = list(next(iter(checked.values())))
        rows = [
            [peer, *(f"{found[name][0]:.2f} +- {found[name][1]:.2f}" for name in names)]
            for peer, found in sorted(checked.items())
        ]
        parts.append(_table(["Mean, and spread of a photograph's deliveries", *names], rows))
    return parts


def matrix(run: dict[str, Any]) -> str:
    """A row for each loader, a column for each group: CPU ms an image, and how many times ours."""
    rows = _rows(run)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    peers = [peer for peer in PEERS if any(row["peer"] == peer for row in rows)]
    cells = {(row["peer"], row["group"]): row["cpu"] for row in rows}
    lines = []
    for peer in peers:
        line = [peer]
        for group in groups:
            # Whole loaders have ours beside them, decoders our decoder.
            ours = cells.get((OURS, group), cells.get((f"{OURS}-decode", group)))
            cpu = cells.get((peer, group))
            ratio = f" ({cpu / ours:.1f} x)" if cpu and ours and not peer.startswith(OURS) else ""
            line.append("-" if cpu is None else f"{cpu:.2f}{ratio}")
        lines.append(line)
    heads = [group.replace("/batch", " ").replace("/threads", ", ") for group in groups]
    explained = (
        "CPU ms per image, the median of the rounds, and how many times ours; pipeline, batch size, threads or worker "
        "processes. Each loader was checked once for each pipeline.\n\n"
    )
    return explained + _table(["Loader", *heads], lines)


def wide(run: dict[str, Any]) -> str:
    """A row for each pipeline, a column for each loader: CPU ms an image, and how many times ours."""
    rows = _rows(run)
    peers = [peer for peer in PEERS if any(row["peer"] == peer for row in rows)]
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        members = {row["peer"]: row for row in rows if row["group"] == group}
        ours = members[OURS]["cpu"] if OURS in members else None
        lacking = run.get("lacks", {}).get(group.split("/")[0], {})
        cells = [
            f"{members[peer]['cpu']:.2f}" + (f" ({members[peer]['cpu'] / ours:.1f} x)" if ours and peer != OURS else "")
            if peer in members
            else lacking.get(peer, "-")
            for peer in peers
        ]
        lines.append([group.split("/")[0], *cells])
    return _table(["CPU ms per image", *(PEERS[peer].title for peer in peers)], lines)


def _group(run: dict[str, Any], name: str | None) -> list[dict[str, Any]]:
    """The rows of one group, of the first where none is named."""
    rows = _rows(run)
    name = name or rows[0]["group"]
    members = [row for row in rows if row["group"] == name]
    if not members:
        raise SystemExit(f"the run holds no group {name!r}, choose among {sorted({row['group'] for row in rows})}")
    return members


def _sections(members: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]], float | None]]:
    """(Title, rows, our CPU time) of the loaders that read the same bytes."""
    parts = []
    for title, suffix in _BYTES.items():
        rows = [row for row in members if _suffix(row) == suffix]
        if rows:
            parts.append((title, rows, next((row["cpu"] for row in rows if row["peer"] == OURS + suffix), None)))
    return parts


def _suffix(row: dict[str, Any]) -> str:
    return next((suffix for suffix in _BYTES.values() if suffix and row["peer"].endswith(suffix)), "")


def _title(row: dict[str, Any]) -> str:
    return PEERS[row["peer"]].title if row["peer"] in PEERS else str(row["peer"])


def short(run: dict[str, Any], group: str | None = None) -> str:
    """The table for README: one group (the first unless named), without what only a study needs."""
    lines = []
    for section, rows, ours in _sections(_group(run, group)):
        if lines:
            lines.append([f"*{section}*", "", "", "", ""])
        for row in rows:
            emphasis = "**" if row["peer"].startswith(OURS) else ""
            lines.append(
                [
                    emphasis + _title(row) + emphasis,
                    f"{emphasis}{row['cpu']:.2f}{emphasis}",
                    f"{row['cpu'] / ours:.1f} x" if ours else "-",
                    f"{row['speed']:,.0f}",
                    f"{row['memory_mib'] - row['torch_memory_mib']:,}",
                ]
            )
    return _table(["Loader", "CPU ms per image", "to ours", "images/s", "memory beyond torch's, MiB"], lines)


def plot(run: dict[str, Any], group: str | None = None) -> str:
    """SVG: bars of CPU time per image with the range of the rounds."""
    members = _group(run, group)
    sections = [
        (
            section,
            [
                Bar(
                    name=_title(row),
                    ours=row["peer"].startswith(OURS),
                    median=row["cpu"],
                    low=row["cpu_low"],
                    high=row["cpu_high"],
                    ratio=row["cpu"] / ours if ours else None,
                )
                for row in rows
            ],
        )
        for section, rows, ours in _sections(members)
    ]
    first = members[0]
    conditions = f"{first['pipeline']}, batch {first['batch_size']}, {first['threads']} threads; lower is better"
    return draw("CPU milliseconds per image", conditions, sections)


def readme(run: dict[str, Any], source: Path, target: Path, group: str | None = None) -> None:
    """Writes the table and what it was measured on between the marks in README, and the plot beside the results.

    Args:
        run: The stored run.
        source: Its file, which README links to (its page, with the suffix .md).
        target: README; the plot goes to ``benchmarks/results/loaders.svg`` below its folder.
        group: Which group; the first of the run unless given.
    """
    first, machine, corpus = _group(run, group)[0], run["machine_info"], run.get("corpus")
    data = f"{corpus['photographs']} photographs of {corpus['source']} (mean {corpus['mean_bytes'] / 1000:.0f} KB)"
    conditions = (
        f"{first['pipeline']}, batches of {first['batch_size']}, {first['threads']} threads or worker processes, "
        f"{data if corpus else 'unnamed data'}; {machine['processor']}, {machine['cores']} cores, "
        f"{run['datetime'][:10]}. All loaders in one interleaved run, each with the best settings found for it, its "
        f"pixels checked before its number counts ([the whole table]({_page(source)})):"
    )
    image = f"![CPU milliseconds per image, {len(_group(run, group))} loaders]({_PLOT})"
    drawing = target.parent / _PLOT
    drawing.parent.mkdir(parents=True, exist_ok=True)
    drawing.write_text(plot(run, group))
    _renew(target, _BEGIN, _END, [conditions, image, short(run, group)])


def augmentation(run: dict[str, Any], source: Path, target: Path) -> None:
    """Writes the table of all pipelines, and what it was measured on, between the marks in README."""
    first, machine = _rows(run)[0], run["machine_info"]
    conditions = (
        f"Batches of {first['batch_size']}, {first['threads']} threads or worker processes, float16 out; "
        f"{machine['processor']}, {machine['cores']} cores, {run['datetime'][:10]}. All in one interleaved run, each "
        "result held to torchvision's statistics, and its boxes to the photographs', before its number counts "
        f"([the whole table]({_page(source)})):"
    )
    _renew(target, _WIDE_BEGIN, _WIDE_END, [conditions, wide(run)])


def _renew(target: Path, begin: str, end: str, parts: Sequence[str]) -> None:
    """Replaces what stands between two marks."""
    before, found, rest = target.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{target} lacks the lines {begin} and {end}; put them where the table belongs")
    target.write_text(before + "\n\n".join([begin, *(part.rstrip() for part in parts), end]) + after)


def _page(source: Path) -> str:
    return f"benchmarks/results/{source.with_suffix('.md').name}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a file of benchmarks/results")
    parser.add_argument("--short", action="store_true", help="README's table in place of the whole page")
    parser.add_argument("--matrix", action="store_true", help="a row for each loader, a column for each group")
    parser.add_argument("--wide", action="store_true", help="a row for each pipeline; with --readme into README")
    parser.add_argument("--group", help="group of --short, --plot and --readme; the first of the run unless given")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw this file")
    parser.add_argument("--readme", action="store_true", help="renew README's table and plot")
    arguments = parser.parse_args()
    run = json.loads(arguments.run.read_text())
    if arguments.plot:
        arguments.plot.write_text(plot(run, arguments.group))
    if arguments.readme and not arguments.wide:
        readme(run, arguments.run, REPOSITORY / "README.md", arguments.group)
    if arguments.wide and arguments.readme:
        augmentation(run, arguments.run, REPOSITORY / "README.md")
    elif arguments.wide:
        print(wide(run), end="")
    elif arguments.matrix:
        print(matrix(run), end="")
    elif not (arguments.plot or arguments.readme):
        print(short(run, arguments.group) if arguments.short else markdown(run), end="")


if __name__ == "__main__":
    main()
