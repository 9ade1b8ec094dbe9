"""How an inspection is drawn in a terminal: facts, distributions with a small histogram each, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from fastload.cli.drawing import facts
from fastload.inspect.distribution import Distribution
from fastload.inspect.numbers import count, digits, percent, quantity, size
from fastload.inspect.page import DECODERS, TITLES
from fastload.inspect.plan import CompiledTransforms
from fastload.inspect.report import ClassBalance, Inspection

_LEVELS = " ▁▂▃▄▅▆▇█"


def inspection_tables(found: Inspection) -> list[Table | str]:
    """The whole inspection."""
    tables: list[Table | str] = [
        "",
        facts(escape(_printable(found.path)), _escaped(_overview(found))),
        "",
        _distributions(found),
    ]
    for finding in found.findings:
        mark = "[bold red]problem[/]" if finding.level == "problem" else "[bold]note[/]"
        tables.append(f"{mark}: {escape(_printable(finding.text))}")
    return tables


def _escaped(rows: Mapping[str, str]) -> dict[str, str]:
    """Square brackets in names of classes and files are no markup."""
    return {escape(name): escape(_printable(value)) for name, value in rows.items()}


def _printable(text: str) -> str:
    """Control characters of a name must not reach the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _overview(found: Inspection) -> dict[str, str]:
    about = "" if found.bytes_exact else "about "
    rows = {
        "what": f"{found.kind}, {count(found.files, 'file')}",
        "samples": f"{found.samples:,}, {about}{size(found.num_bytes)}",
        "classes": "none" if found.classes is None else _classes(found.classes),
        "fields": ", ".join(f"{name} ({kind})" for name, kind in found.schema.items()),
        "read": f"{found.examined:,} images at random, seed {found.seed}"
        if found.examined < found.samples
        else "all images",
        "formats": _shares(found.coding.formats),
        "JPEG coding": _shares(found.coding.processes),
        "subsampling": _shares(found.coding.sampling),
        "restart markers": _shares(found.coding.restarts),
        "decoders": _shares({DECODERS[name]: number for name, number in found.coding.decoders.items()}),
    }
    if found.seek.images:
        share = percent(found.seek.indexed / found.seek.images)
        rows["seek indexes"] = f"{share} of the JPEGs that take one"
    if found.cost is not None:
        cost = found.cost
        rows["decoding"] = (
            f"{digits(cost.whole_ms)} CPU ms an image; {digits(cost.crop_ms)} for {cost.transforms} "
            f"({percent(cost.crop_share)} of the pixels); measured on {cost.images}"
        )
    if found.objects is not None:
        objects = found.objects
        numbers = ((objects.boxes, "box"), (objects.keypoints, "keypoint"), (objects.masks, "mask"))
        rows["annotations"] = ", ".join(count(number, noun) for number, noun in numbers if number)
    copies = found.duplicates
    rows["duplicates"] = "none" if not copies.surplus else f"{count(copies.surplus, 'image')} of {copies.searched:,}"
    if found.num_unreadable:
        key, reason = found.unreadable[0]
        rows["cannot be read"] = f"{count(found.num_unreadable, 'image')}; {key}: {reason}"
    return {name: value for name, value in rows.items() if value}


def _classes(classes: ClassBalance) -> str:
    rows = sorted(zip(classes.counts, classes.names, strict=True), reverse=True)
    if not rows:
        return "none"
    (most, largest), (least, smallest) = rows[0], rows[-1]
    spread = f"{most:,} each" if most == least else f"{most:,} ({largest}) to {least:,} ({smallest})"
    unlabelled = f"; {classes.unlabelled:,} samples without" if classes.unlabelled else ""
    return f"{len(rows):,}, {spread}{unlabelled}"


def _shares(counts: Mapping[str, int]) -> str:
    whole = sum(counts.values())
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} {percent(number / whole)}" for name, number in counts.items())


def _distributions(found: Inspection) -> Table:
    of = next((values for values in found.distributions.values()), None)
    what = "all images" if of is None or of.exact else f"a sample of {of.images:,}"
    table = Table(title=f"Distributions ({what})", title_justify="left", title_style="bold")
    for name in ("", "smallest", "median", "largest"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("histogram", no_wrap=True)
    for name, values in found.distributions.items():
        unit = "" if name == "bits" else values.unit  # the title says it
        points = (quantity(value, unit) for value in (values.minimum, values.median, values.maximum))
        table.add_row(TITLES[name].partition(",")[0], *points, _spark(values))
    return table


def _spark(values: Distribution) -> str:
    most = max(values.counts)
    return "".join(_LEVELS[-(-number * (len(_LEVELS) - 1) // most)] for number in values.counts)


def plan_tables(plans: Sequence[CompiledTransforms]) -> list[Table | str]:
    """What transforms are compiled to, a table for each chain."""
    tables: list[Table | str] = []
    for plan in plans:
        rows = {
            **dict(plan.steps),
            "compiled": f"{plan.passes_in_words}: {plan.result}",
            "source": f"{percent(plan.source_share)} of its pixels needed on average",
            "enlarged": f"{percent(plan.enlarged_share)} of the images",
        }
        tables.append(facts(f"Transforms, {plan.name}", _escaped(rows)))
    return tables
