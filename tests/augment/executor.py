"""Operations of a program, carried out by torchvision's own functions: what an engine is compared with."""

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional._geometry import _affine_grid, _apply_grid_transform

from fastload.augment import compile_plan
from fastload.augment.program import Code


def draw(chain, count, *, size=(64, 64), seed=7, epoch=0, ids=None):
    """Draws of ``count`` samples of one size."""
    ids = np.arange(count) if ids is None else np.asarray(ids)
    sizes = np.broadcast_to(np.array(size, np.int32), (len(ids), 2))
    return compile_plan(chain).draw(seed=seed, epoch=epoch, ids=ids, sizes=sizes)


def operations(program, sample):
    """Codes and values of one sample, a list of pairs."""
    if program is None:
        return []
    rows = range(program.start[sample], program.start[sample + 1])
    return [(Code(program.code[row]), program.values[row]) for row in rows]


def execute(image, steps):
    """An image (uint8, 3 x H x W) after operations, each done by torchvision."""
    kept, added = image, []
    for code, values in steps:
        if code == Code.SAVE:
            kept, added = image, []
        elif code == Code.RESTORE:
            image = kept
        elif code == Code.ADD:
            added.append(torch.tensor(values[0], dtype=torch.float32) * image)
        elif code == Code.MIXED:
            total = torch.tensor(values[0], dtype=torch.float32) * kept
            for part in added:
                total.add_(part)
            image = total.to(torch.uint8)
        else:
            image = _ONE[code](image, values)
    return image


def _warp(image, v):
    """The map as torchvision has it: from the middle, in float32, sampled by grid_sample."""
    (height, width), matrix = image.shape[-2:], v[4:13].reshape(3, 3)
    assert np.allclose(matrix[2], [0, 0, 1])
    middle = np.array([width / 2, height / 2])
    offset = matrix[:2, 2] - middle + matrix[:2, :2] @ middle
    # What torchvision reckons to be 0 is 0.
    theta = torch.tensor(
        np.column_stack((matrix[:2, :2], np.where(abs(offset) < 1e-9, 0, offset))), dtype=torch.float32
    )
    grid = _affine_grid(theta[None], w=width, h=height, ow=width, oh=height)
    fill = None if v[2] < 0 else v[1:4].tolist()
    return _apply_grid_transform(image, grid, "bilinear" if v[0] else "nearest", fill=fill)


_ONE = {
    Code.BRIGHTNESS: lambda image, v: F.adjust_brightness(image, float(v[0])),
    Code.CONTRAST: lambda image, v: F.adjust_contrast(image, float(v[0])),
    Code.SATURATION: lambda image, v: F.adjust_saturation(image, float(v[0])),
    Code.HUE: lambda image, v: F.adjust_hue(image, float(v[0])),
    Code.GRAYSCALE: lambda image, v: F.rgb_to_grayscale(image, 3),
    Code.INVERT: lambda image, v: F.invert(image),
    Code.POSTERIZE: lambda image, v: F.posterize(image, int(v[0])),
    Code.SOLARIZE: lambda image, v: F.solarize(image, float(v[0])),
    Code.AUTOCONTRAST: lambda image, v: F.autocontrast(image),
    Code.EQUALIZE: lambda image, v: F.equalize(image),
    Code.SHARPNESS: lambda image, v: F.adjust_sharpness(image, float(v[0])),
    Code.BLUR: lambda image, v: F.gaussian_blur(image, [int(v[0]), int(v[1])], [float(v[2]), float(v[3])]),
    Code.JPEG: lambda image, v: F.jpeg(image, int(v[0])),
    Code.ERASE: lambda image, v: F.erase(image, *map(int, v[:4]), torch.tensor(v[4:7])[:, None, None]),
    Code.WARP: _warp,
    Code.PERMUTE: lambda image, v: F.permute_channels(image, [int(channel) for channel in v[:3]]),
}


def picture(height=64, width=64, seed=0):
    """An image with smooth parts, edges and noise, uint8 3 x H x W."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + c) + np.cos(y / (7 + c)) for c in range(3)]
    levels = 128 + 50 * np.stack(waves) + rng.normal(0, 8, (3, height, width))
    levels[:, height // 4 : height // 2, width // 4 : width // 2] *= 0.3
    return torch.from_numpy(levels.clip(0, 255).astype(np.uint8))
