"""What real plans draw, carried out on whole batches as torch tensors, against the CPU engine's images."""

import numpy as np
import pytest
import torch

from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.augment.program import Code
from fastload.engine.batched import finish
from tests.engine.batched_cases import DEVICES, NEARLY, load_photographs
from tests.engine.test_batched_store import by_the_cpu_engine, stacked

COUNT, SIDE = 40, 160
NORMALIZED = [T.ToDtype("float32", scale=True), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
CHAINS = {
    "jitter": [T.ColorJitter(0.4, 0.4, 0.4, 0.1), T.RandomGrayscale(0.2), T.RandomSolarize(99, 0.5)],
    "randaugment": [T.RandAugment(3, 12), *NORMALIZED, T.RandomErasing(0.5, value="random")],
    "trivial": [T.TrivialAugmentWide(fill=(1, 2, 3)), *NORMALIZED, T.RandomErasing(0.5)],
    "autoaugment": [T.AutoAugment()],
    "augmix": [T.AugMix()],
    "bilinear": [T.RandAugment(2, 9, interpolation="bilinear", fill=128)],
    "simclr": [T.RandomApply([T.GaussianBlur(23, (0.1, 2.0))], 0.5), T.RandomPhotometricDistort()],
    "maps": [T.RandomRotation(90, interpolation="bilinear"), T.RandomPerspective(0.6, 0.9), T.RandomHorizontalFlip()],
    "filters": [T.ElasticTransform(30.0), T.GaussianNoise(), T.RandomAdjustSharpness(2.0), T.JPEG((10, 90))],
}


@pytest.fixture(scope="module")
def photographs(imagenet_sample):
    return list(load_photographs(imagenet_sample, COUNT, (SIDE + 20, SIDE + 7)))


def windows(images, draws):
    """What the resampling leaves, where it only cuts, pads and mirrors."""
    made = []
    for row, image in enumerate(images):
        box, (top, left, height, width) = draws.box[row], draws.window[row].astype(int)
        assert (box == np.rint(box)).all()
        assert (box[2:] == draws.grid[row]).all()
        y, x = box[:2].astype(int)
        grid = image[y : y + draws.grid[row, 0], x : x + draws.grid[row, 1]]
        window = np.zeros((height, width, 3), np.uint8)
        if draws.pad is not None:
            window[:] = draws.pad[row]
        y0, x0 = max(top, 0), max(left, 0)
        part = grid[y0 : top + height, x0 : left + width]
        window[y0 - top :, x0 - left :][: part.shape[0], : part.shape[1]] = part
        window = window[:, ::-1] if draws.flip[row] else window
        made.append(window[::-1] if draws.flip_vertical is not None and draws.flip_vertical[row] else window)
    return made


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CHAINS)
def test_plans_come_out_as_the_cpu_engine_s(photographs, name, device):
    plan = compile_plan([T.CenterCrop(SIDE), *CHAINS[name]])
    sizes = np.array([image.shape[:2] for image in photographs], np.int32)
    drawn = plan.draw(seed=3, epoch=0, ids=np.arange(COUNT), sizes=sizes)
    assert drawn.before is None
    made = finish(stacked(windows(photographs, drawn), device), drawn, plan.output).cpu()
    theirs = by_the_cpu_engine(photographs, drawn, plan.output)
    assert made.dtype == theirs.dtype
    # Samples without a map or a blur, behind which a level makes a difference, are equal in each value.
    exact = np.ones(COUNT, bool) if drawn.warp is None else ~drawn.warp.active
    if drawn.after is not None:
        samples = np.repeat(np.arange(COUNT), np.diff(drawn.after.start))
        exact[samples[np.isin(drawn.after.code, list(NEARLY))]] = False
    same = (made == theirs).flatten(1).float().mean(1).numpy()
    assert (same[exact] == 1.0).all()
    assert exact.any() or name in ("maps", "filters", "augmix")
    assert same.mean() > 0.9
    if plan.output.dtype == "uint8" and drawn.after is None:
        # But where the middle of a pixel lies on the edge of an image between: 3 of a million did.
        assert ((made.int() - theirs.int()).abs() > 1).float().mean() < 1e-5
    assert drawn.after is None or len(set(drawn.after.code.tolist()) & set(Code)) > 2


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in CHAINS if name != "filters"])  # which have JPEG
def test_a_gpu_is_never_waited_for(photographs, name):
    plan = compile_plan([T.CenterCrop(SIDE), *CHAINS[name]])
    sizes = np.array([image.shape[:2] for image in photographs], np.int32)
    drawn = plan.draw(seed=3, epoch=0, ids=np.arange(COUNT), sizes=sizes)
    levels = stacked(windows(photographs, drawn), "cuda")
    finish(levels, drawn, plan.output)  # memory is pinned here for the first time
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        finish(levels, drawn, plan.output)
    finally:
        torch.cuda.set_sync_debug_mode("default")
