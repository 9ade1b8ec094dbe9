"""fastload feeds image training at the speed of the accelerator; this module holds the public names, loaded lazily."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastload import transforms as transforms
    from fastload.batch import Batch as Batch
    from fastload.convert import convert as convert
    from fastload.dataset import open_dataset as open_dataset
    from fastload.errors import ConfigError as ConfigError
    from fastload.errors import DataError as DataError
    from fastload.errors import FastloadError as FastloadError
    from fastload.errors import MissingExtraError as MissingExtraError
    from fastload.loader import Loader as Loader
    from fastload.loader import Targets as Targets

__version__ = "0.1.0"

# Public name -> module that owns it. `import fastload` loads none of them (PEP 562): it must stay under 150 ms and
# must not pull in torch or numba.
_OWNERS = {
    "Batch": "fastload.batch",
    "ConfigError": "fastload.errors",
    "DataError": "fastload.errors",
    "FastloadError": "fastload.errors",
    "Loader": "fastload.loader",
    "Targets": "fastload.loader",
    "MissingExtraError": "fastload.errors",
    "convert": "fastload.convert",
    "open_dataset": "fastload.dataset",
    "transforms": "fastload.transforms",
}

__all__ = ["__version__", *sorted(_OWNERS)]


def __getattr__(name: str) -> Any:
    owner = _OWNERS.get(name)
    if owner is None:
        raise AttributeError(f"module 'fastload' has no attribute {name!r}")
    module = importlib.import_module(owner)
    # A package stays bound to its own name: fastload.convert is a package that can be called.
    value = module if owner == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
