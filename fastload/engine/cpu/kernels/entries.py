"""Places of the kernels in a table of addresses: one kernel calls another by it, and is compiled without it."""

from __future__ import annotations

from typing import Final

ENTRY_DECODE: Final = 0
ENTRY_RESAMPLE: Final = 1
# Only where a request asks for more than one resampling.
ENTRY_AUGMENT: Final = 2
ENTRY_OPERATIONS: Final = 3
ENTRY_WARP: Final = 4
ENTRY_JPEG: Final = 5
