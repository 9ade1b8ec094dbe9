"""Targets through the Loader: what is marked in images arrives with them, mapped, complete, and in both forms."""

import dataclasses
import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

import fastload as fl
from fastload import transforms as T
from fastload.errors import ConfigError, DataError
from tests.engine.helpers import eventually

CHAIN = [T.RandomResizedCrop(48, scale=(0.3, 1)), T.RandomHorizontalFlip()]
COUNT = 24


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """COCO's files for pictures of bright rectangles, which convert makes shards of: boxes, keypoints and masks."""
    folder, shards = tmp_path_factory.mktemp("marked"), tmp_path_factory.mktemp("shards") / "marked"
    chance = np.random.default_rng(3)
    images, annotations = [], []
    for number in range(COUNT):
        width, height = chance.integers(50, 120, 2).tolist()
        picture = Image.new("RGB", (width, height))
        for _ in range(number % 4):
            left, right = np.sort(chance.choice(width, 2, replace=False)).tolist()
            top, bottom = np.sort(chance.choice(height, 2, replace=False)).tolist()
            ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), fill=(255, 255, 255))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1 + len(annotations) % 2,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": int(len(annotations) % 5 == 0),
                    "keypoints": [left, top, 2, right - 1, top, 1, 0, 0, 0],
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                }
            )
        picture.save(folder / f"{number:02}.jpg", quality=95, subsampling=0)
        images.append({"id": number, "file_name": f"{number:02}.jpg", "width": width, "height": height})
    categories = [{"id": 1, "name": "cat", "keypoints": ["a", "b", "c"]}, {"id": 2, "name": "dog"}]
    tables = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(tables))
    fl.convert(folder / "instances.json", shards, images=folder, masks=True)
    return shards


def load(path, **options):
    defaults = {"batch_size": 5, "transforms": CHAIN, "num_workers": 2, "seed": 9, "targets": "list"}
    return fl.Loader(path, **{**defaults, **options})


def crop_of(loader, ids):
    """Top, left, height, width and flip of samples in epoch 0: what the pixels were cut by."""
    sizes = loader.dataset.sizes(ids)
    draws = loader._augment.draw(seed=9, epoch=0, ids=ids, sizes=sizes)
    return draws.box.astype(int).tolist(), draws.flip.tolist(), sizes.tolist()


def test_boxes_masks_and_keypoints_are_torchvisions(marked):
    loader = load(marked, transforms=[*CHAIN, T.SanitizeBoundingBoxes(min_size=2.03)])
    seen = 0
    for batch in loader:
        images, targets = batch
        assert images is batch.images
        assert targets is batch.targets
        boxes, flips, sizes = crop_of(loader, batch.ids.numpy())
        for sample, target, box, flip, size in zip(batch.ids.tolist(), targets, boxes, flips, sizes, strict=True):
            fields = loader.dataset[sample].fields

            def moved(value, box=box, flip=flip):
                value = F.resize(F.crop(value, *box), [48, 48], interpolation="nearest-exact")
                return F.horizontal_flip(value) if flip else value

            xyxy = moved(tv_tensors.BoundingBoxes(torch.from_numpy(fields["boxes"]), format="XYXY", canvas_size=size))
            # Its resize may put an edge an ulp behind the image's, for which its sanitizing would drop the box.
            xyxy = F.clamp_bounding_boxes(xyxy)
            keep = F.sanitize_bounding_boxes(xyxy, min_size=2.03)[1]
            torch.testing.assert_close(target["boxes"], xyxy[keep].as_subclass(torch.Tensor), atol=1e-4, rtol=0)
            for name in ("labels", "area", "iscrowd"):
                assert target[name].tolist() == fields[name][keep.numpy()].tolist()
            assert (target["labels"].dtype, target["iscrowd"].dtype) == (torch.int64, torch.int64)
            assert target["image_id"] == fields["image_id"]
            mask = moved(tv_tensors.Mask(torch.from_numpy(fields["mask.png"])))
            numbers = torch.arange(1, len(keep) + 1)[keep]
            assert torch.equal(target["masks"], (mask == numbers[:, None, None]).to(torch.uint8))
            points = fields["keypoints"].reshape(-1, 3, 3)
            places = moved(tv_tensors.KeyPoints(torch.from_numpy(points[..., :2].copy()), canvas_size=size))
            places = places[keep].as_subclass(torch.Tensor)
            visible = target["keypoints"][..., 2] > 0
            labelled = torch.from_numpy(points[..., 2])[keep] > 0
            assert not (visible & ~(labelled & ((places >= 0) & (places < 48)).all(-1))).any()
            # torchvision's flip of keypoints brings what is a pixel outside on one side in on the other.
            assert (visible | ~(labelled & ((places >= 1) & (places < 47)).all(-1))).all()
            torch.testing.assert_close(target["keypoints"][visible][:, :2], places[visible], atol=1e-4, rtol=0)
            seen += len(target["boxes"])
    assert seen > 15


def test_boxes_lie_where_the_pixels_are(marked):
    """Against no rule but the picture: of a single bright rectangle the pixels end where its box ends."""
    looked_at = 0
    for batch in load(marked, transforms=[T.RandomResizedCrop(96, scale=(0.3, 1)), T.RandomHorizontalFlip()]):
        for image, target in zip(batch.images, batch.targets, strict=True):
            if len(target["boxes"]) != 1 or target["masks"].sum() < 100:
                continue
            rows, columns = (image.float().mean(0) > 127).nonzero(as_tuple=True)
            found = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
            assert (found - target["boxes"][0]).abs().max() <= 2.0  # edges are blurred by a pixel of the source
            looked_at += 1
    assert looked_at > 3


@pytest.mark.parametrize("form", ["XYXY", "XYWH", "CXCYWH"])
def test_a_padded_batch_holds_what_the_list_holds(marked, form):
    chain = [*CHAIN, T.ConvertBoundingBoxFormat(form)]
    options = {"transforms": chain, "last_batch": "keep"}
    for listed, padded in zip(load(marked, **options), load(marked, targets="padded", **options), strict=True):
        targets = padded.targets
        counts = [len(target["boxes"]) for target in listed.targets]
        assert targets["count"].tolist() == counts
        assert targets["image_id"].tolist() == [target["image_id"] for target in listed.targets]
        for name in ("boxes", "labels", "area", "iscrowd", "keypoints", "masks"):
            assert targets[name].shape[:2] == (len(counts), max(counts))
            for row, (target, count) in enumerate(zip(listed.targets, counts, strict=True)):
                assert torch.equal(targets[name][row, :count], target[name])
                assert (targets[name][row, count:] == (-1 if name == "labels" else 0)).all()
        assert torch.equal(listed.images, padded.images)


def equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        for name, value in first.items()
    )


def test_threads_a_restart_and_ranks_change_nothing(marked):
    whole = load(marked, num_workers=1, batch_size=4)
    reference = []
    for batch in whole:
        reference.append(batch.targets)
        if len(reference) == 2:
            state = json.loads(json.dumps(whole.state_dict()))
    again = [batch.targets for batch in load(marked, num_workers=4, prefetch=3, batch_size=4)]
    resumed = load(marked, batch_size=4)
    resumed.load_state_dict(state)
    halves = [[batch.targets for batch in load(marked, batch_size=2, rank=rank, world_size=2)] for rank in (0, 1)]
    split = [first + second for first, second in zip(*halves, strict=True)]
    for ours, theirs in ((again, reference), ([b.targets for b in resumed], reference[2:]), (split, reference)):
        for batch, expected in zip(ours, theirs, strict=True):
            assert all(equal(*pair) for pair in zip(batch, expected, strict=True))


def damaged(marked, folder):
    """A copy whose first sample has a broken .json member."""
    import shutil

    shutil.copytree(marked, folder)
    shard = next(folder.glob("*.tar"))
    data = bytearray(shard.read_bytes())
    place = data.index(b'"boxes"')
    data[place : place + 4] = b"!!!!"
    shard.write_bytes(data)
    return folder


def test_targets_that_cannot_be_read_are_accounted_for_as_images_are(marked, tmp_path):
    folder = damaged(marked, tmp_path / "damaged")
    with pytest.raises(DataError, match="crc32"):
        list(load(folder))
    loader = load(folder, on_error="skip")
    batches = list(loader)
    account = loader.stats().epoch
    assert (account.expected, account.read, account.num_skipped) == (COUNT, COUNT - 1, 1)
    (entry,) = account.skipped
    assert entry.sample_id not in {number for batch in batches for number in batch.ids.tolist()}
    batch = batches[entry.batch]
    rows = (batch.ids == entry.replacement_id).nonzero().flatten().tolist()
    for row in rows:  # the substitute's own targets
        assert batch.targets[row]["image_id"] == loader.dataset[entry.replacement_id].fields["image_id"]


def test_masks_of_classes_come_as_one_tensor(coco128, tmp_path):
    fl.convert(coco128, tmp_path / "shards")
    loader = load(tmp_path / "shards", targets=fl.Targets(form="padded", mask_fill=255), transforms=[T.CenterCrop(500)])
    batch = next(iter(loader))
    masks = batch.targets["seg"]
    assert (masks.shape, masks.dtype) == ((5, 500, 500), torch.uint8)
    for number, mask in zip(batch.ids.tolist(), masks, strict=True):
        stored = torch.from_numpy(loader.dataset[number].fields["seg.png"])
        expected = F.center_crop(tv_tensors.Mask(stored.int() - 255), [500, 500]) + 255  # torchvision pads with 0
        assert torch.equal(mask.int(), expected.int())
    listed = next(iter(load(tmp_path / "shards", targets=fl.Targets(mask_fill=255), transforms=[T.CenterCrop(500)])))
    assert all(torch.equal(target["seg"], mask) for target, mask in zip(listed.targets, masks, strict=True))


@pytest.mark.parametrize("form", ["list", "padded"])
def test_each_view_has_its_own_targets(marked, form):
    """They are those of a Loader of that view alone, drawn as in the company of the others."""
    views = [
        [T.RandomResizedCrop(40), T.RandomHorizontalFlip()],
        [T.RandomIoUCrop(sampler_options=[0.3]), T.Resize((30, 50)), T.SanitizeBoundingBoxes()],
        [T.ElasticTransform(40.0), T.RandomIoUCrop(), T.CenterCrop(60), T.ConvertBoundingBoxFormat("CXCYWH")],
    ]
    alone, drawn = [], 0
    for view in views:
        loader = load(marked, transforms=view, targets=form)
        loader._augment = dataclasses.replace(loader._augment, first=drawn)
        drawn += loader._augment.num_random
        alone.append(loader)
    together = load(marked, transforms=[T.MultiView(views)], targets=form)
    objects = set()
    for batch, *expected in zip(together, *alone, strict=True):
        images, targets = batch
        assert len(images) == len(targets) == 3
        for view, target, other in zip(images, targets, expected, strict=True):
            assert torch.equal(view, other.images)
            torch.testing.assert_close(target, other.targets, rtol=0, atol=0)
        if form == "list":
            objects |= {tuple(len(view[row]["boxes"]) for view in targets) for row in range(len(batch))}
    # SanitizeBoundingBoxes speaks of its view alone.
    assert form == "padded" or any(first > second for first, second, _ in objects)


def test_threads_end_with_the_iteration(marked):
    before = set(threading.enumerate())
    loader = load(marked)
    iterator = iter(loader)
    next(iterator)
    iterator.close()
    # The collector may be ending the loader of a test before this one.
    assert eventually(lambda: set(threading.enumerate()) <= before)
    list(loader)
    loader.close()
    assert eventually(lambda: set(threading.enumerate()) <= before)


def test_left_and_right_change_places_where_an_image_is_mirrored(marked):
    chain = [T.CenterCrop(120), T.RandomHorizontalFlip(p=1)]
    plain = load(marked, transforms=chain, shuffle=False)
    swapped = load(marked, transforms=chain, shuffle=False, targets=fl.Targets(keypoint_pairs=[(0, 1)]))
    for ours, theirs in zip(plain, swapped, strict=True):
        for target, other in zip(ours.targets, theirs.targets, strict=True):
            assert torch.equal(target["keypoints"][:, [1, 0, 2]], other["keypoints"])


def test_a_batch_moves_with_its_targets(marked):
    batch = next(iter(load(marked)))
    moved = batch.to("meta")
    assert all(target["boxes"].device.type == "meta" for target in moved.targets)
    assert all(isinstance(target["image_id"], int) for target in moved.targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "dict"}, "'list', 'padded'"),
        ({"targets": None, "transforms": [*CHAIN, T.SanitizeBoundingBoxes()]}, "targets='list'"),
        ({"transforms": [*CHAIN, T.CutMix()]}, "MixUp and CutMix"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(marked, options, message):
    with pytest.raises(ConfigError, match=message):
        load(marked, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keypoint_pairs": [(1, 1)]}, "keypoint_pairs"),
        ({"keypoint_pairs": [(1, 2, 3)]}, "keypoint_pairs"),
        ({"keypoint_pairs": [(-1, 2)]}, "keypoint_pairs"),
        ({"mask_fill": -1}, "mask_fill"),
        ({"mask_sampling": "bilinear"}, "mask_sampling"),
    ],
)
def test_wrong_wishes_about_targets(options, message):
    with pytest.raises(ConfigError, match=message):
        fl.Targets(**options)


def test_a_data_set_without_targets_says_so(photos, marked):
    with pytest.raises(ConfigError, match="no boxes, keypoints or masks"):
        load(photos)
    with pytest.raises(ConfigError, match="keypoint 7"):
        list(load(marked, targets=fl.Targets(keypoint_pairs=[(0, 7)])))
