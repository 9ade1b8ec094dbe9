"""Programs with drawn numbers, for tests of what carries them out on whole batches."""

import numpy as np
import pytest
from PIL import Image

from fastload.augment.program import Code

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def word(rng):
    return float(rng.integers(0, 2**32))


def some_map(rng):
    """A rotation that leaves some of the image, and sometimes a perspective."""
    angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.4)
    across, down = scale * np.cos(angle), scale * np.sin(angle)
    middle = 112 - 112 * across
    depth = rng.uniform(-2e-3, 2e-3, 2) * rng.integers(0, 2)
    return across, -down, middle + 112 * down, down, across, middle - 112 * down, *depth, 1


FILLS = [(10, 200, 30), (0, -1, -1)]
# Numbers of each operation, drawn.
DRAWN = {
    Code.BRIGHTNESS: lambda rng: (rng.uniform(0, 2),),
    Code.CONTRAST: lambda rng: (rng.uniform(0, 2),),
    Code.SATURATION: lambda rng: (rng.uniform(0, 2),),
    Code.HUE: lambda rng: (rng.uniform(-0.5, 0.5),),
    Code.GRAYSCALE: lambda rng: (),
    Code.INVERT: lambda rng: (),
    Code.POSTERIZE: lambda rng: (rng.integers(0, 9),),
    Code.SOLARIZE: lambda rng: (rng.uniform(0, 256),),
    Code.AUTOCONTRAST: lambda rng: (),
    Code.EQUALIZE: lambda rng: (),
    Code.GAMMA: lambda rng: (rng.uniform(0, 3), rng.choice([1.0, 1.3])),
    Code.PERMUTE: lambda rng: tuple(rng.permutation(3)),
    Code.SHARPNESS: lambda rng: (rng.uniform(0, 2),),
    Code.BLUR: lambda rng: (*(2 * rng.integers(0, 12, 2) + 1), *rng.uniform(0.1, 2.0, 2)),
    Code.NOISE: lambda rng: (0.02, rng.uniform(0, 0.3), rng.integers(0, 2), word(rng), word(rng)),
    Code.JPEG: lambda rng: (rng.integers(1, 101),),
    Code.WARP: lambda rng: (rng.integers(0, 2), *FILLS[rng.integers(0, 2)], *some_map(rng)),
    Code.ELASTIC: lambda rng: (rng.integers(0, 2), 10, 200, 30, 50, 70, *rng.choice([0, 4.0, 5.0], 2), word(rng), 12),
    Code.ERASE: lambda rng: (*rng.integers(-40, 200, 2), *rng.integers(-10, 300, 2), *rng.integers(0, 256, 3)),
    Code.COLOR_MATRIX: lambda rng: tuple(rng.uniform(-1, 1, 12) * np.tile([1, 1, 1, 20], 3)),
    Code.FRAME: lambda rng: (*rng.integers(-40, 200, 2), *rng.integers(-10, 300, 2), rng.integers(1, 4)),
}
# Those whose result the CPU engine has in other arithmetic.
NEARLY = {Code.BLUR, Code.WARP, Code.ELASTIC}


def load_photographs(folder, count, size=(224, 224)):
    """Some of them, uint8 (count, *size, 3)."""
    files = sorted(folder.rglob("*.[jJ][pP]*[gG]"))[:: 400 // count][:count]
    assert len(files) == count
    images = []
    for path in files:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").resize(size[::-1])))
    return np.stack(images)
