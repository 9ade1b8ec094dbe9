"""Pictures of every kind that the decoder takes."""

import io

import numpy as np
import simplejpeg
from PIL import Image

# What Pillow calls them; it has no 4:4:0, which simplejpeg writes.
SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
SAMPLINGS = ("grey", "4:4:4", "4:2:2", "4:2:0", "4:4:0")


def picture(width: int, height: int, *, seed: int = 0, noise: float = 20.0) -> np.ndarray:
    """Smooth colours with edges and noise, so that every table entry and both ends of a block occur."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = np.stack([128 + 100 * np.sin(x / (7 + 5 * c) + c) * np.cos(y / (9 + 3 * c)) for c in range(3)], -1)
    base += rng.normal(0, noise, base.shape)
    base[(x // 23 + y // 17) % 5 == 0] += 60
    return np.clip(base, 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, sampling: str = "4:4:4", **options) -> bytes:
    """A JPEG of the pixels; ``sampling`` is one of SAMPLINGS."""
    if sampling == "4:4:0":
        return simplejpeg.encode_jpeg(pixels, options.get("quality", 85), colorsubsampling="440")
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if sampling == "grey":
        image = image.convert("L")
    else:
        options["subsampling"] = SUBSAMPLING[sampling]
    image.save(buffer, "JPEG", **{"quality": 85, **options})
    return buffer.getvalue()
