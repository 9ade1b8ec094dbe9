"""What decoding costs on this machine: a few of the images, whole and as far as a crop needs them, in one thread."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastload.augment import AugmentPlan, Draws
from fastload.dataset import Dataset
from fastload.engine.cpu.decode import decode
from fastload.engine.cpu.kernels.layout import PARAMETERS
from fastload.engine.cpu.region import find_regions
from fastload.engine.cpu.workspace import Workspace
from fastload.errors import DataError
from fastload.inspect.examine import read_image
from fastload.inspect.report import DecodeCost
from fastload.jpeg.decoder import warm_up

# Enough for a mean within some 5 %; photographs of many megapixels end the measurement earlier.
_MOST_IMAGES: Final = 64
_MOST_SECONDS: Final = 3.0


def measure_decoding(
    dataset: Dataset, ids: NDArray[np.int64], plan: AugmentPlan, *, seed: int, name: str
) -> DecodeCost | None:
    """Decodes up to 64 of samples ``ids`` (or 3 seconds' worth) and counts this thread's processor time.

    Args:
        dataset: Where they lie.
        ids: int64 (n,).
        plan: Whose crops of epoch 0 are decoded beside the whole images.
        seed: Of the crops.
        name: What the transforms are called in the result.

    Returns:
        None where no image has to be decoded: bare pixels, or none that can be read.
    """
    ids = ids[~dataset.is_raw(ids)] if len(ids) else ids
    ids = np.random.default_rng(seed).permutation(ids)[:_MOST_IMAGES]
    if not len(ids):
        return None
    warm_up()
    sizes = dataset.sizes(ids)
    draws = plan.draw(seed=seed, epoch=0, ids=ids, sizes=sizes)
    regions = _regions(draws, plan)
    workspace = Workspace(plan.output)
    whole = crop = 0.0
    num_bytes = num_pixels = images = 0
    shares, decoders = [], Counter[str]()
    for place, number in enumerate(ids.tolist()):
        height, width = sizes[place].tolist()
        if not height * width:
            continue
        try:
            data = read_image(dataset, number)
            index = dataset.seek_index(number)
            workspace.reserve_encoded(data.size)[: data.size] = data
            decode(data.size, index, regions[place].tolist(), workspace)  # pages and tables are in the caches then
            begin = time.thread_time()
            decode(data.size, index, [0, 0, height, width], workspace)
            middle = time.thread_time()
            decoders[decode(data.size, index, regions[place].tolist(), workspace).decoder] += 1
            end = time.thread_time()
        except DataError:
            continue
        whole += middle - begin
        crop += end - middle
        images += 1
        num_bytes += data.size
        num_pixels += height * width
        shares.append(regions[place, 2] * regions[place, 3] / (height * width))
        if whole + crop > _MOST_SECONDS:
            break
    if not images:
        return None
    return DecodeCost(
        images=images,
        whole_ms=1e3 * whole / images,
        crop_ms=1e3 * crop / images,
        crop_share=float(np.mean(shares)),
        transforms=name,
        decoders=dict(decoders.most_common()),
        ns_per_byte=1e9 * whole / num_bytes,
        ns_per_pixel=1e9 * whole / num_pixels,
    )


def _regions(draws: Draws, plan: AugmentPlan) -> NDArray[np.int64]:
    """Top, left, height and width of the source pixels that each output needs, as the CPU engine has them."""
    parameters = np.zeros((len(draws.ids), PARAMETERS), np.float64)
    parameters[:, :4], parameters[:, 4:6], parameters[:, 6:8] = draws.box, draws.grid, draws.window[:, :2]
    return find_regions(parameters, plan.output, draws.window[:, 2:])
