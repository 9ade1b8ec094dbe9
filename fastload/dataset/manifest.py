"""dataset.json: what a converted data set says of itself, read with every field checked."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastload.dataset.reading import open_regular
from fastload.errors import DataError

MANIFEST_NAME: Final = "dataset.json"
INDEX_NAME: Final = "index.arrow"
LEDGER_NAME: Final = "conversion.jsonl"

FORMAT: Final = "fastload"
VERSION: Final = 1

# A manifest of 100,000 shards and a million class names stays below it; a larger file is not one of ours.
MOST_BYTES: Final = 256 << 20


def _plain_name(name: str) -> str:
    if name in ("", ".", "..") or any(c in name for c in "/\\\0"):
        raise ValueError("a plain file name was expected, without folders")
    return name


FileName = Annotated[str, AfterValidator(_plain_name)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Crc32 = Annotated[int, Field(ge=0, lt=1 << 32)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Shard(_Strict):
    """One tar file: its name beside dataset.json, its size in bytes, its samples and its crc32."""

    name: FileName
    size: Count
    samples: Count
    crc32: Crc32


class Index(_Strict):
    """The index table: its file name beside dataset.json, its size in bytes and its crc32."""

    name: FileName
    size: Count
    crc32: Crc32


class Counts(_Strict):
    """The account of the conversion; found = written + skipped.

    Attributes:
        found: Images that the source held.
        written: Samples of this data set.
        skipped: Images that could not be read, each named in conversion.jsonl.
        reencoded: Written samples whose bytes had to be (or, by max_side or quality, were asked to be) encoded anew.
        retiled: Written samples whose bytes were rewritten without loss with restart tiles.
    """

    found: Count
    written: Count
    skipped: Count
    reencoded: Count
    retiled: Count = 0

    @model_validator(mode="after")
    def _reconcile(self) -> Counts:
        if self.found != self.written + self.skipped or max(self.reencoded, self.retiled) > self.written:
            raise ValueError("expected found = written + skipped, and reencoded and retiled <= written")
        return self


class Manifest(_Strict):
    """The whole of dataset.json.

    Attributes:
        schema_: Type of each field of a sample, ``{"image": "image", "label": "label"}`` ("schema" in the file); see
            fastload.dataset.fields.
        classes: Names in label order; empty where samples have no labels.
        samples: Rows of the index.
        fingerprint: Hex digest of the samples, their order and their bytes.
        extras: Extensions of members beside the image and its label, each with its columns in the index.
        conversion: How the data set was made: source, options and software; for people and for a second run.
    """

    format: Literal["fastload"]
    version: Literal[1]
    schema_: dict[str, str] = Field(alias="schema")
    classes: tuple[str, ...] = Field(strict=False)
    samples: Count
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    index: Index
    shards: tuple[Shard, ...] = Field(strict=False)
    extras: tuple[str, ...] = Field(strict=False)
    counts: Counts
    conversion: dict[str, Any]

    @model_validator(mode="after")
    def _reconcile(self) -> Manifest:
        if sum(shard.samples for shard in self.shards) != self.samples or self.counts.written != self.samples:
            raise ValueError("expected the samples of all shards to add up to the samples of the data set")
        return self


def dump_manifest(manifest: Manifest) -> bytes:
    """The bytes of dataset.json; equal manifests give equal bytes."""
    return (json.dumps(manifest.model_dump(by_alias=True, mode="json"), indent=1, ensure_ascii=True) + "\n").encode()


def read_manifest(folder: str) -> Manifest:
    """Reads and checks ``folder``/dataset.json.

    Raises:
        DataError: It is missing, unreadable, or as for ``parse_manifest``.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    try:
        descriptor, size = open_regular(path)
        with open(descriptor, "rb") as file:
            if size > MOST_BYTES:
                raise DataError("expected less than 256 MiB; this is not a dataset.json of fastload")
            data = file.read(size)  # not one byte more: read allocates what it is asked for
    except (OSError, DataError) as error:
        reason = error.reason if isinstance(error, DataError) else error.strerror
        raise DataError(f"the manifest of the data set cannot be read: {reason}", path=path) from error
    return parse_manifest(data, path)


def parse_manifest(data: bytes, path: str) -> Manifest:
    """Checks the bytes of a dataset.json; ``path`` is for messages.

    Raises:
        DataError: It is of a newer version, or any field is not what it should be.
    """
    _check_version(data, path)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(
            f"expected a dataset.json of fastload, but {place} is wrong ({first['msg']}); "
            "restore the file or convert the data set again",
            path=path,
        ) from error


class _Head(BaseModel):
    format: str
    version: int


def _check_version(data: bytes, path: str) -> None:
    """A newer version is told apart from damage: its other fields may have changed in any way."""
    try:
        head = _Head.model_validate_json(data)
    except ValidationError as error:
        reason = "is empty" if not data.strip() else "is damaged or was not written by fastload"
        raise DataError(
            f"expected a dataset.json of fastload, but the file {reason}; restore it or convert the data set again",
            path=path,
        ) from error
    if head.format == FORMAT and head.version > VERSION:
        raise DataError(
            f"the data set has format version {head.version}, this fastload reads up to {VERSION}; upgrade fastload",
            path=path,
        )
