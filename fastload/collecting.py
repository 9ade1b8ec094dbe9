"""Work that makes millions of objects, done without looking for garbage among them."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Python's search for cycles is off meanwhile.

    Where nearly all objects stay it finds nothing: it took 10 to 20 % of the time of a compilation, and half of that of
    reading COCO's annotations.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
