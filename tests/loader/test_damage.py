"""Damaged samples: raised with their names in the user's next(), or replaced, counted and listed; never lost."""

import io
import shutil
import threading

import pytest
import torch
from PIL import Image

import fastload as fl
from fastload.dataset import ImageFolderDataset
from fastload.errors import ConfigError, DataError
from tests.engine.helpers import eventually


def truncate(file):
    file.write_bytes(file.read_bytes()[:300])


def empty(file):
    file.write_bytes(b"")


def remove(file):
    file.unlink()


def scribble(file):
    file.write_bytes(b"this is no image at all, whatever its name says" * 20)


def bomb(file):
    """A header of 65,500 x 65,500 pixels, 12 GB if anybody believed it."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (65500).to_bytes(2, "big") * 2
    file.write_bytes(data)


DAMAGE = [truncate, empty, remove, scribble, bomb]


def make(folder, train, **options):
    return fl.Loader(folder, **{"batch_size": 5, "transforms": train, "num_workers": 2, "seed": 4, **options})


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_raise_names_file_key_and_reason_and_frees_the_threads(own_photos, train, damage):
    before = set(threading.enumerate())
    loader = make(own_photos, train)
    victim = own_photos / "bread" / "photo-005.jpg"
    damage(victim)
    delivered: list[int] = []
    with pytest.raises(DataError) as caught:
        delivered.extend(len(batch) for batch in loader)
    error = caught.value
    assert error.key == "bread/photo-005.jpg"
    assert error.path == str(victim)
    assert error.reason
    assert "bread/photo-005.jpg" in str(error)
    # The collector may be ending the loader of a test before this one.
    assert eventually(lambda: set(threading.enumerate()) <= before)
    ledger = loader.stats().epoch
    assert (ledger.expected, ledger.read, ledger.complete) == (sum(delivered), sum(delivered), False)


def test_the_batches_before_the_damage_arrive_first(own_photos, train):
    order = [batch.ids.tolist() for batch in make(own_photos, train)]
    victim = order[2][0]
    truncate(own_photos / make(own_photos, train).dataset.key(victim))
    for prefetch in (1, 2, 10):
        iterator = iter(make(own_photos, train, prefetch=prefetch))
        assert [next(iterator).ids.tolist() for _ in range(2)] == order[:2]
        with pytest.raises(DataError):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_skip_replaces_counts_and_lists(own_photos, train, damage):
    healthy = {
        number: image
        for batch in make(own_photos, train)
        for number, image in zip(batch.ids.tolist(), batch.images, strict=True)
    }
    loader = make(own_photos, train, on_error="skip")
    victims = {5: own_photos / "bread" / "photo-001.jpg", 12: own_photos / "cheese" / "photo-010.jpg"}
    victims = {
        number: file
        for number in range(20)
        for file in victims.values()
        if loader.dataset.location(number) == str(file)
    }
    for file in victims.values():
        damage(file)
    batches = list(loader)
    ledger = loader.stats().epoch
    assert (ledger.expected, ledger.read, ledger.num_skipped) == (20, 18, 2)
    assert {entry.sample_id for entry in ledger.skipped} == set(victims)
    for entry in ledger.skipped:
        assert entry.path == str(victims[entry.sample_id])
        assert entry.key == loader.dataset.key(entry.sample_id)
        assert entry.reason
        assert entry.replacement_key == loader.dataset.key(entry.replacement_id)
        assert entry.replacement_id not in victims
        assert entry.replacement_id in batches[entry.batch].ids.tolist()
    for batch in batches:
        for number, label, image in zip(batch.ids.tolist(), batch.labels.tolist(), batch.images, strict=True):
            assert label == loader.dataset.labels(batch.ids.numpy())[batch.ids.tolist().index(number)]
            assert torch.equal(image, healthy[number]), "a replacement has its own pixels, the others are untouched"
    assert loader.stats().to_dict()["epoch"]["num_skipped"] == 2


def test_replacements_do_not_depend_on_ranks_or_threads(own_photos, train):
    for number in (0, 3, 7):
        truncate(sorted(own_photos.rglob("*.jpg"))[number])

    def epoch(world, **options):
        options = {"on_error": "skip", "batch_size": 4 // world, "world_size": world, **options}
        ranks = [list(make(own_photos, train, rank=rank, **options)) for rank in range(world)]
        return [[number for batch in parts for number in batch.ids.tolist()] for parts in zip(*ranks, strict=True)]

    reference = epoch(1)
    assert len({number for batch in reference for number in batch}) < 20
    assert epoch(2) == epoch(4) == epoch(1, num_workers=1) == epoch(1, num_workers=5) == reference


def test_where_everything_is_damaged_skip_gives_up_with_one_clear_error(own_photos, train):
    for file in own_photos.rglob("*.jpg"):
        scribble(file)
    with pytest.raises(DataError, match="8 other samples that were tried in its place cannot be read either"):
        next(iter(make(own_photos, train, on_error="skip")))


def test_a_single_damaged_sample_is_all_there_is(own_photos, train):
    for folder in ("bread", "cheese", "dates"):
        shutil.rmtree(own_photos / folder)
    for file in sorted(own_photos.rglob("*.jpg"))[1:]:
        file.unlink()
    loader = make(own_photos, train, on_error="skip")
    truncate(next(own_photos.rglob("*.jpg")))
    with pytest.raises(DataError, match="cannot be read either"):
        next(iter(loader))


def test_padding_is_replaced_but_not_accounted_for(own_photos, evaluate):
    """20 samples in batches of 8: the last one is padded with the 4 samples that the epoch began with."""
    options = {"batch_size": 8, "shuffle": False, "last_batch": "pad", "on_error": "skip"}
    victim = sorted(own_photos.rglob("*.jpg"))[0]
    loader = make(own_photos, evaluate, **options)
    scribble(victim)
    batches = list(loader)
    ledger = loader.stats().epoch
    assert (ledger.expected, ledger.read, ledger.num_skipped) == (20, 19, 1)
    assert 0 not in batches[2].ids.tolist()
    assert batches[2].valid.tolist() == [True] * 4 + [False] * 4


def test_skip_goes_on_where_raise_ended(own_photos, train):
    """The state of a run that ended at a damaged sample serves a run that skips it."""
    order = [batch.ids.tolist() for batch in make(own_photos, train)]
    loader = make(own_photos, train)
    truncate(own_photos / loader.dataset.key(order[2][1]))
    # The file's size is part of a folder's fingerprint: the run began after the damage was done.
    loader = make(own_photos, train)
    with pytest.raises(DataError):
        list(loader)
    other = make(own_photos, train, on_error="skip")
    other.load_state_dict(loader.state_dict())
    assert len(list(other)) == 2
    assert other.stats().epoch.num_skipped == 1


class Broken(ImageFolderDataset):
    """A data set with a programming error in one of its methods."""

    method = "read_into"

    def read_into(self, sample_id, buffer):
        if self.method == "read_into" and sample_id == 7:
            raise ZeroDivisionError("a bug in read_into")
        return super().read_into(sample_id, buffer)

    def sizes(self, ids):
        if self.method == "sizes" and 7 in ids:
            raise ZeroDivisionError("a bug in sizes")
        return super().sizes(ids)

    def labels(self, ids):
        if self.method == "labels" and 7 in ids:
            raise ZeroDivisionError("a bug in labels")
        return super().labels(ids)


@pytest.mark.parametrize("method", ["read_into", "sizes", "labels"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_bug_in_any_thread_reaches_next_and_is_not_skipped(own_photos, train, method, on_error):
    before = set(threading.enumerate())
    dataset = Broken(own_photos)
    dataset.method = method
    loader = make(dataset, train, on_error=on_error)
    with pytest.raises(ZeroDivisionError, match=f"a bug in {method}"):
        list(loader)
    assert eventually(lambda: set(threading.enumerate()) <= before)
    dataset.method = "none"
    assert len(list(loader)) == 4, "the loader serves again once the cause is gone"


def test_an_unknown_action_is_refused(own_photos, train):
    with pytest.raises(ConfigError):
        make(own_photos, train, on_error="warn")
