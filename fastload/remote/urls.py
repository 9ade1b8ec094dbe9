"""What a URL is, as against a path: recognised, joined with a file's name, and shown without its secrets."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

# Two letters at least: C:// is a drive. fsspec chains file systems with "::" (simplecache::s3://bucket/train).
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+)(::[A-Za-z0-9+.\-]+)*://")
_LOCAL: Final = ("file", "local")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether this is a URL of somewhere else; ``file://`` is not, see ``local_path``."""
    text = os.fspath(path)
    return isinstance(text, str) and _URL.match(text) is not None and scheme_of(text) not in _LOCAL


def local_path(path: str | os.PathLike[str]) -> str:
    """The path that a ``file://`` URL means; any other as it is."""
    text = os.fspath(path)
    if _URL.match(text) is not None and scheme_of(text) in _LOCAL:
        return text.partition("://")[2]
    return text


def scheme_of(url: str) -> str:
    """``https`` of ``https://host/train``; of a chain its first part."""
    return url.partition("://")[0].partition("::")[0].lower()


def join(url: str, name: str) -> str:
    """The URL of a file in a folder. Of http(s) the query stays behind it: it may be what opens the door."""
    if scheme_of(url) not in ("http", "https"):
        return f"{url.rstrip('/')}/{name}"
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quote(name)}", parts.query, ""))


def without_query(url: str) -> str:
    """The URL up to its question mark, which of http(s) alone begins a query."""
    return url.partition("?")[0] if scheme_of(url) in ("http", "https") else url


def shown(url: str) -> str:
    """A URL for messages and reports: without user, password and query."""
    if not is_url(url):
        return url
    head, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return without_query(f"{head}://{host.rpartition('@')[2]}{slash}{path}")
