"""From members to samples: WebDataset's rule for keys, which member is the image, and what the label is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastload.dataset.listing import printable
from fastload.errors import ConfigError, DataError
from fastload.sources.tar_members import Member

# webdataset.tariterators.base_plus_ext and skip_meta
_NAME: Final = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
_META: Final = re.compile(r"__[^/]*__($|/)")
# A field of the index is named after it.
_SUFFIX: Final = re.compile(r"[^\x00-\x1f:]{1,80}")

IMAGE_SUFFIXES: Final = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm", "tif", "tiff")
LABEL_SUFFIX: Final = "cls"
# What class names become when there are none: "0" to the largest label.
_MOST_CLASSES: Final = 1_000_000
# Each suffix is three columns of the index.
MOST_EXTRAS: Final = 64
LARGEST_LABEL_MEMBER: Final = 1 << 20


@dataclass
class Group:
    """Neighbouring members of one key.

    Attributes:
        key: As webdataset has it, "cat/0001"; bytes that are no UTF-8 appear as ``\\xff``.
        members: By suffix in lower case, in their order.
        problem: Why they make no sample; empty if they may.
    """

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    problem: str = ""


def split_name(name: str) -> tuple[str, str] | None:
    """Key and suffix of a member as WebDataset has them; None for one that it passes over."""
    match = _NAME.match(name)
    if match is None or _META.match(name) or _SUFFIX.fullmatch(suffix := printable(match[2].lower())) is None:
        return None
    return printable(match[1]), suffix


def group_members(members: Iterable[Member]) -> Iterator[Group | Member]:
    """Groups of one shard in order, and between them the members that belong to no sample."""
    group: Group | None = None
    seen: set[str] = set()
    for member in members:
        split = split_name(member.name)
        if split is None:
            yield member
            continue
        key, suffix = split
        if group is None or key != group.key:
            if group is not None:
                yield group
            group = Group(key)
            if key in seen:
                group.problem = "its key has appeared in this shard before; the members of a sample must lie together"
            seen.add(key)
        if suffix in group.members:
            group.problem = f"it has two members .{suffix}"
        group.members[suffix] = member
    if group is not None:
        yield group


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which members hold image and label.

    Attributes:
        image: Suffix of the image; None takes the one member with a suffix of IMAGE_SUFFIXES.
        label: ``"cls"`` or another suffix, whose member holds a whole number as text; ``"json.label"``, a field of the
            member .json (``"json.a.b"`` inside objects); ``"none"``; None takes .cls where it is there.
    """

    image: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("image", self.image), ("label", self.label)):
            if value is not None and (not value.strip(".") or value != value.strip(".").strip()):
                raise ConfigError(f"{name} must be the end of a member's name without its first dot, not {value!r}")

    @property
    def label_suffix(self) -> str:
        """The member that holds the label; empty for none."""
        if self.label == "none":
            return ""
        if self.label is None:
            return LABEL_SUFFIX
        return "json" if self.label.startswith("json.") else self.label.lower()

    @property
    def hidden(self) -> frozenset[str]:
        """Members that are labels and nothing else, and so no extras."""
        return frozenset() if self.label_suffix == "json" else frozenset({self.label_suffix})

    def image_of(self, group: Group) -> str:
        """Suffix of the image of a sample.

        Raises:
            DataError: It has none, which makes it no sample.
            ConfigError: It has several, and the user has not said which.
        """
        wanted = IMAGE_SUFFIXES if self.image is None else (self.image.lower(),)
        found = [suffix for suffix in group.members if suffix in wanted]
        if len(found) > 1:
            raise ConfigError(
                f"sample {group.key!r} has the images {', '.join(found)}; say which is meant: image={found[0]!r} "
                f"(--image {found[0]})"
            )
        if not found:
            members = ", ".join(list(group.members)[:10])
            raise DataError(f"it has no image ({self.image or 'jpg, png, webp ...'}), only {members}")
        return found[0]

    def read_label(self, data: bytes | None) -> int:
        """The label in the bytes of its member (None: there is no such member); -1 for none.

        Raises:
            DataError: It is missing although it was asked for, or is no whole number from 0 to 999,999.
        """
        if data is None:
            if self.label in (None, "none"):
                return -1
            raise DataError(f"it has no member .{self.label_suffix} for its label")
        value = _field(data, self.label.split(".")[1:]) if self.label_suffix == "json" and self.label else _number(data)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_CLASSES:
            raise DataError(f"expected a label from 0 to {_MOST_CLASSES - 1:,}, got {str(value)[:60]!r}")
        return value


def _number(data: bytes) -> Any:
    text = data.decode("utf-8", "replace").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else text


def _field(data: bytes, path: list[str]) -> Any:
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"its member .json is no JSON ({type(error).__name__})") from error
    for name in path:
        if not isinstance(value, dict) or name not in value:
            raise DataError(f"its member .json has no field {'.'.join(path)!r}")
        value = value[name]
    return value


def check_extras(extras: Sequence[str], place: str) -> None:
    """DataError if samples have more kinds of members than an index can hold."""
    if len(extras) > MOST_EXTRAS:
        raise DataError(
            f"expected at most {MOST_EXTRAS} kinds of members beside image and label, got {len(extras)} ({extras[0]}, "
            f"{extras[1]} ...); keys must not contain dots",
            path=place,
        )
