"""Engines behind a Loader: the same order, crops, account and position with each, and how one is chosen."""

import time

import numpy as np
import pytest
import torch

import fastload as fl
from fastload import transforms as T
from fastload.engine.dali import samples
from fastload.errors import ConfigError
from fastload.loader import choose as choosing
from fastload.loader.choose import Choice, choose, decide

ENGINES = ["cpu", "dali", "hybrid"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def quick(monkeypatch):
    """Measures engines for as short as it goes."""
    monkeypatch.setattr(choosing, "_BATCHES", 2)


def read(loader, epoch=0):
    loader.set_epoch(epoch)
    return [(batch.ids.clone(), batch.labels.clone(), batch.images.clone()) for batch in loader]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ["dali", "hybrid"])
def test_equal_seeds_give_equal_samples_and_crops_on_every_engine(photos, train, engine, device, quick):
    options = {"batch_size": 8, "transforms": train, "num_workers": 2, "seed": 5}
    with fl.Loader(photos, engine="cpu", **options) as loader:
        expected = read(loader, 3)
    with fl.Loader(photos, engine=engine, device=device, **options) as loader:
        found = read(loader, 3)
        assert loader.stats().epoch.read == 50
    for (ids, labels, images), (other_ids, other_labels, others) in zip(expected, found, strict=True):
        assert torch.equal(ids, other_ids)
        assert other_labels.device.type == others.device.type == device
        assert torch.equal(labels, other_labels.cpu())
        difference = (images.float() - others.cpu().float()).abs()
        assert others.is_contiguous(memory_format=torch.channels_last)
        # nvJPEG rounds and upsamples colour in its own way; libjpeg-turbo, which DALI has on the CPU, as we do.
        assert difference.mean() <= (0.6 if device == "cpu" else 3)
        assert device == "cuda" or difference[:, :, 1:-1, 1:-1].max() <= 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ["dali", "hybrid"])
def test_a_run_goes_on_where_a_state_was_taken(photos, train, engine, device, quick):
    options = {"batch_size": 8, "transforms": train, "num_workers": 2, "engine": engine, "device": device}
    with fl.Loader(photos, **options) as loader:
        iterator = iter(loader)
        for _ in range(3):
            next(iterator)
        state = loader.state_dict()
        rest = [batch.ids.tolist() for batch in iterator]
    with fl.Loader(photos, **(options | {"engine": "cpu"})) as loader:
        loader.load_state_dict(state)
        assert [batch.ids.tolist() for batch in loader] == rest


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ["dali", "hybrid"])
def test_damaged_samples_are_replaced_and_listed_alike(own_photos, train, engine, device, quick):
    damaged = sorted(own_photos.rglob("*.jpg"))[::9]
    for path in damaged:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    accounts = []
    for name in ("cpu", engine):
        options = {"batch_size": 8, "transforms": train, "num_workers": 2, "on_error": "skip", "engine": name}
        with fl.Loader(own_photos, device=device, **options) as loader:
            ids = [ids.tolist() for ids, _, _ in read(loader)]
            epoch = loader.stats().epoch
        accounts.append((ids, epoch.read, [(one.key, one.replacement_key, one.batch) for one in epoch.skipped]))
    assert accounts[0] == accounts[1]
    assert len(accounts[0][2]) == len(damaged)


def test_hybrid_uses_both_engines_and_says_so(photos, train, quick):
    with fl.Loader(photos, batch_size=4, transforms=train, num_workers=2, engine="hybrid") as loader:
        read(loader)
        counts, said = loader.stats().counts, loader.stats().engine
    if "+" in said:  # each at least 5% of the work
        assert counts["decoder.dali"] > 0
        assert counts["decoder.fastload"] > 0
    assert "images/s" in said


def test_memory_format_reaches_dali(photos):
    train = [T.RandomResizedCrop(20), T.ToDtype(torch.float16, scale=True), T.Normalize([0.5] * 3, [0.25] * 3)]
    found = []
    for memory_format in ("channels_last", "contiguous"):
        options = {"batch_size": 8, "transforms": train, "num_workers": 1, "engine": "dali"}
        with fl.Loader(photos, memory_format=memory_format, **options) as loader:
            found.append(read(loader))
    for (_, _, images), (_, _, planar) in zip(*found, strict=True):
        assert planar.is_contiguous()
        assert torch.equal(images, planar)


def test_auto_needs_no_measurement_where_batches_stay_in_ordinary_memory(photos, train):
    with fl.Loader(photos, batch_size=8, transforms=train, num_workers=2) as loader:
        assert loader.stats().engine == "auto"
        read(loader)
        assert loader.stats().engine == "cpu (batches stay in ordinary memory)"


def test_the_measurement_finds_the_faster_engine_and_gives_every_slot_back(photos, train, monkeypatch):
    """One of two CPU engines is held up; nothing of it remains in the epoch."""
    built = []

    def build(shares):
        machinery = real(shares={"cpu": 1.0})
        built.append((next(iter(shares)), machinery))
        if "dali" in shares:
            submit = machinery.lanes[0].engine.submit

            def slowly(plan, images):
                return submit(lambda: (time.sleep(0.5), plan())[1], images)

            machinery.lanes[0].engine.submit = slowly
        return machinery

    with fl.Loader(photos, batch_size=8, transforms=train, num_workers=2) as loader:
        plan, real = epoch_plan_and_builder(loader, monkeypatch)
        choice = choose("auto", torch.device("cuda", 0), build, plan)
    assert list(choice.shares) == ["cpu"]
    assert [name for name, _ in built] == ["cpu", "dali", "cpu", "dali"]
    assert all(machinery.closed for _, machinery in built)
    assert all(machinery.num_added == 0 for _, machinery in built)


def epoch_plan_and_builder(loader, monkeypatch):
    """What a Loader would begin an epoch with."""
    seen = {}

    def choose_nothing(wanted, device, build, plan):
        seen["plan"] = plan
        seen["build"] = build
        return Choice(shares={"cpu": 1.0}, reason="")

    monkeypatch.setattr("fastload.loader.loader.choose", choose_nothing)
    iter(loader).close()
    return seen["plan"], lambda shares: seen["build"](shares)


@pytest.mark.parametrize(
    ("alone", "together", "name"),
    [
        ({"cpu": 900.0, "dali": 400.0}, {"cpu": 600.0, "dali": 200.0}, "cpu"),
        ({"cpu": 400.0, "dali": 900.0}, {"cpu": 100.0, "dali": 800.0}, "dali"),
        ({"cpu": 900.0, "dali": 800.0}, {"cpu": 900.0, "dali": 300.0}, "cpu 75% + dali 25%"),
        ({"cpu": 900.0, "dali": 10.0}, {"cpu": 1000.0, "dali": 10.0}, "cpu"),
    ],
)
def test_what_measured_rates_lead_to(alone, together, name):
    choice = decide(alone, together)
    assert choice.name == name
    assert sum(choice.shares.values()) == pytest.approx(1.0)
    assert "cpu" in choice.reason
    assert "images/s" in choice.reason


def test_batches_are_spread_evenly_over_lanes(photos, train, monkeypatch, quick):
    with fl.Loader(photos, batch_size=8, transforms=train, num_workers=1) as loader:
        _, real = epoch_plan_and_builder(loader, monkeypatch)
        machinery = real(shares={"cpu": 0.7, "dali": 0.3})
        taken = np.array([machinery.lane(batch) is machinery.lanes[0] for batch in range(1000)])
        machinery.close()
    assert abs(taken.mean() - 0.7) < 0.002
    assert np.abs(np.cumsum(taken) - 0.7 * np.arange(1, 1001)).max() < 1.0


def test_an_unknown_engine_is_one_clear_error(photos, train):
    with pytest.raises(ConfigError, match="engine must be one of 'auto', 'cpu', 'dali', 'hybrid', not 'gpu'"):
        fl.Loader(photos, batch_size=8, transforms=train, engine="gpu")


def test_dali_decodes_for_proof_only_what_nobody_proved(photos, train, tmp_path, monkeypatch):
    fl.convert(photos, tmp_path / "shards")
    proofs = []
    prove = samples._is_sound
    monkeypatch.setattr(samples, "_is_sound", lambda data: proofs.append(len(data)) or prove(data))
    for source, verify, expected in (
        (photos, "first", 50),
        (tmp_path / "shards", "first", 0),
        (tmp_path / "shards", "never", 50),
    ):
        proofs.clear()
        with fl.Loader(source, batch_size=8, transforms=train, num_workers=2, engine="dali", verify=verify) as loader:
            for epoch in range(2):
                read(loader, epoch)
        assert len(proofs) == expected, (source, verify)


FLOATS = [T.ToDtype(torch.float32, scale=True), T.Normalize([0.5] * 3, [0.25] * 3)]
CROP = [T.RandomCrop(24), T.RandomHorizontalFlip(), T.RandomVerticalFlip()]  # nothing is resampled
STRONG = [*CROP, T.ColorJitter(0.4, 0.4, 0.4, 0.1), T.RandAugment(), *FLOATS, T.RandomErasing(0.5, value="random")]
RESAMPLED = [T.RandomResizedCrop(24), T.RandomHorizontalFlip(), T.RandomVerticalFlip(), T.ColorJitter(0.1)]
# Chains, and how much of their values may be further than 1 level from the CPU engine's.
PLANS = {
    "strong": (STRONG, 0.0),
    "borders": ([T.RandomCrop(28, padding=5, fill=(7, 200, 99)), *CROP[1:]], 0.0),
    "before": ([T.RandomInvert(0.5), T.RandomEqualize(0.5), *CROP, T.RandomPosterize(4)], 0.0),
    "mixed": ([*STRONG, T.MixUp(), T.CutMix()], 0.0),
    "maps": ([T.RandomRotation(20, fill=9), T.RandomPerspective(), T.CenterCrop(24)], 1e-3),
    "views": ([T.MultiView([CROP, [*RESAMPLED[:3], T.RandomGrayscale()], [T.RandomInvert(), T.CenterCrop(16)]])], 0.05),
    "resampled": (RESAMPLED, 0.05),
}


def images_of(batch):
    return batch.images if isinstance(batch.images, tuple) else (batch.images,)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ["dali", "hybrid"])
@pytest.mark.parametrize("name", PLANS)
def test_every_plan_has_the_order_draws_and_images_of_the_cpu_engine(photos, name, engine, device, quick):
    chain, share = PLANS[name]
    options = {"batch_size": 8, "transforms": chain, "num_workers": 2, "seed": 5}
    with fl.Loader(photos, engine="cpu", **options) as loader:
        expected = [(batch.ids, batch.labels.clone(), [view.clone() for view in images_of(batch)]) for batch in loader]
    with fl.Loader(photos, engine=engine, device=device, **options) as loader:
        found = [(batch.ids, batch.labels.cpu(), [view.cpu() for view in images_of(batch)]) for batch in loader]
        assert loader.stats().epoch.read == 50
    step = 1 if expected[0][2][0].dtype == torch.uint8 else 1 / 255 / 0.25
    for (ids, labels, views), (other_ids, other_labels, others) in zip(expected, found, strict=True):
        assert torch.equal(ids, other_ids)
        assert torch.equal(labels, other_labels)
        for view, other in zip(views, others, strict=True):
            assert view.shape == other.shape
            assert view.dtype == other.dtype
            assert other.is_contiguous(memory_format=torch.channels_last)
            # nvJPEG rounds and upsamples colour in its own way, of which operations may make more.
            assert (view.float() - other.float()).abs().mean() <= 12 * step
            if device == "cpu":
                assert ((view.float() - other.float()).abs() > 1.01 * step).float().mean() <= share


@pytest.mark.parametrize("engine", ["dali", "hybrid"])
def test_an_augmented_run_goes_on_to_the_bit_where_a_state_was_taken(photos, engine, quick, monkeypatch):
    shares = {"cpu": 0.5, "dali": 0.5} if engine == "hybrid" else {"dali": 1.0}
    monkeypatch.setattr("fastload.loader.loader.choose", lambda *_: Choice(shares=shares, reason=""))
    options = {"batch_size": 8, "transforms": [T.RandomInvert(0.2), *STRONG], "engine": engine}
    with fl.Loader(photos, num_workers=1, **options) as loader:
        iterator = iter(loader)
        for _ in range(3):
            next(iterator)
        state = loader.state_dict()
        rest = [batch.images.clone() for batch in iterator]
    with fl.Loader(photos, num_workers=3, prefetch=3, **options) as loader:
        loader.load_state_dict(state)
        again = [batch.images.clone() for batch in loader]
    assert len(rest) == 4
    assert all(torch.equal(one, other) for one, other in zip(rest, again, strict=True))


@pytest.mark.parametrize("engine", ["dali", "hybrid"])
@pytest.mark.parametrize("name", ["strong", "before", "views"])
def test_damaged_samples_of_every_plan_are_replaced_and_listed_alike(own_photos, name, engine, quick):
    for path in (damaged := sorted(own_photos.rglob("*.jpg"))[::9]):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    accounts = []
    for which in ("cpu", engine):
        options = {"batch_size": 8, "transforms": PLANS[name][0], "num_workers": 2, "on_error": "skip"}
        with fl.Loader(own_photos, engine=which, **options) as loader:
            ids = [batch.ids.tolist() for batch in loader]
            epoch = loader.stats().epoch
        accounts.append((ids, epoch.read, [(one.key, one.replacement_key, one.batch) for one in epoch.skipped]))
    assert accounts[0] == accounts[1]
    assert len(accounts[0][2]) == len(damaged)


def test_boxes_through_a_strong_policy_are_the_same_and_images_nearly_so(coco128, tmp_path):
    fl.convert(coco128 / "annotations" / "instances.json", tmp_path / "shards", images=coco128 / "images")
    chain = [
        *(T.RandomPhotometricDistort(), T.RandomZoomOut((123, 117, 104)), T.RandomIoUCrop(), T.RandomHorizontalFlip()),
        *(T.RandomRotation(5, interpolation="bilinear"), T.Resize((160, 160)), T.SanitizeBoundingBoxes()),
    ]
    found = []
    for engine in ("cpu", "dali"):
        options = {"batch_size": 16, "transforms": chain, "num_workers": 2, "targets": "list", "engine": engine}
        with fl.Loader(tmp_path / "shards", **options) as loader:
            found.append([(batch.images.clone(), batch.targets) for batch in loader])
    differences = []
    for (images, targets), (others, other_targets) in zip(*found, strict=True):
        differences.append((images.float() - others.float()).abs().flatten())
        for target, other in zip(targets, other_targets, strict=True):
            assert target.keys() == other.keys()
            assert all(torch.equal(target[name], other[name]) for name in ("boxes", "labels"))
    difference = torch.cat(differences)
    assert difference.mean() < 0.1
    assert (difference > 2).float().mean() < 5e-3


def test_other_transforms_go_on_with_dali(photos):
    with fl.Loader(photos, batch_size=8, transforms=CROP, num_workers=2, engine="dali") as loader:
        for chain in (CROP, [*CROP, T.ColorJitter(0.4)], PLANS["views"][0], [T.RandomInvert(), *CROP], CROP):
            loader.set_transforms(chain)
            found = [[view.clone() for view in images_of(batch)] for batch in loader]
            epoch = loader.stats().epoch.epoch
            with fl.Loader(photos, batch_size=8, transforms=chain, num_workers=2, engine="cpu") as other:
                other.set_epoch(epoch)
                expected = [[view.clone() for view in images_of(batch)] for batch in other]
            assert all(torch.equal(a[0], b[0]) for a, b in zip(found, expected, strict=True))


def test_auto_takes_the_cpu_where_dali_cannot_make_the_output(photos, monkeypatch):
    chain = [T.RandomResizedCrop(32, interpolation="area")]
    with fl.Loader(photos, batch_size=8, transforms=chain, num_workers=2) as loader:
        plan, build = epoch_plan_and_builder(loader, monkeypatch)
        choice = choose("auto", torch.device("cuda", 0), build, plan)
        assert choice.name == "cpu"
        assert "no area interpolation" in choice.reason
        with pytest.raises(ConfigError, match="no area interpolation"):
            choose("hybrid", torch.device("cuda", 0), build, plan)


@pytest.mark.parametrize("name", ["strong", "views"])
def test_auto_measures_augmented_plans(photos, monkeypatch, name, quick):
    with fl.Loader(photos, batch_size=8, transforms=PLANS[name][0], num_workers=2) as loader:
        plan, build = epoch_plan_and_builder(loader, monkeypatch)
        choice = choose("auto", torch.device("cuda", 0), lambda shares: build(shares=shares), plan)
    assert "both at once" in choice.reason
