"""What a training loop sees: batches, epochs, lengths, ids and labels."""

import itertools

import numpy as np
import pytest
import torch

import fastload as fl
from fastload import transforms as T
from fastload.errors import ConfigError, DataError, FastloadError


def ids_of(batches) -> list[int]:
    return [number for batch in batches for number in batch.ids.tolist()]


def test_a_batch_is_what_a_loop_expects(photos, train):
    loader = fl.Loader(photos, batch_size=8, transforms=train, num_workers=2)
    images, labels = next(iter(loader))
    assert images.shape == (8, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64
    batch = next(iter(loader))
    assert len(batch) == 8
    assert batch.valid.all()
    assert batch.ids.dtype == torch.int64
    assert torch.equal(batch.labels, torch.from_numpy(loader.dataset.labels(batch.ids.numpy())))
    assert loader.classes == ("apple", "bread", "cheese", "dates")


@pytest.mark.parametrize(
    ("last_batch", "sizes", "invalid"),
    [("keep", [16, 16, 16, 2], 0), ("drop", [16, 16, 16], 0), ("pad", [16, 16, 16, 16], 14)],
)
def test_the_last_batch_is_kept_dropped_or_padded(photos, train, last_batch, sizes, invalid):
    loader = fl.Loader(photos, batch_size=16, transforms=train, last_batch=last_batch, num_workers=2)
    batches = list(loader)
    assert [len(batch) for batch in batches] == sizes
    assert len(loader) == len(sizes)
    assert sum(int((~batch.valid).sum()) for batch in batches) == invalid
    genuine = [number for batch in batches for number in batch.ids[batch.valid].tolist()]
    assert len(genuine) == len(set(genuine)) == (48 if last_batch == "drop" else 50)
    ledger = loader.stats().epoch
    assert (ledger.expected, ledger.read, ledger.num_skipped, ledger.complete) == (len(genuine), len(genuine), 0, True)


def test_a_data_set_smaller_than_a_batch(photos, train):
    batches = list(fl.Loader(photos, batch_size=64, transforms=train, num_workers=2))
    assert [len(batch) for batch in batches] == [50]


def test_epochs_count_by_themselves_as_those_of_a_dataloader(photos, train):
    loader = fl.Loader(photos, batch_size=16, transforms=train, seed=1, num_workers=2)
    epochs = [ids_of(loader) for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    for number, expected in enumerate(epochs):
        loader.set_epoch(number)
        assert loader.epoch == number
        assert ids_of(loader) == expected
    loader.set_epoch(1)
    ids_of(loader)
    assert ids_of(loader) == epochs[2]


def test_an_epoch_that_was_not_read_to_its_end_is_over_too(photos, train):
    """Or a loop over the first n batches of each epoch would see the same samples in every epoch."""
    loader = fl.Loader(photos, batch_size=16, transforms=train, num_workers=2)
    first, second = (ids_of(itertools.islice(loader, 2)) for _ in range(2))
    assert first != second
    loader.set_epoch(1)
    assert ids_of(itertools.islice(loader, 2)) == second


def test_without_shuffle_samples_come_as_stored(photos, evaluate):
    loader = fl.Loader(photos, batch_size=16, transforms=evaluate, shuffle=False, num_workers=2)
    assert ids_of(loader) == ids_of(loader) == list(range(50))


def test_local_shuffle_reads_every_sample_once(photos, evaluate):
    loader = fl.Loader(photos, batch_size=16, transforms=evaluate, shuffle="local", num_workers=2)
    assert sorted(ids_of(loader)) == list(range(50))


def test_pixels_and_ids_do_not_depend_on_threads_or_prefetch(photos, train):
    def epoch(**options):
        with fl.Loader(photos, batch_size=12, transforms=train, seed=9, **options) as loader:
            return [(batch.ids.tolist(), batch.images.clone()) for batch in loader]

    reference = epoch(num_workers=1)
    for options in ({"num_workers": 2}, {"num_workers": 5}, {"num_workers": 2, "prefetch": 7}):
        for (ids, images), (other_ids, other_images) in zip(reference, epoch(**options), strict=True):
            assert ids == other_ids
            assert torch.equal(images, other_images)


def test_two_epochs_crop_the_same_sample_differently(photos, train):
    loader = fl.Loader(photos, batch_size=50, transforms=train, shuffle=False, num_workers=2)
    (first,), (second,) = list(loader), list(loader)
    same = (first.images == second.images).flatten(1).all(1)
    assert same.sum() <= 2


def test_contiguous_format_holds_the_same_pixels(photos, train):
    for dtype, layouts in (
        (torch.uint8, ("channels_last", "contiguous")),
        (torch.bfloat16, (torch.channels_last, torch.contiguous_format)),
    ):
        chain = [*train, T.ToDtype(dtype, scale=dtype is not torch.uint8)]
        pair = [
            list(fl.Loader(photos, batch_size=16, transforms=chain, num_workers=2, memory_format=layout))
            for layout in layouts
        ]
        for one, other in zip(*pair, strict=True):
            assert one.images.is_contiguous(memory_format=torch.channels_last)
            assert other.images.is_contiguous()
            assert torch.equal(one.images, other.images)


def test_batches_that_the_user_keeps_stay_as_they_were(photos, train):
    for layout in ("channels_last", "contiguous"):
        loader = fl.Loader(photos, batch_size=4, transforms=train, num_workers=2, memory_format=layout)
        kept = [(batch.images, batch.images.clone()) for batch in loader]
        list(loader)
        assert all(torch.equal(images, copy) for images, copy in kept)


def test_reuse_buffers_takes_memory_back_and_delivers_the_same(photos, train):
    options = {"batch_size": 4, "transforms": train, "num_workers": 2}
    for layout in ("channels_last", "contiguous"):
        loader = fl.Loader(photos, **options, memory_format=layout, reuse_buffers=True)
        kept, addresses = [], set()
        for batch in loader:
            kept.append(batch.images.clone())
            addresses.add(batch.images.data_ptr())
        assert len(addresses) <= 3, "two that the engine works on, and the one in use"
        expected = list(fl.Loader(photos, **options, memory_format=layout))
        assert all(torch.equal(one, other.images) for one, other in zip(kept, expected, strict=True))


def test_other_transforms_take_effect_with_the_next_epoch(photos):
    loader = fl.Loader(photos, batch_size=16, transforms=[T.RandomResizedCrop(16)], num_workers=2)
    sides = []
    for batch in loader:
        sides.append(batch.images.shape[-1])
        loader.set_transforms([T.RandomResizedCrop(24)])
    assert sides == [16, 16, 16, 16]
    second = [(batch.ids.tolist(), batch.images) for batch in loader]
    assert [images.shape[-1] for _, images in second] == [24, 24, 24, 24]
    direct = fl.Loader(photos, batch_size=16, transforms=[T.RandomResizedCrop(24)], num_workers=2)
    direct.set_epoch(1)
    for (ids, images), batch in zip(second, direct, strict=True):
        assert ids == batch.ids.tolist()
        assert torch.equal(images, batch.images)


def test_one_iterator_lives_at_a_time(photos, train):
    loader = fl.Loader(photos, batch_size=16, transforms=train, num_workers=2)
    first = iter(loader)
    next(first)
    second = iter(loader)
    with pytest.raises(FastloadError, match="another one was begun on the same Loader"):
        next(first)
    assert len(list(second)) == 4
    with pytest.raises(StopIteration):
        next(second)


def test_the_iterator_says_how_many_batches_are_left(photos, train):
    iterator = iter(fl.Loader(photos, batch_size=16, transforms=train, num_workers=2))
    assert len(iterator) == 4
    next(iterator)
    assert len(iterator) == 3


def test_a_closed_loader_says_so_and_batches_live_on(photos, train):
    with fl.Loader(photos, batch_size=16, transforms=train, num_workers=2) as loader:
        iterator = iter(loader)
        batch = next(iterator)
        copy = batch.images.clone()
    assert torch.equal(batch.images, copy)
    with pytest.raises(FastloadError, match="closed"):
        next(iterator)
    with pytest.raises(FastloadError, match="closed: make another one"):
        iter(loader)
    loader.close()


def test_a_data_set_that_the_user_opened_stays_open(photos, train):
    dataset = fl.open_dataset(photos)
    with fl.Loader(dataset, batch_size=16, transforms=train, num_workers=2) as loader:
        assert loader.dataset is dataset
        next(iter(loader))
    assert dataset[0].label == 0
    assert len(list(fl.Loader(dataset, batch_size=16, transforms=train, num_workers=2))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number, not 2.0"),
        ({"batch_size": True}, "batch_size must be a whole number, not True"),
        ({"shuffle": "lokal"}, "shuffle must be one of True, 'local', False, not 'lokal'"),
        ({"shuffle": 1}, "shuffle must be one of"),
        ({"last_batch": "wrap"}, "last_batch must be one of 'keep', 'drop', 'pad', not 'wrap'"),
        ({"engine": "gpu"}, "engine must be one of 'auto', 'cpu', 'dali', 'hybrid', not 'gpu'"),
        ({"device": "tpu"}, "device must be None, 'cpu', 'cuda' or 'cuda:N', not 'tpu'"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"seed": 2**64}, "between 0 and 2\\*\\*64 - 1"),
        ({"num_workers": 0}, "num_workers must be at least 1, not 0"),
        ({"on_error": "ignore"}, "on_error must be one of 'raise', 'skip', not 'ignore'"),
        ({"rank": 1}, "rank was given without world_size"),
        ({"world_size": 2}, "world_size was given without rank"),
        ({"rank": 2, "world_size": 2}, "rank must be below world_size \\(2\\), not 2"),
        ({"prefetch": 0}, "prefetch must be at least 1, not 0"),
        ({"memory_format": "nhwc"}, "memory_format must be one of 'channels_last', 'contiguous', not 'nhwc'"),
        ({"memory_format": torch.preserve_format}, "memory_format must be one of 'channels_last', 'contiguous'"),
        ({"verify": "sometimes"}, "verify must be one of 'first', 'always', 'never', not 'sometimes'"),
        ({"reuse_buffers": "yes"}, "reuse_buffers must be one of True, False, not 'yes'"),
        ({"transforms": []}, "images of a batch must have one size"),
        ({"transforms": ["RandomResizedCrop"]}, "transforms must be declarations"),
        ({"batch_size": 51, "last_batch": "drop"}, "do not fill one batch"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(photos, train, options, message):
    with pytest.raises(ConfigError, match=message):
        fl.Loader(photos, **{"batch_size": 4, "transforms": train, **options})


def test_verify_belongs_to_whoever_opens_the_data_set(photos, train):
    with pytest.raises(ConfigError, match="pass it to open_dataset"):
        fl.Loader(fl.open_dataset(photos), batch_size=4, transforms=train, verify="always")


def test_numpy_numbers_are_numbers(photos, train):
    loader = fl.Loader(photos, batch_size=np.int64(8), transforms=train, seed=np.int32(3), num_workers=2)
    loader.set_epoch(np.int64(2))
    assert loader.state_dict()["epoch"] == 2
    for wrong in (-1, 1.5, "1"):
        with pytest.raises(ConfigError, match="epoch must be"):
            loader.set_epoch(wrong)


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path, train):
    with pytest.raises(DataError, match="there is nothing at this path"):
        fl.Loader(tmp_path / "nowhere", batch_size=4, transforms=train)


def test_rank_and_world_size_come_from_torchrun(photos, train, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "10000")
    loader = fl.Loader(photos, batch_size=8, transforms=train)
    assert (loader.rank, loader.world_size, loader.num_workers, len(loader)) == (1, 2, 1, 4)
    assert fl.Loader(photos, batch_size=8, transforms=train, rank=0, world_size=1).world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigError, match="WORLD_SIZE must be a whole number, not 'two'"):
        fl.Loader(photos, batch_size=8, transforms=train)


def test_where_the_time_went_is_told(photos, train):
    loader = fl.Loader(photos, batch_size=16, transforms=train, num_workers=2)
    assert loader.stats().epoch is None
    list(loader)
    stats = loader.stats()
    assert {"read", "decode", "resize"} <= set(stats.spans)
    assert stats.spans["decode"].items == 50
    assert stats.spans["wait"].items == 4
    assert stats.counts["bytes.read"] == sum(file.stat().st_size for file in photos.rglob("*.jpg"))
