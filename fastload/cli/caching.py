"""The options of every command that reads data sets behind URLs: where to keep what was fetched."""

from __future__ import annotations

from typing import Annotated, Any

import typer

CacheDir = Annotated[
    str | None,
    typer.Option(help="For a data set behind a URL: folder that keeps what was fetched, shared by processes."),
]
CacheBytes = Annotated[
    str | None, typer.Option(help="What all files there may take: 200GB, a number; else all but 5% of the disk.")
]


def cache_options(cache_dir: str | None, cache_bytes: str | None) -> dict[str, Any]:
    """The same as arguments of open_dataset.

    Raises:
        ConfigError: The size is none.
    """
    from fastload.convert.options import parse_size

    return {"cache_dir": cache_dir, "cache_bytes": None if cache_bytes is None else parse_size(cache_bytes)}
