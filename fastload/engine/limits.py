"""The largest images that engines take: what is larger is damaged, or meant to exhaust the memory."""

from __future__ import annotations

from typing import Final

# The longest side of an image. A JPEG cannot be larger; it bounds every table of the kernels.
MAX_SIDE: Final = 65_535
# The most pixels of one image (268 MB of RGB), Pillow's own limit. More is a decompression bomb.
MAX_PIXELS: Final = 89_478_485
# The largest image file. MAX_PIXELS of 8-byte pixels, stored without compression, fit.
MAX_FILE_BYTES: Final = 1 << 30
