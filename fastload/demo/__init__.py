"""The demo: a data set drawn on the spot, converted, and learnt through the Loader."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastload.demo.render import RenderedData as RenderedData
    from fastload.demo.render import render_data as render_data
    from fastload.demo.report import DemoReport as DemoReport
    from fastload.demo.report import Feed as Feed
    from fastload.demo.run import run_demo as run_demo

# Public name -> module that owns it, loaded lazily: drawing pictures needs no torch, whose import takes seconds.
_OWNERS = {
    "DemoReport": "fastload.demo.report",
    "Feed": "fastload.demo.report",
    "RenderedData": "fastload.demo.render",
    "render_data": "fastload.demo.render",
    "run_demo": "fastload.demo.run",
}

__all__ = sorted(_OWNERS)


def __getattr__(name: str) -> Any:
    if name not in _OWNERS:
        raise AttributeError(f"module 'fastload.demo' has no attribute {name!r}")
    return getattr(importlib.import_module(_OWNERS[name]), name)
