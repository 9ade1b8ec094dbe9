"""From a source of images to a data set of tar shards: plan, transcode, write, account for."""

from __future__ import annotations

from fastload.convert.options import Options, parse_size
from fastload.convert.run import convert
from fastload.convert.summary import ConvertSummary

__all__ = ["ConvertSummary", "Options", "convert", "parse_size"]
