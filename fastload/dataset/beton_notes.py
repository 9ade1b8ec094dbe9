"""x.beton.json: what fastload convert notes beside a .beton file, whose format has no room for it."""

from __future__ import annotations

import json
import logging
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastload.dataset.manifest import Count, Counts

logger = logging.getLogger("fastload")

MOST_NOTES_BYTES: Final = 256 << 20


class Notes(BaseModel):
    """The whole of x.beton.json.

    Attributes:
        size: Bytes of the .beton file that the notes are about.
        classes: Names in label order; empty where samples have no labels.
        fields: Types of further fields and of keys of the field "json", where they have one (see
            fastload.dataset.fields).
        counts: The account of the conversion.
        conversion: How the file was made: source, options and software; for people and for a second run.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    format: Literal["fastload beton notes"] = "fastload beton notes"
    version: Literal[1] = 1
    size: Count
    classes: tuple[str, ...] = Field(strict=False)
    fields: dict[str, str] = Field(default_factory=dict)
    counts: Counts
    conversion: dict[str, Any]


def notes_path(path: str) -> str:
    """Where the notes of a .beton file lie."""
    return f"{path}.json"


def dump_notes(notes: Notes) -> bytes:
    """The bytes of the file; equal notes give equal bytes."""
    values = notes.model_dump(mode="json", exclude=None if notes.fields else {"fields"})
    return (json.dumps(values, indent=1, ensure_ascii=True) + "\n").encode()


def read_notes(path: str, size: int) -> Notes | None:
    """The notes of the .beton file ``path``, which has ``size`` bytes; None where there are none.

    Notes that are damaged, or of another file, are left alone with a warning: the images do not depend on them.
    """
    try:
        with open(notes_path(path), "rb") as file:
            data = file.read(MOST_NOTES_BYTES + 1)
    except OSError:
        return None
    return parse_notes(data, size, notes_path(path))


def parse_notes(data: bytes, size: int, path: str) -> Notes | None:
    """The same from the bytes of the file; ``path`` is for messages."""
    try:
        notes = Notes.model_validate_json(data)
    except ValidationError:
        logger.warning("%s is damaged or was not written by fastload: classes have no names", path)
        return None
    if notes.size != size:
        logger.warning("%s belongs to another file: classes have no names", path)
        return None
    return notes
