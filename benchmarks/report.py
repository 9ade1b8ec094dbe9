"""Turns a stored run into tables and a plot: python -m benchmarks.report RUN.json [--short] [--plot FILE.svg]."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OURS = "fastload"


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
    lines += [f"- Absent: {name} ({', '.join(missing)} not installed)" for name, missing in run["absent"].items()]
    return "\n".join(lines) + "\n"


def markdown(run: dict[str, Any]) -> str:
    """The whole run as a page: conditions, then a table for each group."""
    rows = _rows(run)
    parts = [f"# Benchmark of {run['datetime'][:10]}\n", _conditions(run), ""]
    if rows:
        parts.append(
            "CPU ms/img: user + system of all threads and processes, median (lowest - highest) of the rounds. "
            "Difference: mean absolute difference to Pillow in grey levels (0 to 255), without chance. Memory: sum "
            "over all processes of each one's highest resident set (RSS), and the highest sum of proportional sets "
            "(PSS: shared pages counted once).\n"
        )
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        ours = next((row["cpu"] for row in members if row["peer"] == OURS), None)
        table = _table(
            ["Loader", "CPU ms/img", "to ours", "img/s", "best", "RSS MiB", "PSS MiB", "start s", "difference"],
            [
                [
                    row["peer"],
                    f"{row['cpu']:.3f} ({row['cpu_low']:.3f} - {row['cpu_high']:.3f})",
                    f"{row['cpu'] / ours:.2f}" if ours else "-",
                    f"{row['speed']:.0f}",
                    f"{row['fastest']:.0f}",
                    str(row["peak_rss_mib"]),
                    str(row["peak_pss_mib"]),
                    f"{row['start_seconds']:.1f}",
                    f"{row['check']['mean_difference']:.2f}",
                ]
                for row in members
            ],
        )
        parts += [f"## {group}\n\n{members[0]['pipeline']}\n", table]
    settings = {row["peer"]: row["settings"] for row in rows}
    if settings:
        parts.append("## Settings\n\n" + "\n".join(f"- {peer}: {text}" for peer, text in settings.items()) + "\n")
    return "\n".join([*parts, _stages(run)]).rstrip() + "\n"


def short(run: dict[str, Any], group: str | None = None) -> str:
    """The table for README: one group (the first unless named), without what only a study needs."""
    rows = _rows(run)
    group = group or rows[0]["group"]
    members = [row for row in rows if row["group"] == group]
    if not members:
        raise SystemExit(f"the run holds no group {group!r}")
    return _table(
        ["Loader", "CPU ms per image", "images/s", "peak memory, MiB"],
        [
            [
                f"**{row['peer']}**" if row["peer"].startswith(OURS) else row["peer"],
                f"{row['cpu']:.2f}",
                f"{row['speed']:,.0f}",
                f"{row['peak_pss_mib']:,}",
            ]
            for row in members
        ],
    )


def plot(run: dict[str, Any], path: Path, group: str | None = None) -> None:
    """Bars of CPU time per image with the range of the rounds; the suffix of ``path`` decides the format."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = _rows(run)
    group = group or rows[0]["group"]
    members = [row for row in rows if row["group"] == group][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.36 * len(members) + 1.2), layout="constrained")
    colours = ["#0a6e4f" if row["peer"].startswith(OURS) else "#9aa5b1" for row in members]
    spans = [[row["cpu"] - row["cpu_low"] for row in members], [row["cpu_high"] - row["cpu"] for row in members]]
    bars = axes.barh([row["peer"] for row in members], [row["cpu"] for row in members], xerr=spans, color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=6, fontsize=9)
    axes.set_xlabel("CPU milliseconds per image, all threads and processes (lower is better)")
    axes.set_title(members[0]["pipeline"], fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a file of benchmarks/results")
    parser.add_argument("--short", action="store_true", help="README's table in place of the whole page")
    parser.add_argument("--group", help="group of --short and --plot; the first of the run unless given")
    parser.add_argument("--plot", type=Path, help="also draw this file (.svg or .png; needs matplotlib)")
    arguments = parser.parse_args()
    run = json.loads(arguments.run.read_text())
    print(short(run, arguments.group) if arguments.short else markdown(run), end="")
    if arguments.plot:
        plot(run, arguments.plot, arguments.group)


if __name__ == "__main__":
    main()
