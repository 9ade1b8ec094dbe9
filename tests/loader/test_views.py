"""Several views of each image through the Loader: each is what a Loader of its own gives, from one read."""

import json
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import fastload as fl
from fastload import transforms as T
from fastload.augment import compile_plan
from fastload.errors import ConfigError, DataError

FIRST = [T.RandomResizedCrop(32), T.RandomHorizontalFlip()]
SECOND = [T.RandomResizedCrop((24, 40), scale=(0.05, 0.3)), T.RandomRotation(30), T.ColorJitter(0.4, 0.4, 0.4, 0.1)]
THIRD = [T.Resize(20), T.CenterCrop(16)]
FLOATS = [T.ToDtype("float32", scale=True), T.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])]


def load(folder, *transforms, **options):
    return fl.Loader(folder, **{"batch_size": 8, "transforms": transforms, "num_workers": 2, "seed": 3, **options})


def single(folder, views, number, *rest):
    """A Loader of one view alone, drawn as in the company of the others."""
    loader = load(folder, *views[number], *rest)
    loader._augment = type(loader._augment)(
        output=loader._augment.output,
        steps=loader._augment.steps,
        first=sum(compile_plan([*view, *rest]).num_random for view in views[:number]),
    )
    return loader


@pytest.mark.parametrize("rest", [[], FLOATS], ids=["uint8", "float32"])
@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_each_view_is_what_a_loader_of_its_own_gives(photos, rest, memory_format):
    views = [FIRST, SECOND, THIRD]
    loader = load(photos, T.MultiView(views), *rest, memory_format=memory_format)
    alone = [single(photos, views, number, *rest) for number in range(3)]
    for batch, *expected in zip(loader, *alone, strict=True):
        images, labels = batch
        assert [tuple(view.shape[1:]) for view in images] == [(3, 32, 32), (3, 24, 40), (3, 16, 16)]
        assert torch.equal(labels, expected[0].labels)
        for view, other in zip(images, expected, strict=True):
            assert torch.equal(batch.ids, other.ids)
            assert torch.equal(view, other.images)
            wanted = torch.contiguous_format if memory_format == "contiguous" else torch.channels_last
            assert view.is_contiguous(memory_format=wanted)
    # 50 images were read, decoded and accounted for once.
    account = loader.stats().epoch
    assert (account.expected, account.read) == (50, 50)
    assert loader.stats().counts["decoder.fastload"] == 50


def test_the_first_view_is_that_of_the_plain_chain(photos):
    for batch, plain in zip(load(photos, T.MultiView([FIRST, FIRST])), load(photos, *FIRST), strict=True):
        assert torch.equal(batch.images[0], plain.images)
        assert not torch.equal(batch.images[1], plain.images)


def test_threads_a_restart_and_ranks_change_nothing(photos):
    def digests(batches):
        return [[zlib.crc32(view.contiguous().numpy().tobytes()) for view in batch.images] for batch in batches]

    views = T.MultiView([FIRST, SECOND])
    whole = load(photos, views, num_workers=1)
    reference = []
    for batch in whole:
        reference += digests([batch])
        if len(reference) == 2:
            state = json.loads(json.dumps(whole.state_dict()))
    assert digests(load(photos, views, num_workers=4, prefetch=3)) == reference
    resumed = load(photos, views)
    resumed.load_state_dict(state)
    assert digests(resumed) == reference[2:]
    halves = [load(photos, views, batch_size=4, rank=rank, world_size=2) for rank in (0, 1)]
    for whole_batch, *parts in zip(load(photos, views), *halves, strict=True):
        for number, view in enumerate(whole_batch.images):
            assert torch.equal(view, torch.cat([part.images[number] for part in parts]))


def test_other_formats_and_damage_are_as_with_one_view(own_photos):
    """What the kernel leaves is made in Python: the same pixels, the same account."""
    victim = own_photos / "bread" / "photo-005.jpg"
    for file in sorted(own_photos.rglob("*.jpg"))[::3]:
        if file != victim:
            Image.open(file).save(file.with_suffix(".png"))
            file.unlink()
    views = [FIRST, SECOND, [T.ColorJitter(0.5), *THIRD], [T.GaussianBlur(5), *THIRD]]
    loader = load(own_photos, T.MultiView(views), batch_size=5)
    alone = [single(own_photos, views, number) for number in range(4)]
    for other in alone:
        other.batch_size = 5
    alone = [load_like(loader, other) for other in alone]
    for batch, *expected in zip(loader, *alone, strict=True):
        assert all(torch.equal(view, other.images) for view, other in zip(batch.images, expected, strict=True))
    victim.write_bytes(b"no image")
    with pytest.raises(DataError):
        list(load(own_photos, T.MultiView(views)))
    loader = load(own_photos, T.MultiView(views), on_error="skip")
    ids = [number for batch in loader for number in batch.ids.tolist()]
    account = loader.stats().epoch
    assert (account.expected, account.read, account.num_skipped, len(ids)) == (20, 19, 1, 20)


def load_like(loader, other):
    """``other`` in batches of the size of ``loader``'s."""
    fresh = fl.Loader(other.dataset, batch_size=loader.batch_size, transforms=other.transforms, num_workers=2, seed=3)
    fresh._augment = other._augment
    return fresh


def test_dinos_crops(photos):
    crops = T.MultiCrop(size=(32, 16), count=(2, 6), transforms=[T.RandomHorizontalFlip()])
    loader = load(photos, crops, *FLOATS, last_batch="pad")
    for batch in loader:
        assert [tuple(view.shape) for view in batch.images] == [(8, 3, 32, 32)] * 2 + [(8, 3, 16, 16)] * 6
        flat = [view[0].flatten()[:768] for view in batch.images]
        assert all(not torch.equal(flat[i], flat[j]) for i in range(8) for j in range(i) if (i < 2) == (j < 2))
    assert loader.stats().counts["decoder.fastload"] == 56
    assert T.from_config(T.to_config([crops])) == (crops,)
    views = T.MultiView([FIRST, T.RandomResizedCrop(8)])
    assert T.from_config(T.to_config([views])) == (views,)


def test_crops_are_distributed_as_their_shares_say():
    plan = compile_plan([T.MultiCrop(size=(32, 16), count=(2, 2), scale=((0.4, 1.0), (0.05, 0.4)))])
    draws = plan.draw(seed=1, epoch=0, ids=np.arange(20_000), sizes=np.full((20_000, 2), 1000, np.int32))
    assert draws.ids.tolist()[:8] == [0, 0, 0, 0, 1, 1, 1, 1]
    shares = (draws.box[:, 2] * draws.box[:, 3] / 1e6).reshape(-1, 4)
    assert shares[:, :2].min() > 0.38
    assert shares[:, 2:].max() < 0.42
    assert abs(np.corrcoef(shares.T) - np.eye(4)).max() < 0.03


def test_a_batch_moves_with_all_its_views(photos):
    batch = next(iter(load(photos, T.MultiView([FIRST, THIRD])))).to("meta")
    assert [view.device.type for view in batch.images] == ["meta", "meta"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_views_of_the_cpu(photos):
    views = T.MultiView([FIRST, SECOND, THIRD])
    for ours, theirs in zip(load(photos, views, *FLOATS), load(photos, views, *FLOATS, device="cuda"), strict=True):
        assert all(torch.equal(view, other.cpu()) for view, other in zip(ours.images, theirs.images, strict=True))


@pytest.mark.parametrize(
    ("transforms", "options", "message"),
    [
        ([T.RandomHorizontalFlip(), T.MultiView([FIRST])], {}, "must be the first"),
        ([T.MultiView([FIRST, [T.RandomApply([T.MultiView([THIRD])])]])], {}, "must be the first"),
        ([T.MultiView([FIRST, [*THIRD, T.ToDtype("float32")]])], {}, "one type"),
        ([T.MultiView([FIRST, [T.RandomHorizontalFlip()]])], {}, "one size"),
        ([T.MultiView([FIRST, THIRD]), T.CutMix()], {}, "without MixUp"),
    ],
)
def test_a_wrong_chain_is_one_clear_error(photos, transforms, options, message):
    with pytest.raises(ConfigError, match=message):
        load(photos, *transforms, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"size": (8,), "count": (1, 2)},
        {"size": (8,), "scale": ((0.1, 1.0),), "count": (0,)},
        {"count": (60, 8)},
        {"size": 8},
    ],
)
def test_wrong_crops_are_one_clear_error(options):
    with pytest.raises(ConfigError, match="MultiCrop"):
        T.MultiCrop(**options)
