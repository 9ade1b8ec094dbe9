"""What follows from an inspection: short sentences, each with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from fastload.inspect.numbers import count, percent

if TYPE_CHECKING:
    from fastload.inspect.report import Inspection

# Below these shares or ratios nothing is said.
_MANY: Final = 0.05
_UNEVEN: Final = 10.0

Level = Literal["problem", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence for people.

    Attributes:
        level: ``problem`` where samples are wrong or lost, ``note`` where something could be better.
        text: The sentence.
    """

    level: Level
    text: str


def find(inspection: Inspection) -> tuple[Finding, ...]:
    """All findings, problems first."""
    found = [*_damage(inspection), *_copies(inspection), *_balance(inspection), *_speed(inspection)]
    return tuple(sorted(found, key=lambda finding: finding.level == "note"))


def _problem(text: str) -> Finding:
    return Finding(level="problem", text=text)


def _note(text: str) -> Finding:
    return Finding(level="note", text=text)


def _damage(inspection: Inspection) -> list[Finding]:
    found = []
    if inspection.skipped:
        found.append(
            _problem(f"Images that the conversion skipped: {count(inspection.skipped)}; conversion.jsonl says why.")
        )
    if inspection.num_unreadable:
        share = f"{count(inspection.num_unreadable)} of {count(inspection.examined)} examined images cannot be read"
        found.append(_problem(f"{share}: a Loader stops at them, or replaces them with on_error=skip."))
    return found


def _copies(inspection: Inspection) -> list[Finding]:
    found, copies = [], inspection.duplicates
    if copies.across_classes:
        groups = count(copies.across_classes, "group")
        found.append(_problem(f"Equal images with different labels: {groups}, byte for byte the same."))
    if copies.surplus:
        found.append(_note(f"Byte-for-byte copies of other images: {count(copies.surplus)}."))
    if copies.unconfirmed:
        found.append(_note(f"With size and checksum of another image, but not compared: {count(copies.unconfirmed)}."))
    return found


def _balance(inspection: Inspection) -> list[Finding]:
    found, classes = [], inspection.classes
    if classes is None:
        return [] if inspection.objects else [_note("No sample has a class label.")]
    filled = [number for number in classes.counts if number]
    if len(filled) < len(classes.counts):
        found.append(_problem(f"Classes without a sample: {count(len(classes.counts) - len(filled))}."))
    if classes.unlabelled:
        found.append(_problem(f"Samples without a label, beside others that have one: {count(classes.unlabelled)}."))
    if filled and max(filled) > _UNEVEN * min(filled):
        ratio = f"{max(filled) / min(filled):,.0f}"
        found.append(_note(f"The largest class has {ratio} times as many samples as the smallest."))
    return found


def _speed(inspection: Inspection) -> list[Finding]:
    found, coding, seek = [], inspection.coding, inspection.seek
    read = max(sum(coding.formats.values()), 1)
    left = sum(coding.reasons.values())
    if left > _MANY * read:
        why = next(iter(coding.reasons))
        found.append(
            _note(
                f"{percent(left / read)} of the images are JPEGs that libjpeg-turbo has to decode whole ({why}): "
                "fastload convert --tiles rewrites progressive ones without loss."
            )
        )
    others = sum(number for name, number in coding.formats.items() if name not in ("JPEG", "raw pixels"))
    if others > _MANY * read:
        found.append(_note(f"{percent(others / read)} of the images are no JPEGs: Pillow decodes them, more slowly."))
    missing = seek.images - seek.indexed - seek.restarts
    if seek.images and missing > _MANY * seek.images:
        what = f"{percent(missing / seek.images)} of the JPEGs have neither a seek index nor restart markers"
        advice = {
            "tar shards": f"fastload index {inspection.path} writes the indexes, and random crops are decoded faster.",
            "image folder": "a Loader notes them while it trains; fastload convert writes them for good.",
        }.get(inspection.kind, "fastload convert to shards writes them, and random crops are decoded faster.")
        found.append(_note(f"{what}: {advice}"))
    return found
