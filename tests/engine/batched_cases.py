"""Programs with drawn numbers, for tests of what carries them out on whole batches."""

import numpy as np
import pytest
from PIL import Image

from fastload.augment.program import VALUES, Code, Program

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def word(rng):
    return float(rng.integers(0, 2**32))


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
    Code.NOISE: lambda rng: (0.02, rng.uniform(0, 0.3), rng.integers(0, 2), word(rng), word(rng)),
    Code.ERASE: lambda rng: (*rng.integers(-40, 200, 2), *rng.integers(-10, 300, 2), *rng.integers(0, 256, 3)),
    Code.COLOR_MATRIX: lambda rng: tuple(rng.uniform(-1, 1, 12) * np.tile([1, 1, 1, 20], 3)),
}


def program(rows):
    """Of lists of (code, *values), one for each sample."""
    operations = [operation for row in rows for operation in row]
    values = np.zeros((len(operations), VALUES))
    for place, (_, *numbers) in enumerate(operations):
        values[place, : len(numbers)] = numbers
    start = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Program(start=start, code=np.array([code for code, *_ in operations], np.int64), values=values)


def load_photographs(folder, count, size=(224, 224)):
    """Some of them, uint8 (count, *size, 3)."""
    files = sorted(folder.rglob("*.[jJ][pP]*[gG]"))[:: 400 // count][:count]
    assert len(files) == count
    images = []
    for path in files:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").resize(size[::-1])))
    return np.stack(images)
