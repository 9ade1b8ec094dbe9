"""Bytes from elsewhere: URLs, ranges, patience with servers, and the folder that keeps what was fetched."""

from __future__ import annotations

from fastload.remote.origin import Patience
from fastload.remote.urls import is_url, join, local_path, shown, without_query

__all__ = ["Patience", "is_url", "join", "local_path", "shown", "without_query"]
