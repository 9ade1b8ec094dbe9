"""A run of benchmarks.gpu as a page."""

from __future__ import annotations

from typing import Any

# What the project set out to reach: share of the speed on synthetic data, and of stock DALI's in loading.
_GOAL_OF_SYNTHETIC = {224: 0.97, 160: 0.95}


def render(result: dict[str, Any]) -> str:
    """Markdown: hardware, versions, command, and a table for loading and for training."""
    found = result["machine"]
    gpu = found["gpu"]
    lines = [
        f"# {result['date']}: " + ("no GPU, device cpu" if gpu is None else f"{gpu['name']}, {gpu['memory_gib']} GiB"),
        "",
        f"`{result['command']}`",
        "",
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB; {found['system']}, Python "
        f"{found['python']}" + ("" if gpu is None else f"; driver {gpu['driver']}, CUDA {gpu['cuda']}"),
        "",
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        "",
        f"{result['corpus']['photographs']} photographs of {result['corpus']['source']}, {result['corpus']['samples']} "
        f"samples of {result['corpus']['mean_bytes'] / 1000:.0f} kB.",
    ]
    if result["loading"]:
        lines += ["", "## Images into the device's memory", "", *_loading(result["loading"])]
    if result["training"]:
        lines += ["", "## Training", "", *_training(result["training"])]
    return "\n".join(lines)


def _loading(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| px | loader | images/s (slowest to fastest) | to DALI as users write it | CPU ms/image | GPU ms/image | "
        "GPU memory | host memory | grey levels from Pillow |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["fault"]:
            lines.append(f"| {_pipeline(row)} | {row['loader']} | {_short(row['fault'])} | | | | | | |")
            continue
        stock = [
            other["images_per_second"]
            for other in rows
            if (_pipeline(other), other["loader"], other["fault"]) == (_pipeline(row), "dali-webdataset", None)
        ]
        lines.append(
            f"| {_pipeline(row)} | {row['loader']} | {_speed(row)} | "
            + (f"{row['images_per_second'] / stock[0]:.2f}x" if stock else "")
            + f" | {row['cpu_ms_per_image']:.3f} | {_milliseconds(row['gpu_ms_per_image'])} | "
            f"{_bytes(row['gpu_bytes'])} | {_bytes(row['memory_bytes'])} | "
            f"{row['check']['mean_difference']:.2f} |"
        )
    return lines


def _pipeline(row: dict[str, Any]) -> str:
    return f"{row['size']} {row.get('augment', '')}".strip()


def _training(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| px | model | source | images/s (slowest to fastest) | of synthetic | waiting for data | the host | "
        "compiling | GPU memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["fault"]:
            lines.append(f"| {row['size']} | {row['model']} | {row['source']} | {_short(row['fault'])} | | | | | |")
            continue
        ceiling = [
            other["images_per_second"]
            for other in rows
            if (other["size"], other["source"], other["fault"]) == (row["size"], "synthetic", None)
        ]
        share = row["images_per_second"] / ceiling[0] if ceiling else None
        goal = _GOAL_OF_SYNTHETIC.get(row["size"])
        short = share is not None and goal is not None and share < goal and row["model"] == "resnet50"
        lines.append(
            f"| {row['size']} | {row['model']} | {row['source']} | {_speed(row)} | "
            + ("" if share is None else f"{100 * share:.1f}%" + (f" (goal {100 * goal:.0f}%)" if short else ""))
            + f" | {100 * row['wait_share']:.1f}% | {100 * row['host_wait_share']:.1f}% | "
            f"{row['compile_seconds']:.0f} s | {_bytes(row['gpu_bytes'])} |"
        )
    return lines


def _speed(row: dict[str, Any]) -> str:
    return f"{row['images_per_second']:,.0f} ({row['slowest']:,.0f} to {row['fastest']:,.0f})"


def _bytes(number: int | None) -> str:
    return "" if number is None else f"{number / 2**30:.1f} GiB"


def _milliseconds(number: float | None) -> str:
    return "" if number is None else f"{number:.3f}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return (words if len(words) <= 200 else f"... {words[-197:]}").replace("|", "/")
