"""MixUp, CutMix and repeated augmentation through the Loader, against torchvision's with the same weights and boxes."""

import json

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import fastload as fl
from fastload import transforms as T
from fastload.augment.mixing import BatchKey, draw_mixes
from fastload.errors import ConfigError, DataError
from fastload.loader.mixing import _mix_at_once, mix_images

CHAIN = [T.RandomResizedCrop(24), T.RandomHorizontalFlip(), T.ToDtype("float32", scale=True)]


def load(folder, *more, **options):
    return fl.Loader(folder, **{"batch_size": 8, "transforms": [*CHAIN, *more], "num_workers": 2, "seed": 3, **options})


def as_torchvision(step, images, labels, mix, row=slice(None)):
    """torchvision's result with the parameters of ``mix``, and its rows ``row``."""
    reference = (v2.MixUp if isinstance(step, T.MixUp) else v2.CutMix)(num_classes=4)
    number = row.start or 0 if len(mix.own) > 1 else 0
    lam = float(mix.own[number])
    params = {"labels": labels, "batch_size": len(labels), "lam": lam, "lam_adjusted": lam}
    if mix.boxes is not None:
        top, left, height, width = mix.boxes[number].tolist()
        params["box"] = (left, top, left + width, top + height)
    return reference.transform(images, params)[row], reference.transform(labels, params)[row]


@pytest.mark.parametrize("step", [T.MixUp(alpha=0.4), T.CutMix()], ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_batch_is_torchvisions(photos, step, per_sample):
    step = type(step)(alpha=step.alpha, per_sample=per_sample)
    mixed = load(photos, step, last_batch="pad")
    for number, (plain, batch) in enumerate(zip(load(photos, last_batch="pad"), mixed, strict=True)):
        rows = int(plain.valid.sum())
        key = BatchKey(seed=3, epoch=0, number=number, ids=plain.ids.numpy()[:rows], size=(24, 24))
        (mix,) = draw_mixes([step], key)
        images, labels = plain.images[:rows].contiguous(), plain.labels[:rows]
        for row in range(rows):
            expected, weights = as_torchvision(step, images, labels, mix, slice(row, row + 1))
            # torchvision rounds the products, lerp the difference: a unit of float32 here or there.
            np.testing.assert_allclose(batch.images[row : row + 1], expected, atol=2e-7, rtol=0)
            np.testing.assert_allclose(batch.labels[row : row + 1], weights, atol=1e-7, rtol=0)
        # Padding is mixed with nothing, and has its own label.
        assert torch.equal(batch.images[rows:], plain.images[rows:])
        assert torch.equal(batch.labels[rows:], torch.nn.functional.one_hot(plain.labels[rows:], 4).float())
        assert torch.equal(batch.ids, plain.ids)
        assert batch.labels.dtype == torch.float32
    account = mixed.stats().epoch
    assert (account.expected, account.read, account.num_skipped) == (50, 50, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_device_mixes_as_a_slot_is_mixed(dtype, per_sample):
    torch.manual_seed(0)
    images = (torch.rand(7, 3, 20, 30) * 255).to(dtype).contiguous(memory_format=torch.channels_last)
    key = BatchKey(seed=3, epoch=0, number=2, ids=np.arange(7), size=(20, 30))
    steps = [T.CutMix(per_sample=per_sample)] if dtype == torch.uint8 else [T.MixUp(), T.CutMix(per_sample=per_sample)]
    for mix in draw_mixes(steps, key):
        here, there = images.clone(), images.clone()
        mix_images(here, mix)
        _mix_at_once(there, mix)
        tolerance = {torch.float32: 4e-5, torch.bfloat16: 1.0, torch.uint8: 0}[dtype]
        torch.testing.assert_close(here, there, atol=tolerance, rtol=0)
        assert not torch.equal(here, images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_gpu_mixes_as_the_cpu(photos, per_sample):
    steps = [T.MixUp(per_sample=per_sample), T.CutMix(per_sample=per_sample)]
    for ours, theirs in zip(load(photos, *steps), load(photos, *steps, device="cuda", engine="cpu"), strict=True):
        assert theirs.images.is_cuda
        torch.testing.assert_close(theirs.images.cpu(), ours.images, atol=1e-6, rtol=0)
        torch.testing.assert_close(theirs.labels.cpu(), ours.labels, atol=1e-6, rtol=0)


def test_threads_and_a_restart_change_nothing(photos):
    def epoch(state=None, **options):
        loader = load(photos, T.MixUp(), T.CutMix(per_sample=True), **options)
        if state is not None:
            loader.load_state_dict(state)
        return loader

    first = epoch(num_workers=1)
    reference = []
    for batch in first:
        reference.append(batch)
        if len(reference) == 3:
            state = json.loads(json.dumps(first.state_dict()))
    for batch, expected in zip(epoch(num_workers=3, prefetch=4), reference, strict=True):
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.labels, expected.labels)
    for batch, expected in zip(epoch(state), reference[3:], strict=True):
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.labels, expected.labels)


def test_a_weight_is_the_same_on_all_ranks(photos):
    shares = [load(photos, T.MixUp(alpha=0.3), batch_size=4, rank=rank, world_size=2) for rank in (0, 1)]
    for ours, theirs in zip(*shares, strict=True):
        first, second = (set(batch.labels.flatten().tolist()) - {0.0, 1.0} for batch in (ours, theirs))
        assert not first or not second or first == second


def test_a_batch_of_one_and_a_batch_of_none(photos):
    whole = [batch for batch in load(photos, T.MixUp(), batch_size=49, shuffle=False)]
    (plain,) = list(load(photos, batch_size=1, shuffle=False, rank=0, world_size=1))[49:]
    assert len(whole[1]) == 1
    torch.testing.assert_close(whole[1].images, plain.images, atol=1e-6, rtol=0)
    empty = list(load(photos, T.CutMix(), batch_size=7, rank=0, world_size=7))[-1]
    assert (len(empty), empty.labels.shape) == (0, (0, 4))


def test_labels_must_fit(photos, tmp_path):
    assert next(iter(load(photos, T.MixUp(num_classes=9)))).labels.shape == (8, 9)
    with pytest.raises(ConfigError, match="label 3"):
        load(photos, T.MixUp(num_classes=3))
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, photo in enumerate(sorted(photos.rglob("*.jpg"))[:4]):
        (flat / f"{number}.jpg").write_bytes(photo.read_bytes())
    with pytest.raises(DataError, match="need a label for every sample"):
        load(flat, T.CutMix(), batch_size=2)


def test_a_damaged_sample_is_replaced_before_it_is_mixed(own_photos):
    (own_photos / "bread" / "photo-005.jpg").write_bytes(b"nothing")
    loader = load(own_photos, T.MixUp(), on_error="skip", batch_size=5)
    batches = list(loader)
    account = loader.stats().epoch
    assert (account.expected, account.read, account.num_skipped) == (20, 19, 1)
    torch.testing.assert_close(torch.cat([batch.labels for batch in batches]).sum(1), torch.ones(20))


# Repeated augmentation.


@pytest.mark.parametrize("shuffle", [True, "local"])
def test_samples_come_several_times_in_a_row_and_look_different(photos, shuffle):
    loader = load(photos, repeats=3, shuffle=shuffle, last_batch="keep")
    batches = list(loader)
    ids = torch.cat([batch.ids for batch in batches])
    images = torch.cat([batch.images for batch in batches])
    assert ids[:48].reshape(16, 3).eq(ids[:48:3][:, None]).all()
    assert len(ids[::3].unique()) == 17  # 50 images: 16 samples three times, and one twice
    assert all(not torch.equal(images[row], images[row + 1]) for row in range(49))
    account = loader.stats().epoch
    assert (account.expected, account.read, account.complete) == (50, 50, True)
    # Every sample comes in some epoch.
    seen = set(ids.tolist())
    for _ in range(20):
        seen |= {number for batch in loader for number in batch.ids.tolist()}
    assert len(seen) == 50


def test_repeats_resume_exactly_on_another_number_of_ranks(photos):
    def read(state=None, *, batches, world=1):
        loaders = [
            load(photos, repeats=3, batch_size=8 // world, rank=rank, world_size=world, last_batch="drop")
            for rank in range(world)
        ]
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
        parts = [iter(loader) for loader in loaders]
        seen = [torch.cat([next(part).images for part in parts]) for _ in range(batches)]
        return seen, json.loads(json.dumps(loaders[0].state_dict()))

    reference, _ = read(batches=6)
    first, state = read(batches=2, world=4)
    second, state = read(state, batches=3, world=2)
    third, _ = read(state, batches=1)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first + second + third, reference, strict=True))
    assert state["repeats"] == 3
    with pytest.raises(ConfigError, match="repeats"):
        load(photos, batch_size=8, last_batch="drop").load_state_dict(state)
    del state["repeats"]  # as older versions wrote it
    with pytest.raises(ConfigError, match="repeats=1"):
        load(photos, repeats=3, batch_size=8, last_batch="drop").load_state_dict(state)


def test_each_repeat_of_a_damaged_sample_has_a_substitute(own_photos):
    (own_photos / "bread" / "photo-005.jpg").write_bytes(b"nothing")
    loader = load(own_photos, repeats=2, on_error="skip", batch_size=5)
    for _ in range(8):
        batches = list(loader)
        account = loader.stats().epoch
        assert (account.expected, account.read + account.num_skipped) == (20, 20)
        if account.num_skipped:
            break
    rows = [entry.replacement_id for entry in account.skipped]
    images = {number: [] for number in rows}
    for batch in batches:
        for number, image in zip(batch.ids.tolist(), batch.images, strict=True):
            if number in images:
                images[number].append(image)
    assert len(rows) == 2
    assert not torch.equal(*images[rows[0]][:2])


def test_repeats_need_a_shuffled_order(photos):
    with pytest.raises(ConfigError, match="shuffle"):
        load(photos, repeats=2, shuffle=False)
    with pytest.raises(ConfigError, match="repeats"):
        load(photos, repeats=0)
