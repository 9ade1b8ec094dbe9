"""From a source of images to a data set of tar shards: plan, transcode, write, account for."""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

from fastload.convert.options import Options, parse_size
from fastload.convert.run import convert
from fastload.convert.summary import ConvertSummary

__all__ = ["ConvertSummary", "Options", "convert", "parse_size"]


class _CallableModule(types.ModuleType):
    """``fastload.convert`` is this package and, to users, the function of that name.

    Python binds a package to its name in the parent as soon as anybody imports it; ``fastload.convert(...)`` must work
    before and after.
    """

    __signature__ = inspect.signature(convert)

    def __call__(self, *args: Any, **kwargs: Any) -> ConvertSummary:
        return convert(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
