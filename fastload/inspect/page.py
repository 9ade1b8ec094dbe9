"""The page: one HTML file with everything in it, no scripts, and nothing from the data set that is not escaped."""

from __future__ import annotations

import base64
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from typing import Final

from PIL import Image

from fastload.inspect.augmented import Augmented, AugmentedRow
from fastload.inspect.charts import bars, class_curve, escape, histogram, shares
from fastload.inspect.numbers import count, digits, percent, size
from fastload.inspect.pictures import Picture, to_jpeg
from fastload.inspect.plan import CompiledTransforms
from fastload.inspect.report import ClassBalance, Inspection

# Up to so many classes each has its bar; with more, a curve shows all, and a list the ends of it.
_MOST_BARS: Final = 24
_MOST_LISTED: Final = 2000
_MOST_GROUPS: Final = 20

# The browser itself keeps the promise of the first line, whatever a data set holds.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

TIMES: Final = "\N{MULTIPLICATION SIGN}"

DECODERS: Final = {
    "fastload": "fastload: only what a crop needs",
    "turbo": "libjpeg-turbo: whole image",
    "pillow": "Pillow: whole image",
    "raw": "none: bare pixels",
}
TITLES: Final = {
    "width": "Width",
    "height": "Height",
    "aspect": "Aspect ratio, width / height",
    "bytes": "File size",
    "bits": "Bits per pixel",
}


def render_page(
    found: Inspection,
    samples: Sequence[Picture],
    augmented: Augmented | None = None,
    plans: Sequence[CompiledTransforms] = (),
) -> str:
    """The whole page, as text to be written in UTF-8."""
    name = os.path.basename(os.path.normpath(found.path)) or found.path
    style = importlib.resources.files("fastload.inspect").joinpath("page.css").read_text(encoding="utf-8")
    sections = [
        _head(name, found),
        _findings(found),
        _samples(found, samples),
        _augmented(augmented, plans),
        _classes(found.classes),
        _objects(found),
        _sizes(found),
        _coding(found),
        _cost(found),
        _duplicates(found),
        _unreadable(found),
        _origin(found),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(name)}: what is in it</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<footer>{_footer(found)}</footer>\n</body>\n</html>\n"
    )


def _section(title: str, sentence: str, body: str) -> str:
    said = f'<p class="sub">{sentence}</p>' if sentence else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def _card(title: str, body: str) -> str:
    return f'<div class="card"><h3>{escape(title)}</h3>{body}</div>'


def _facts(rows: Mapping[str, str]) -> str:
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    return f'<dl class="facts">{cells}</dl>'


def _head(name: str, found: Inspection) -> str:
    about = "" if found.bytes_exact else "about "
    tiles = [("Images", f"{found.samples:,}", f"{_files(found)}")]
    if found.classes is not None:
        filled = [number for number in found.classes.counts if number]
        spread = f"{min(filled):,} to {max(filled):,} images each" if filled else "all empty"
        if filled and min(filled) == max(filled):
            spread = f"{count(filled[0], 'image')} each"
        tiles.append(("Classes", f"{len(found.classes.counts):,}", spread))
    tiles.append(("Size", size(found.num_bytes), f"{about}{size(found.num_bytes / found.samples)} an image"))
    if "width" in found.distributions:
        width, height = found.distributions["width"], found.distributions["height"]
        middle = f"{width.median:.0f} {TIMES} {height.median:.0f}"
        tiles.append(("Median image", middle, f"pixels, width {TIMES} height"))
    if found.cost is not None:
        speed = f"{digits(1e3 / found.cost.crop_ms)} crops/s a core" if found.cost.crop_ms else ""
        tiles.append(("Decoding a crop", f"{digits(found.cost.crop_ms)} ms", speed))
    cells = "".join(
        f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd><dd>{escape(more)}</dd></div>"
        for term, value, more in tiles
    )
    return (
        f'<header><h1>{escape(name)}</h1><p class="sub">{escape(found.kind)} · <code>{escape(found.path)}</code></p>'
        f'<dl class="tiles">{cells}</dl></header>'
    )


def _files(found: Inspection) -> str:
    if found.kind == "tar shards":
        return f"in {count(found.files, 'shard')}"
    return "in one file" if found.kind == ".beton file" else "in a folder"


def _findings(found: Inspection) -> str:
    if not found.findings:
        return ""
    items = "".join(
        f'<li class="{finding.level}"><b>{finding.level.capitalize()}</b>{escape(finding.text)}</li>'
        for finding in found.findings
    )
    return f'<ul class="findings" aria-label="Findings">{items}</ul>'


def _image(image: Image.Image, alt: str) -> str:
    data = base64.b64encode(to_jpeg(image)).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" width="{image.width}" height="{image.height}" alt="{escape(alt)}">'
    )


def _samples(found: Inspection, samples: Sequence[Picture]) -> str:
    if not samples:
        return ""
    figures = []
    for picture in samples:
        form = ", ".join(part for part in (f"{picture.width} {TIMES} {picture.height}", picture.notes) if part)
        title = picture.label or picture.key
        key = "" if title == picture.key else f'<span class="clamp">{escape(picture.key)}</span>'
        alt = f"Sample {picture.key}" + (f", class {picture.label}" if picture.label else "") + f", {form}"
        figures.append(
            f'<figure>{_image(picture.image, alt)}<figcaption><strong class="clamp">{escape(title)}</strong>'
            f"{key}{escape(form)}</figcaption></figure>"
        )
    how = "at random" if found.classes is None else "at random over the classes"
    sentence = f"{len(samples):,} of {found.samples:,}, drawn {how} (seed {found.seed})."
    return _section("Samples", escape(sentence), f'<div class="sheet">{"".join(figures)}</div>')


def _augmented(augmented: Augmented | None, plans: Sequence[CompiledTransforms]) -> str:
    body = ""
    if augmented is not None and augmented.rows:
        body += f'<div class="strips">{"".join(_strip(row) for row in augmented.rows)}</div>'
    if plans:
        body += f'<div class="grid" style="margin-top:12px">{"".join(_plan(plan) for plan in plans)}</div>'
    if not body:
        return ""
    title = augmented.title if augmented is not None else "What the recipe's transforms are compiled to"
    sentence = (
        "Pixels as the Loader delivers them in the first epochs; boxes on the original show what each epoch takes."
    )
    return _section(title, escape(sentence) if augmented is not None else "", body)


def _strip(row: AugmentedRow) -> str:
    name = row.original.label or row.original.key
    original = _image(row.original.image, f"Sample {row.original.key} as it is, with the crops of the epochs as boxes")
    figures = [
        f'<figure>{original}<figcaption><strong class="clamp">{escape(name)}</strong>as it is</figcaption></figure>'
    ]
    for epoch, image in zip(row.epochs, row.images, strict=True):
        alt = f"The same sample as epoch {epoch} delivers it"
        figures.append(f"<figure>{_image(image, alt)}<figcaption>epoch {epoch}</figcaption></figure>")
    return f'<div class="card strip">{"".join(figures)}</div>'


def _plan(plan: CompiledTransforms) -> str:
    steps = "".join(f"<dt><code>{escape(step)}</code></dt><dd>{escape(becomes)}</dd>" for step, becomes in plan.steps)
    passes = plan.passes_in_words[:1].upper() + plan.passes_in_words[1:]
    return _card(
        f"Compiled: {plan.name}",
        f"<p>{escape(passes)}: {escape(plan.result)}. It needs {percent(plan.source_share)} of the source pixels on "
        "average; "
        f"{percent(plan.enlarged_share)} of the images are enlarged.</p>"
        f'<dl class="steps">{steps}</dl>',
    )


def _classes(classes: ClassBalance | None) -> str:
    if classes is None or not classes.counts:
        return ""
    rows = sorted(zip(classes.names, classes.counts, strict=True), key=lambda row: -row[1])
    unlabelled = f" {count(classes.unlabelled, 'sample')} have no label." if classes.unlabelled else ""
    sentence = f"Samples in each of {len(rows):,} classes, all counted.{unlabelled}"
    if len(rows) <= _MOST_BARS:
        return _section("Class balance", escape(sentence), f'<div class="card">{bars(rows)}</div>')
    listed = rows if len(rows) <= _MOST_LISTED else rows[: _MOST_LISTED // 2] + rows[-_MOST_LISTED // 2 :]
    if rows[0][1] == rows[-1][1]:
        return _section(
            "Class balance", escape(f"Each of {len(rows):,} classes has {count(rows[0][1], 'sample')}."), ""
        )
    columns = bars(listed).replace('class="bars"', 'class="bars columns"', 1)
    body = (
        '<div class="grid">'
        + _card("Samples per class, largest class first", class_curve(classes.counts))
        + _card("Largest", bars(rows[:6]))
        + _card("Smallest", bars(rows[-6:]))
        + f"</div><details><summary>All classes{'' if len(listed) == len(rows) else f' ({len(listed):,} of them)'}"
        f'</summary><div class="card">{columns}</div></details>'
    )
    return _section("Class balance", escape(sentence), body)


def _objects(found: Inspection) -> str:
    objects = found.objects
    if objects is None:
        return ""
    numbers = ((objects.boxes, "box"), (objects.keypoints, "visible keypoint"), (objects.masks, "mask"))
    found_there = ", ".join(count(number, noun) for number, noun in numbers if number)
    sentence = f"{_examined(found)}: {found_there} in {count(objects.annotated, 'image')}."
    cards = []
    for title, values in (
        ("Boxes in an image", objects.per_image),
        ("Size of a box, as a square's side", objects.side),
    ):
        if values is not None:
            cards.append(_card(title, histogram(title, values, "box" if values is objects.side else "image")))
    if objects.classes is not None:
        ordered = sorted(zip(objects.classes.names, objects.classes.counts, strict=True), key=lambda row: -row[1])
        rest = ordered[_MOST_BARS // 2 : _MOST_LISTED]
        more = (
            f"<details><summary>{len(rest):,} more</summary>{bars(rest, most=ordered[0][1])}</details>" if rest else ""
        )
        cards.append(_card("Boxes by class", bars(ordered[: _MOST_BARS // 2]) + more))
    return _section("Objects", escape(sentence), f'<div class="grid">{"".join(cards)}</div>')


def _sizes(found: Inspection) -> str:
    if not found.distributions:
        return ""
    cards = [_card(TITLES[name], histogram(TITLES[name], values)) for name, values in found.distributions.items()]
    first = next(iter(found.distributions.values()))
    of = "all images" if first.exact else f"a random sample of {first.images:,} images (seed {found.seed})"
    return _section(
        "Images", f"Number of images over each figure, for {of}.", f'<div class="grid">{"".join(cards)}</div>'
    )


def _coding(found: Inspection) -> str:
    coding = found.coding
    groups = [
        ("Decoder", shares(coding.decoders, DECODERS), coding.decoders),
        ("Format", shares(coding.formats), coding.formats),
        ("JPEG process", shares(coding.processes), coding.processes),
        ("Chroma subsampling", shares(coding.sampling), coding.sampling),
        ("Colour", shares(coding.colours), coding.colours),
        ("Restart markers", shares(coding.restarts), coding.restarts),
        ("Why not fastload's decoder", shares(coding.reasons), coding.reasons),
    ]
    cards = [_card(title, body) for title, body, counts in groups if counts]
    if found.seek.images:
        seek = found.seek
        missing = seek.images - seek.indexed - seek.restarts
        rows = {"seek index": seek.indexed, "restart markers": seek.restarts, "neither": max(missing, 0)}
        each = f'<p class="sub">{size(seek.num_bytes / seek.indexed)} an index.</p>' if seek.indexed else ""
        cards.append(_card("Entered in the middle by", each + shares(rows)))
    if not cards:
        return ""
    return _section(
        "Coding", escape(f"{_examined(found)}, headers alone."), f'<div class="grid">{"".join(cards)}</div>'
    )


def _examined(found: Inspection) -> str:
    if found.examined == found.samples:
        return f"All {count(found.samples, 'image')}"
    return f"A random sample of {found.examined:,} of {found.samples:,} images (seed {found.seed})"


def _cost(found: Inspection) -> str:
    cost = found.cost
    if cost is None:
        return ""
    rows = {
        "whole image": f"{digits(cost.whole_ms)} ms of processor time",
        "the part of a crop": f"{digits(cost.crop_ms)} ms, {percent(cost.crop_share)} of the pixels",
        "an epoch of crops": f"{_duration(found.samples * cost.crop_ms / 1e3)} of one core",
        "whole, by byte": f"{digits(cost.ns_per_byte)} ns",
        "whole, by pixel": f"{digits(cost.ns_per_pixel)} ns",
    }
    sentence = (
        f"Measured on this machine in one thread, on {count(cost.images, 'image')}; crops by {cost.transforms}. "
        "Reading and resizing come on top: fastload bench measures all of it."
    )
    return _section("Decode cost", escape(sentence), f'<div class="card">{_facts(rows)}</div>')


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{digits(seconds)} s"
    return f"{digits(seconds / 60)} min" if seconds < 7200 else f"{digits(seconds / 3600)} h"


def _duplicates(found: Inspection) -> str:
    copies = found.duplicates
    of = "all images" if copies.searched == found.samples else f"{copies.searched:,} images of the sample"
    if not copies.num_groups:
        sentence = f"None among {of}: no two have equal size, crc32 and bytes."
        return _section("Duplicates", escape(sentence), "")
    items = "".join(f"<li>{' = '.join(escape(key) for key in group)}</li>" for group in copies.groups[:_MOST_GROUPS])
    more = copies.num_groups - min(len(copies.groups), _MOST_GROUPS)
    rest = f"<p class='sub'>and {count(more, 'group')} more</p>" if more else ""
    sentence = (
        f"{count(copies.num_groups, 'group')} of files that are equal byte for byte, among {of}; "
        f"{count(copies.surplus, 'image')} could go."
    )
    return _section("Duplicates", escape(sentence), f'<div class="card"><ul class="plain">{items}</ul>{rest}</div>')


def _unreadable(found: Inspection) -> str:
    if not found.num_unreadable:
        return ""
    items = "".join(
        f"<li><code>{escape(key)}</code>: {escape(reason)}</li>" for key, reason in found.unreadable[:_MOST_GROUPS]
    )
    more = found.num_unreadable - min(len(found.unreadable), _MOST_GROUPS)
    rest = f"<p class='sub'>and {count(more)} more</p>" if more else ""
    sentence = f"{count(found.num_unreadable, 'image')} of {found.examined:,} that were read."
    body = f'<div class="card"><ul class="plain">{items}</ul>{rest}</div>'
    return _section("Cannot be read", escape(sentence), body)


def _origin(found: Inspection) -> str:
    cards = [_card("Fields", _facts(found.schema))]
    if found.origin:
        cards.append(_card("Conversion", _facts(found.origin)))
    return _section("Schema", "", f'<div class="grid">{"".join(cards)}</div>')


def _footer(found: Inspection) -> str:
    return escape(f"fastload inspect {found.path}: {_examined(found).lower()} read.")
